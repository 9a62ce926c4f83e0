import { exports } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { createIntermediate } from "../../src/authority/local/intermediates.ts";
import { withdrawalWork } from "../../src/authority/local/withdrawal.ts";
import { fromHex } from "../../src/pki/bytes.ts";
import { parseCertificate, randomSerial, verifyIssued } from "../../src/pki/certificate.ts";
import { parseCrl } from "../../src/pki/crl.ts";
import { generateKeyPair, importSigner, parseSpki } from "../../src/pki/keys.ts";
import { encodeName } from "../../src/pki/names.ts";
import { parseOcspResponse } from "../../src/pki/ocsp.ts";
import { decodePem, encodePem } from "../../src/pki/pem.ts";
import { runDue } from "../../src/platform/work/engine.ts";
import { administrator, type Client } from "../support/api.ts";
import { rootCertificate } from "../support/ca-certificates.ts";
import { contextAhead } from "../support/context.ts";
import { ledgerOfCa } from "../support/ledgers.ts";

interface Issuer {
  readonly id: string;
  readonly config: Record<string, string>;
}

interface Ca {
  readonly id: string;
  readonly cert_pem: string;
  readonly serial_number: string;
  readonly state: string;
  readonly revoked_at: string | null;
}

let api: Client;

beforeAll(async () => {
  api = await administrator();
});

function newIssuer(name: string, config: Record<string, unknown> = {}): Promise<Issuer> {
  return api.create<Issuer>("/api/v1/issuers", { name, type: "GenericCA", config });
}

/** A root of one's own with its key, as PEM. */
async function broughtIn() {
  const { pkcs8, spki } = await generateKeyPair("ECDSA-P256");
  const now = Math.floor(Date.now() / 1000) * 1000;
  const root = {
    serial: randomSerial((length) => crypto.getRandomValues(new Uint8Array(length))),
    notBefore: new Date(now - 60_000),
    notAfter: new Date(now + 86_400_000),
    subject: encodeName({ common_name: "Brought Root" }),
    publicKey: parseSpki(spki),
  };
  const der = await rootCertificate(root, await importSigner(pkcs8));
  return { ca_cert_pem: encodePem("CERTIFICATE", der), ca_key_pem: encodePem("PRIVATE KEY", pkcs8) };
}

function certificateOf(pem: string) {
  const [block] = decodePem(pem);
  if (!block) throw new Error("no PEM block");
  return parseCertificate(block.der);
}

async function fetchBytes(path: string) {
  const response = await exports.default.fetch(new Request(`http://localhost${path}`));
  return { status: response.status, headers: response.headers, bytes: new Uint8Array(await response.arrayBuffer()) };
}

