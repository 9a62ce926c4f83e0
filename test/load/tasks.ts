import { randomBytes } from "node:crypto";
import { buildOcspRequest, type CertIdHash } from "../../src/pki/ocsp.ts";
import { bareCsr } from "../support/client.ts";
import { type Connection, type HttpAnswer, httpRequest } from "../support/connection.ts";
import {
  type Expected,
  judgeCrl,
  judgeDer,
  judgeError,
  judgeJson,
  judgeOcsp,
  judgeOcspError,
  judgePage,
} from "./judge.ts";
import { type Ca, certIdOf, type Leaf, leafOf, type World } from "./world.ts";

/** One thing to do on a connection; throws for an answer that is not right. */
export interface Task {
  readonly what: string;
  run(connection: Connection): Promise<void>;
}

const OCSP_REQUEST = "application/ocsp-request";
const pki = (kind: string, ...more: readonly string[]) => `/.well-known/pki/${[kind, ...more].join("/")}`;

// ------------------------------------------------------------------------------------------------------- relying parties

/** How a question is put: the message, and what of it the answer must repeat. */
interface Asked extends Pick<Expected, "certId" | "nonce"> {
  readonly message: Uint8Array;
}

type Form = (under: string, ca: Ca, serial: string) => Asked;

function hexForm(text: (serial: string) => string): Form {
  return (under, _ca, serial) => ({
    message: httpRequest("GET", pki("ocsp", under, text(serial))),
    certId: null,
    nonce: null,
  });
}

function derForm(hash: CertIdHash, withNonce: boolean, message: (under: string, der: Buffer) => Uint8Array): Form {
  return (under, ca, serial) => {
    const certId = certIdOf(ca, serial, hash);
    const nonce = withNonce ? new Uint8Array(randomBytes(32)) : null;
    return { message: message(under, Buffer.from(buildOcspRequest([certId], nonce))), certId, nonce };
  };
}

const post = (under: string, body: Buffer) => httpRequest("POST", pki("ocsp", under), { type: OCSP_REQUEST, body });
const raw = (under: string, der: Buffer) => httpRequest("GET", pki("ocsp", under, der.toString("base64")));
const escaped = (under: string, der: Buffer) =>
  httpRequest("GET", pki("ocsp", under, encodeURIComponent(der.toString("base64"))));

const FORMS: Readonly<Record<string, Form>> = {
  hex: hexForm((serial) => serial),
  "hex in capitals with zeros": hexForm((serial) => `00${serial.toUpperCase()}`),
  "base64 GET raw": derForm("sha1", false, raw),
  "base64 GET escaped": derForm("sha256", false, escaped),
  "base64 GET with nonce": derForm("sha1", true, escaped),
  POST: derForm("sha1", false, post),
  "POST by SHA-256": derForm("sha256", false, post),
  "POST with nonce": derForm("sha256", true, post),
};

/** Questions to which `revoked` was answered: the same question never gets another answer again. */
const saidRevoked = new Set<string>();

function ocspTask(form: string, under: string, leaf: Leaf): Task {
  const what = `OCSP ${form} at ${under} about ${leaf.commonName}`;
  return {
    what,
    run: async (connection) => {
      const asked = asking(form, under, leaf.ca, leaf.serial);
      const certain = leaf.truth === "revoking" && saidRevoked.has(what) ? "revoked" : leaf.truth;
      const answer = await connection.ask(asked.message);
      // A revocation that was asked for in the meantime may show.
      const may = leaf.truth === "good" ? ["good"] : ["good", "revoked"];
      const statuses = certain === "revoked" ? ["revoked"] : may;
      const status = await judgeOcsp(answer, { ...asked, ca: leaf.ca, serial: leaf.serial, statuses });
      if (status === "revoked") saidRevoked.add(what);
    },
  };
}

function asking(form: string, under: string, ca: Ca, serial: string): Asked {
  const make = FORMS[form];
  if (!make) throw new Error(`no form ${form}`);
  return make(under, ca, serial);
}

/** Every form, under every id that answers for the certificate. */
export function everyWayToAsk(leaf: Leaf): Task[] {
  return leaf.ca.answersUnder.flatMap((under) => Object.keys(FORMS).map((form) => ocspTask(form, under, leaf)));
}

/** A serial that nobody issued: as random ones are, and of every length. */
function unknownTask(form: string, ca: Ca): Task {
  return {
    what: `OCSP ${form} at ${ca.id} about a made-up serial`,
    run: async (connection) => {
      const serial = madeUpSerial();
      const asked = asking(form, ca.id, ca, serial);
      await judgeOcsp(await connection.ask(asked.message), { ...asked, ca, serial, statuses: ["unknown"] });
    },
  };
}

