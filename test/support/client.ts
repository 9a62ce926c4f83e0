import { generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { type Create, makeGround } from "./ground.ts";

/** A small client of the API for end-to-end suites and the benchmark: JSON in and out, an error for what is not 2xx. */
export interface Client {
  readonly url: string;
  /** Empty: it shows none. */
  readonly key: string;
  call(method: string, path: string, body?: unknown): Promise<Json>;
  /** The same server, another key. */
  as(key: string): Client;
  /** The same key, the server somewhere else. */
  at(url: string): Client;
}

export type Json = Record<string, unknown>;

/** An answer that is not 2xx. */
export class ApiError extends Error {
  readonly status: number;
  readonly body: string;
  constructor(what: string, status: number, body: string) {
    super(`${what}: ${status} ${body.slice(0, 500)}`);
    this.status = status;
    this.body = body;
  }
}

export function clientOf(url: string, key = ""): Client {
  return {
    url,
    key,
    as: (other) => clientOf(url, other),
    at: (other) => clientOf(other, key),
    async call(method, path, body) {
      const headers = {
        ...(key === "" ? {} : { Authorization: `Bearer ${key}` }),
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
      };
      const response = await fetch(url + path, {
        method,
        headers,
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const text = await response.text();
      if (!response.ok) throw new ApiError(`${method} ${path}`, response.status, text);
      return text === "" ? {} : (JSON.parse(text) as Json);
    },
  };
}

/** Everything around certificates that a suite needs once: issuer, team, owner, renewal policy, agent and its target. */
export interface Fleet {
  readonly admin: Client;
  readonly agent: Client;
  readonly agentId: string;
  readonly issuerId: string;
  /** What a certificate record needs besides its names. */
  readonly record: Json;
}

/** Turns the bootstrap token into an admin key. */
export async function bootstrap(url: string, token: string): Promise<Client> {
  const answer = await clientOf(url).call("POST", "/api/v1/auth/bootstrap", { token, actor_name: "admin" });
  return clientOf(url, String(answer.key_value));
}

/** Makes a fleet of one agent; `name` keeps several apart on one server. */
export async function makeFleet(admin: Client, name: string, issuerConfig: Json = {}): Promise<Fleet> {
  const create: Create = (path, body) => admin.call("POST", path, body);
  const { agentKey, agentId, issuerId, targetId, record } = await makeGround(create, name, issuerConfig);
  return { admin, agent: admin.as(agentKey), agentId, issuerId, record: { ...record, target_ids: [targetId] } };
}

/** A certificate record for one name, and a job for its first certificate. */
export async function requestCertificate(
  fleet: Fleet,
  commonName: string,
): Promise<{ certificateId: string; jobId: string }> {
  const body = { ...fleet.record, name: commonName, common_name: commonName, sans: [commonName] };
  const { id } = await fleet.admin.call("POST", "/api/v1/certificates", body);
  const { job_id } = await fleet.admin.call("POST", `/api/v1/certificates/${id}/renew`);
  return { certificateId: String(id), jobId: String(job_id) };
}

/** Sends a CSR for a job as the agent; what comes back says that it is stored. */
export function submitCsr(fleet: Fleet, job: { certificateId: string; jobId: string }, csrPem: string): Promise<Json> {
  return fleet.agent.call("POST", `/api/v1/agents/${fleet.agentId}/csr`, {
    csr_pem: csrPem,
    job_id: job.jobId,
    certificate_id: job.certificateId,
  });
}

/** A PKCS#10 request (RFC 2986) of a new P-256 key that names nothing: the certificate carries the record's names. */
export function bareCsr(): string {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "prime256v1" });
  const info = der(0x30, Buffer.from([2, 1, 0]), der(0x30), spkiOf(publicKey), Buffer.from([0xa0, 0]));
  const algorithm = Buffer.from("300a06082a8648ce3d040302", "hex");
  const request = der(0x30, info, algorithm, der(0x03, Buffer.from([0]), sign("sha256", info, privateKey)));
  const lines = request.toString("base64").match(/.{1,64}/g) ?? [];
  return ["-----BEGIN CERTIFICATE REQUEST-----", ...lines, "-----END CERTIFICATE REQUEST-----", ""].join("\n");
}

function spkiOf(key: KeyObject): Buffer {
  return key.export({ format: "der", type: "spki" });
}

function der(tag: number, ...parts: Buffer[]): Buffer {
  const content = Buffer.concat(parts);
  const length =
    content.length < 128
      ? [content.length]
      : content.length < 256
        ? [0x81, content.length]
        : [0x82, content.length >> 8, content.length & 255];
  return Buffer.concat([Buffer.from([tag, ...length]), content]);
}