describe("issuers", () => {
  it("makes a root inside, publishes its certificate and its first list, and answers OCSP for it", async () => {
    const issuer = await newIssuer("Inside Root", { ca_common_name: "Inside Root CA" });
    expect(issuer.id).toBe("iss-inside-root");
    expect(issuer.config.ca_key_pem).toBeUndefined();
    const root = certificateOf(issuer.config.ca_cert_pem ?? "");
    expect(await verifyIssued(root, root)).toBe(true);
    const der = await fetchBytes(`/.well-known/pki/ca/${issuer.id}`);
    expect(der.headers.get("Content-Type")).toBe("application/pkix-cert");
    expect(der.bytes).toEqual(new Uint8Array(root.der));
    const list = await fetchBytes(`/.well-known/pki/crl/${issuer.id}`);
    expect(list.headers.get("Content-Type")).toBe("application/pkix-crl");
    expect(parseCrl(list.bytes)).toMatchObject({ entryCount: 0, distributionPoint: null });
    const unknown = await fetchBytes(`/.well-known/pki/ocsp/${issuer.id}/0123456789abcdef`);
    const [single] = parseOcspResponse(unknown.bytes).basic?.responses ?? [];
    expect(single?.status.type).toBe("unknown");
    expect((await api.post(`/api/v1/issuers/${issuer.id}/test`)).body).toEqual({ status: "success" });
  });

  it("inv 5: a CA that is brought in answers its key as a mask, and a PUT of the mask keeps it", async () => {
    const made = await newIssuer("Key Source");
    const secret = "-----BEGIN PRIVATE KEY-----\nMIGH\n-----END PRIVATE KEY-----\n";
    const mismatch = await api.post("/api/v1/issuers", {
      name: "Bad Import",
      type: "GenericCA",
      config: { ca_cert_pem: made.config.ca_cert_pem, ca_key_pem: secret },
    });
    expect(mismatch.status).toBe(400);
    const half = await api.post("/api/v1/issuers", {
      name: "Half Import",
      type: "GenericCA",
      config: { ca_cert_pem: made.config.ca_cert_pem },
    });
    expect(half).toMatchObject({ status: 400, body: { message: expect.stringContaining("config.ca_key_pem") } });
  });

  it("inv 2: a CA has one home, and what it revoked before is read with care", async () => {
    const brought = await broughtIn();
    const post = (name: string, more: object = {}) =>
      api.post("/api/v1/issuers", { name, type: "GenericCA", config: { ...brought, ...more } });
    const revocation = { serial_number: "0a", revoked_at: "2026-01-01T00:00:00Z" };
    const later = { serial_number: "0b", revoked_at: new Date(Date.now() + 3_600_000).toISOString() };
    for (const revocations of [
      [revocation, { ...revocation, serial_number: "A" }],
      [revocation, later],
    ]) {
      const refused = await post("Brought", { revocations });
      expect(refused).toMatchObject({ status: 400, body: { message: expect.stringContaining("revocations.1") } });
    }
    expect(await post("Brought", { revocations: [revocation] })).toMatchObject({ status: 201 });
    expect(await post("Brought Again")).toMatchObject({ status: 409, body: { error: "ca_exists" } });
    const { pkcs8 } = await generateKeyPair("ECDSA-P256");
    expect(await post("Not Its Key", { ca_key_pem: encodePem("PRIVATE KEY", pkcs8) })).toMatchObject({ status: 400 });
  });

  it("refuses what is not available, unknown fields and taken names", async () => {
    const post = (body: unknown) => api.post("/api/v1/issuers", body);
    expect(await post({ name: "Acme", type: "ACME", config: {} })).toMatchObject({
      status: 400,
      body: { error: "issuer_type_unavailable" },
    });
    expect(await post({ name: "X", type: "GenericCA", config: { nope: 1 } })).toMatchObject({
      status: 400,
      body: { message: expect.stringContaining("config.nope") },
    });
    await newIssuer("Taken");
    expect((await post({ name: "Taken", type: "GenericCA" })).status).toBe(409);
  });

  it("an issuer and a CA never share an id: both stand in the same URLs", async () => {
    const issuer = await newIssuer("Ids");
    const path = `/api/v1/issuers/${issuer.id}/intermediates`;
    const child = await api.create<Ca>(path, { name: "Ids Child" });
    expect(await api.post("/api/v1/issuers", { id: child.id, name: "Ids Two", type: "GenericCA" })).toMatchObject({
      status: 409,
      body: { error: "already_exists", message: expect.stringContaining("id:") },
    });
    await api.create<Issuer>("/api/v1/issuers", { id: "ica-ids-later", name: "Ids Three", type: "GenericCA" });
    const later = await api.create<Ca>(path, { name: "Ids Later" });
    expect(later.id).toMatch(/^ica-ids-later-.+/);
  });

  it("is answered for as it is now: deleted, made again, with a CA below it that was not there before", async () => {
    const id = "iss-again";
    const make = () => api.create<Issuer>("/api/v1/issuers", { id, name: "Again", type: "GenericCA" });
    const first = await make();
    expect((await fetchBytes(`/.well-known/pki/ca/${id}`)).status).toBe(200);
    expect((await api.delete(`/api/v1/issuers/${id}`)).status).toBe(204);
    expect((await fetchBytes(`/.well-known/pki/ca/${id}`)).status).toBe(404);
    const second = await make();
    expect(second.config.ca_cert_pem).not.toBe(first.config.ca_cert_pem);
    const served = await fetchBytes(`/.well-known/pki/ca/${id}`);
    expect(encodePem("CERTIFICATE", served.bytes)).toBe(second.config.ca_cert_pem);
    const path = `/api/v1/issuers/${id}/intermediates`;
    const child = await api.create<Ca>(path, { name: "Again One" });
    const grandchild = await api.create<Ca>(path, { name: "Again Two", parent_ca_id: child.id });
    const answer = await fetchBytes(`/.well-known/pki/ocsp/${id}/${grandchild.serial_number}`);
    expect(parseOcspResponse(answer.bytes).basic?.responses[0]?.status.type).toBe("good");
  });

  it("keeps what a PUT leaves out, refuses what is fixed, and deletes what nothing uses", async () => {
    const issuer = await newIssuer("Changing", { validity_days: 30 });
    const path = `/api/v1/issuers/${issuer.id}`;
    const changed = await api.put<Issuer>(path, { config: { validity_days: 10 }, enabled: false });
    expect(changed).toMatchObject({
      status: 200,
      body: { name: "Changing", enabled: false, config: { validity_days: 10 } },
    });
    const again = await api.put<Issuer>(path, changed.body);
    expect(again.status, JSON.stringify(again.body)).toBe(200);
    expect(await api.put(path, { config: { key_algorithm: "RSA-2048" } })).toMatchObject({ status: 400 });
    expect(await api.put(path, { config: { issuing_ca_id: "ica-nope" } })).toMatchObject({ status: 400 });
    expect((await api.delete(path)).status).toBe(204);
    expect((await api.get(path)).status).toBe(404);
  });

  it("a subordinate gives its request and takes the certificate that an outside root signs", async () => {
    const issuer = await newIssuer("Waiting Sub", { subordinate: true, ca_common_name: "Waiting Sub CA" });
    expect(issuer.config.ca_csr_pem).toContain("BEGIN CERTIFICATE REQUEST");
    expect(await fetchBytes(`/.well-known/pki/ca/${issuer.id}`)).toMatchObject({ status: 404 });
    const foreign = await newIssuer("Foreign Root");
    const wrong = await api.put(`/api/v1/issuers/${issuer.id}`, {
      config: { ca_cert_pem: foreign.config.ca_cert_pem },
    });
    expect(wrong).toMatchObject({ status: 400, body: { error: "ca_invalid" } });
    const garbage = await api.put(`/api/v1/issuers/${issuer.id}`, {
      config: { ca_cert_pem: encodePem("CERTIFICATE", new Uint8Array([0x30, 0, 0])) },
    });
    expect(garbage).toMatchObject({ status: 400, body: { message: expect.stringContaining("ca_cert_pem") } });
  });
});

