import { createHash } from "node:crypto";
import { type Certificate, parseCertificate } from "../../src/pki/certificate.ts";
import { buildCertId, type CertIdHash } from "../../src/pki/ocsp.ts";
import { decodePem } from "../../src/pki/pem.ts";
import {
  bareCsr,
  bootstrap,
  type Fleet,
  type Json,
  makeFleet,
  requestCertificate,
  submitCsr,
} from "../support/client.ts";
import type { RunningServer } from "../support/server.ts";

/** What the load test asks about, and what is true of it. */
export interface World {
  readonly fleets: readonly Fleet[];
  readonly cas: readonly Ca[];
  readonly leaves: readonly Leaf[];
  /** Those of `lifeTask`, from when their revocation is asked for. */
  readonly lives: Leaf[];
}

export interface Ca {
  /** As the public URLs name it. */
  readonly id: string;
  readonly certificate: Certificate;
  /** The ids under which OCSP answers for what it issued: its own, and its issuer's for an intermediate. */
  readonly answersUnder: readonly string[];
  readonly hashes: Readonly<
    Record<CertIdHash, { readonly name: Uint8Array<ArrayBuffer>; readonly key: Uint8Array<ArrayBuffer> }>
  >;
}

export interface Leaf {
  readonly fleet: Fleet;
  readonly ca: Ca;
  readonly certificateId: string;
  readonly commonName: string;
  /** Lower-case hex. */
  readonly serial: string;
  readonly certificate: Certificate;
  truth: Truth;
}

/** `revoking`: the revocation was asked for, so that both answers are right until one says it. */
export type Truth = "good" | "revoking" | "revoked";

/** Every revocation of the test has this reason. */
export const REASON = { name: "superseded", number: 4 } as const;

export function certIdOf({ hashes }: Ca, serial: string, hash: CertIdHash): Uint8Array<ArrayBuffer> {
  return buildCertId(hash, hashes[hash].name, hashes[hash].key, serial);
}

/** Two issuers and an intermediate of the first, with `perCa` leaves each, of which every fourth is revoked. */
export async function makeWorld(server: RunningServer, perCa: number): Promise<World> {
  const admin = await bootstrap(server.url, server.bootstrapToken);
  const ecdsa = await makeFleet(admin, "ecdsa");
  const rsa = await makeFleet(admin, "rsa", { key_algorithm: "RSA-2048" });
  const below = await makeIntermediate(admin, ecdsa.issuerId);
  const [root, other] = await Promise.all([caOf(ecdsa, ecdsa.issuerId), caOf(rsa, rsa.issuerId)]);
  const inner = await caOf(ecdsa, below, ecdsa.issuerId);
  const leaves = (await Promise.all([issueLeaves(ecdsa, root, perCa), issueLeaves(rsa, other, perCa)])).flat();
  await admin.call("PUT", `/api/v1/issuers/${ecdsa.issuerId}`, { config: { issuing_ca_id: below } });
  leaves.push(...(await issueLeaves(ecdsa, inner, perCa)));
  await Promise.all(leaves.filter((_, i) => i % 4 === 0).map(revokeLeaf));
  return { fleets: [ecdsa, rsa], cas: [root, other, inner], leaves, lives: [] };
}

async function makeIntermediate(admin: Fleet["admin"], issuerId: string): Promise<string> {
  const body = {
    name: "Inner",
    subject: { common_name: "Inner CA" },
    algorithm: "ECDSA-P256",
    ttl_days: 365,
    path_len_constraint: 0,
  };
  const { id } = await admin.call("POST", `/api/v1/issuers/${issuerId}/intermediates`, body);
  return String(id);
}

async function caOf({ admin }: Fleet, id: string, ...above: readonly string[]): Promise<Ca> {
  const response = await fetch(`${admin.url}/.well-known/pki/ca/${id}`);
  const certificate = parseCertificate(new Uint8Array(await response.arrayBuffer()));
  const hashesBy = (hash: CertIdHash) => {
    const of = (octets: Uint8Array) => new Uint8Array(createHash(hash).update(octets).digest());
    return { name: of(certificate.subject.der), key: of(certificate.publicKey.keyBits) };
  };
  return {
    id,
    certificate,
    answersUnder: [id, ...above],
    hashes: {
      sha1: hashesBy("sha1"),
      sha256: hashesBy("sha256"),
      sha384: hashesBy("sha384"),
      sha512: hashesBy("sha512"),
    },
  };
}

function issueLeaves(fleet: Fleet, ca: Ca, count: number): Promise<Leaf[]> {
  return Promise.all(Array.from({ length: count }, (_, i) => issueLeaf(fleet, ca, `${ca.id}-${i}.load.example.com`)));
}

/** A record, its job, the agent's CSR and the pick-up. */
async function issueLeaf(fleet: Fleet, ca: Ca, commonName: string): Promise<Leaf> {
  const job = await requestCertificate(fleet, commonName);
  await submitCsr(fleet, job, bareCsr());
  const path = `/api/v1/agents/${fleet.agentId}/certificates/${job.certificateId}`;
  const { certificateId } = job;
  return { fleet, ca, certificateId, commonName, ...leafOf(await fleet.agent.call("GET", path)), truth: "good" };
}

/** The leaf of a pick-up. */
export function leafOf(picked: Json): Pick<Leaf, "certificate" | "serial"> {
  const [leaf] = decodePem(String(picked.certificate_pem));
  if (!leaf) throw new Error(`no certificate in ${JSON.stringify(picked)}`);
  const certificate = parseCertificate(leaf.der);
  return { certificate, serial: certificate.serial };
}

export async function revokeLeaf(leaf: Leaf): Promise<void> {
  leaf.truth = "revoking";
  await leaf.fleet.admin.call("POST", `/api/v1/certificates/${leaf.certificateId}/revoke`, { reason: REASON.name });
}