function madeUpSerial(): string {
  const octets = randomBytes(1 + Math.floor(Math.random() * 19));
  octets[0] = ((octets[0] ?? 0) & 0x7f) | 0x40;
  return octets.toString("hex");
}

/** Another CA's certificate: by serial alone it is unknown here, with its CertID nobody here can sign. */
function foreignTasks(leaf: Leaf, at: Ca): Task[] {
  return [
    {
      what: `OCSP hex at ${at.id} about a serial of ${leaf.ca.id}`,
      run: async (connection) => {
        const asked = asking("hex", at.id, at, leaf.serial);
        const expected = { ...asked, ca: at, serial: leaf.serial, statuses: ["unknown"] };
        await judgeOcsp(await connection.ask(asked.message), expected);
      },
    },
    ...["base64 GET escaped", "POST", "POST with nonce"].map((form) => ({
      what: `OCSP ${form} at ${at.id} about a certificate of ${leaf.ca.id}`,
      run: async (connection: Connection) =>
        judgeOcspError(await connection.ask(asking(form, at.id, leaf.ca, leaf.serial).message), "unauthorized"),
    })),
  ];
}

/** The newest number of each CA's list that was seen. */
const listNumbers = new Map<string, bigint>();

/** `having`: serials that must be on the list. */
export function crlTask(world: World, ca: Ca, having: readonly string[] = []): Task {
  return {
    what: `CRL of ${ca.id}`,
    run: async (connection) => {
      const before = listNumbers.get(ca.id) ?? 0n;
      const answer = await connection.ask(httpRequest("GET", pki("crl", ca.id)));
      const { number, serials } = await judgeCrl(answer, world, ca, before);
      for (const serial of having) if (!serials.has(serial)) throw new Error(`${serial} is not on the list`);
      if (number > (listNumbers.get(ca.id) ?? 0n)) listNumbers.set(ca.id, number);
    },
  };
}

function simple(what: string, message: Uint8Array, judge: (answer: HttpAnswer) => void): Task {
  return { what, run: async (connection) => judge(await connection.ask(message)) };
}

/** What is asked of one CA besides its certificates. */
function tasksOfCa(world: World, ca: Ca): Task[] {
  const other = world.leaves.find((leaf) => !leaf.ca.answersUnder.includes(ca.id) && leaf.ca.id !== ca.id);
  return [
    ...Object.keys(FORMS).map((form) => unknownTask(form, ca)),
    ...(other ? foreignTasks(other, ca) : []),
    crlTask(world, ca),
    simple(`certificate of ${ca.id}`, httpRequest("GET", pki("ca", ca.id)), (answer) =>
      judgeDer(answer, "application/pkix-cert", ca.certificate.der),
    ),
  ];
}

/** Everything that relying parties ask. */
export function publicTasks(world: World): Task[] {
  const nowhere = pki("ocsp", "iss-nowhere", "4a5b");
  const junk = httpRequest("POST", pki("ocsp", world.cas[0]?.id ?? ""), { type: OCSP_REQUEST, body: randomBytes(40) });
  return [
    ...world.leaves.flatMap(everyWayToAsk),
    ...world.cas.flatMap((ca) => tasksOfCa(world, ca)),
    simple("OCSP of an unknown CA", httpRequest("GET", nowhere), (answer) => judgeError(answer, 404, "not_found")),
    simple("CRL of an unknown CA", httpRequest("GET", pki("crl", "iss-nowhere")), (answer) =>
      judgeError(answer, 404, "not_found"),
    ),
    simple("OCSP junk", junk, (answer) => judgeOcspError(answer, "malformedRequest")),
  ];
}

// ------------------------------------------------------------------------------------------------------------------- API

function api(key: string, method: string, path: string, body?: unknown): Uint8Array {
  const headers = { Authorization: `Bearer ${key}` };
  if (body === undefined) return httpRequest(method, path, { headers });
  return httpRequest(method, path, { headers, type: "application/json", body: Buffer.from(JSON.stringify(body)) });
}

/** Lists and reads, and what must be refused. */
export function readTasks(world: World): Task[] {
  const [leaf] = world.leaves;
  if (!leaf) throw new Error("no leaf");
  const { key } = leaf.fleet.admin;
  const get = (path: string, judge: (answer: HttpAnswer) => void) =>
    simple(`GET ${path}`, api(key, "GET", path), judge);
  const pages: readonly (readonly [string, number])[] = [
    ["certificates", world.leaves.length],
    ["issuers", 2],
    ["teams", 2],
    ["owners", 2],
    ["targets", 2],
    ["agents", 2],
    ["jobs", world.leaves.length],
  ];
  return [
    ...pages.flatMap(([kind, least]) =>
      [1, 2].map((page) =>
        get(`/api/v1/${kind}?page=${page}&per_page=10`, (answer) => judgePage(answer, page, 10, least)),
      ),
    ),
    ...world.leaves.flatMap(readsOf),
    get("/api/v1/certificates/mc-nowhere", (answer) => judgeError(answer, 404, "not_found")),
    get("/api/v1/certificates?per_page=0", (answer) => judgeJson(answer, 400)),
    simple("a wrong key", api(`certctl_${"A".repeat(43)}`, "GET", "/api/v1/teams"), (answer) =>
      judgeError(answer, 401, "api_key_invalid"),
    ),
    simple("no key", httpRequest("GET", "/api/v1/teams"), (answer) => judgeError(answer, 401, "unauthorized")),
    get("/api/v1/nothing", (answer) => judgeError(answer, 404, "not_found")),
  ];
}