describe("intermediates", () => {
  it("are signed within path length, name constraints and life of their parent", async () => {
    const issuer = await newIssuer("Tree", { path_len_constraint: 1 });
    const path = `/api/v1/issuers/${issuer.id}/intermediates`;
    const child = await api.create<Ca>(path, {
      name: "Tree One",
      path_len_constraint: 0,
      name_constraints: [{ permitted: ["DNS:corp.example"] }],
    });
    const root = certificateOf(issuer.config.ca_cert_pem ?? "");
    const certificate = certificateOf(child.cert_pem);
    expect(await verifyIssued(certificate, root)).toBe(true);
    expect(certificate.crlUrls).toEqual([`http://pki.test/.well-known/pki/crl/${issuer.id}`]);
    const below = (body: Record<string, unknown>) => api.post(path, { name: "Too Far", ...body });
    expect((await below({ parent_ca_id: child.id })).status).toBe(400);
    expect((await below({ path_len_constraint: 1 })).status).toBe(400);
    expect((await below({ ttl_days: 36_525 })).status).toBe(400);
    expect((await below({ parent_ca_id: "ica-nope" })).status).toBe(400);
    expect((await below({ root_cert_pem: "x" })).status).toBe(400);
    expect((await below({ name: "Tree One" })).status).toBe(409);
    const list = await api.get<{ data: Ca[] }>(path);
    expect(list.body.data.map((ca) => ca.id)).toEqual(["ica-tree", child.id]);
    expect((await fetchBytes(`/.well-known/pki/crl/${child.id}`)).status).toBe(200);
  });

  it("inv 4: one whose name was taken meanwhile is revoked at its parent", async () => {
    const issuer = await newIssuer("Raced");
    const path = `/api/v1/issuers/${issuer.id}/intermediates`;
    const answers = await Promise.all([1, 2, 3].map(() => api.post<Ca>(path, { name: "Raced One" })));
    expect(answers.map(({ status }) => status).sort()).toEqual([201, 409, 409]);
    const kept = answers.find(({ status }) => status === 201)?.body.serial_number;
    const entries = await (await ledgerOfCa(issuer.id)).entries(0, 100);
    const children = entries.filter(({ kind, request_id }) => kind === "ca" && request_id !== "self");
    for (const { serial, reason } of children) expect(reason).toBe(serial === kept ? null : "cessationOfOperation");
    expect(children.length).toBe(3);
  });

  it("inv 4: one whose creation dies before its row is written is revoked at its parent, minutes later", async () => {
    const issuer = await newIssuer("Dying");
    const ctx = contextAhead();
    const db = new Proxy(ctx.db, {
      get: (target, name) =>
        name === "batch"
          ? (statements: Parameters<typeof target.batch>[0]) => {
              if (statements.length > 2) throw new Error("the isolate ends here");
              return target.batch(statements);
            }
          : Reflect.get(target, name),
    });
    await expect(createIntermediate({ ...ctx, db }, issuer.id, { name: "Dying One" })).rejects.toThrow("ends here");
    const children = async () =>
      (await (await ledgerOfCa(issuer.id)).entries(0, 100))
        .filter(({ kind, request_id }) => kind === "ca" && request_id !== "self")
        .map(({ reason }) => reason);
    expect(await children()).toEqual([null]);
    const sweep = (seconds: number) => runDue(contextAhead(seconds), withdrawalWork);
    await sweep(60);
    expect(await children()).toEqual([null]);
    expect(await sweep(601)).toBe("finished");
    expect(await children()).toEqual(["cessationOfOperation"]);
    const again = await api.create<Ca>(`/api/v1/issuers/${issuer.id}/intermediates`, { name: "Dying One" });
    await sweep(1300);
    expect((await api.get<Ca>(`/api/v1/intermediates/${again.id}`)).body).toMatchObject({
      state: "active",
      revoked_at: null,
    });
    expect(await children()).toEqual(["cessationOfOperation", null]);
  });

  it("retire in two phases, and with a reason their parent says so under the issuer's id", async () => {
    const issuer = await newIssuer("Retiring");
    const child = await api.create<Ca>(`/api/v1/issuers/${issuer.id}/intermediates`, { name: "Retiring One" });
    const retire = (body: unknown) => api.post<Ca>(`/api/v1/intermediates/${child.id}/retire`, body);
    expect((await retire({})).body.state).toBe("retiring");
    expect((await retire({})).status).toBe(409);
    const done = await retire({ confirm: true, reason: "superseded" });
    expect(done.body.state).toBe("retired");
    expect(done.body.revoked_at).not.toBeNull();
    const other = (reason: string) => retire({ confirm: true, reason });
    expect((await other("superseded")).status).toBe(200);
    expect(await other("cessationOfOperation")).toMatchObject({ status: 400, body: { error: "already_revoked" } });
    const answer = await fetchBytes(`/.well-known/pki/ocsp/${issuer.id}/${child.serial_number}`);
    const [single] = parseOcspResponse(answer.bytes).basic?.responses ?? [];
    expect(single?.status).toMatchObject({ type: "revoked", reason: 4 });
    expect(fromHex(child.serial_number).length).toBe(17);
  });
});