function readsOf({ fleet, certificateId, commonName, serial }: Leaf): Task[] {
  const path = `/api/v1/certificates/${certificateId}`;
  return [
    simple(`GET ${path}`, api(fleet.admin.key, "GET", path), (answer) => {
      const { id, common_name } = judgeJson(answer, 200);
      if (id !== certificateId || common_name !== commonName) throw new Error(`${id}, ${common_name}`);
    }),
    simple(`GET ${path}/versions`, api(fleet.admin.key, "GET", `${path}/versions`), (answer) => {
      const { data } = judgeJson(answer, 200) as { data: readonly { serial_number: string }[] };
      if (data.length !== 1 || data[0]?.serial_number !== serial) throw new Error(JSON.stringify(data));
    }),
  ];
}

let written = 0;

/** A certificate's whole life on one connection: record, job, CSR, pick-up, good, revoked. */
export function lifeTask(world: World, at: number): Task {
  const leaf = world.leaves[at % world.leaves.length];
  if (!leaf) throw new Error("no leaf");
  const { fleet } = leaf;
  const commonName = `life-${++written}.load.example.com`;
  return {
    what: `the life of ${commonName}`,
    run: async (connection) => {
      const call = async (key: string, status: number, method: string, path: string, body?: unknown) =>
        judgeJson(await connection.ask(api(key, method, path, body)), status);
      const { key } = fleet.admin;
      const record = { ...fleet.record, name: commonName, common_name: commonName, sans: [commonName] };
      const { id } = await call(key, 201, "POST", "/api/v1/certificates", record);
      const { job_id } = await call(key, 202, "POST", `/api/v1/certificates/${id}/renew`);
      const csr = { csr_pem: bareCsr(), job_id, certificate_id: id };
      await call(fleet.agent.key, 202, "POST", `/api/v1/agents/${fleet.agentId}/csr`, csr);
      const picked = await call(fleet.agent.key, 200, "GET", `/api/v1/agents/${fleet.agentId}/certificates/${id}`);
      const { serial, certificate } = leafOf(picked);
      const ca = world.cas.find(({ certificate: { subject } }) =>
        Buffer.from(subject.der).equals(certificate.issuer.der),
      );
      if (!ca) throw new Error("issued by none of the CAs");
      const ask = async (statuses: readonly string[]) => {
        const asked = asking("POST with nonce", ca.id, ca, serial);
        return judgeOcsp(await connection.ask(asked.message), { ...asked, ca, serial, statuses });
      };
      await ask(["good"]);
      world.lives.push({ fleet, ca, serial, certificate, commonName, certificateId: String(id), truth: "revoking" });
      await call(key, 200, "POST", `/api/v1/certificates/${id}/revoke`, { reason: "superseded" });
      // A nonce is answered from the ledger, which had it first.
      await ask(["revoked"]);
    },
  };
}

// --------------------------------------------------------------------------------------------------- who does not behave

/** Clients that go away in the middle: of the head, of the body, before the answer, in the answer. */
export function rudeTasks(world: World, open: () => Connection): Task[] {
  const [leaf] = world.leaves;
  if (!leaf) throw new Error("no leaf");
  const whole = asking("POST with nonce", leaf.ca.id, leaf.ca, leaf.serial).message;
  const team = api(leaf.fleet.admin.key, "POST", "/api/v1/teams", { name: "never" });
  const list = api(leaf.fleet.admin.key, "GET", "/api/v1/certificates?per_page=500");
  const cuts: readonly (readonly [string, Uint8Array, number])[] = [
    ["in the head", whole.subarray(0, 40), 1],
    ["in the body", whole.subarray(0, whole.length - 20), 1],
    ["in the body of a change", team.subarray(0, team.length - 5), 5],
    ["before the answer", whole, 0],
    ["before or in the answer", list, 2],
    ["in the answer", httpRequest("GET", pki("crl", leaf.ca.id)), 3],
  ];
  return cuts.map(([what, octets, afterMs]) => ({
    what: `a client that breaks off ${what}`,
    run: () => open().breakOff(octets, afterMs),
  }));
}
