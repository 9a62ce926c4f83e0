import { Readable } from "node:stream";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { toBase64, toHex } from "../../src/pki/bytes.ts";
import { bitString, integer, octetString, oid, sequence } from "../../src/pki/der.ts";
import { parseSpki } from "../../src/pki/keys.ts";
import { encodePem } from "../../src/pki/pem.ts";
import { parseRsaPublicKey } from "../../src/pki/spki.ts";
import {
  type CsrRequest,
  type Key,
  makeCsr,
  microsoftExtras,
  newKey,
  RSA_WITHOUT_NULL,
  rsaSpki,
} from "../support/csr.ts";
import { type OutsideCa, outsideCa, outsideCrl, randomSerialNumber } from "../support/outside-ca.ts";
import { type RunningServer, startServer } from "../support/server.ts";
import { type Answer, bootstrap, text } from "./support/api.ts";
import { fetchCa, type Scene, setScene } from "./support/scene.ts";
import { must, run, Scratch } from "./support/shell.ts";

/** Requests and CAs as they come from the field: each kind is taken, or refused by a 400 that says why. */

let server: RunningServer;
let scene: Scene;
let rsa: Key;
let modulus: Uint8Array<ArrayBuffer>;
const scratch = new Scratch();
const DAY = 86_400_000;
let n = 0;

beforeAll(async () => {
  server = await startServer();
  scene = await setScene(await bootstrap(server.url, server.bootstrapToken), scratch);
  await scene.admin.post("/api/v1/issuers", { id: "iss-cases", name: "Cases", type: "GenericCA" });
  rsa = await newKey("RSA-2048");
  modulus = parseRsaPublicKey(parseSpki(rsa.spki).keyBits).modulus;
});
afterAll(async () => {
  await server?.stop();
  scratch.remove();
});

/** Submits a CSR for a record of its own; the answer, and the record's id. */
async function submit(name: string, csr: string, more: Record<string, unknown> = {}) {
  const { admin, agent, agentId } = scene;
  const certificate_id = `mc-${name.replaceAll(".", "-")}-${++n}`;
  await admin.post("/api/v1/certificates", {
    id: certificate_id,
    name: certificate_id,
    common_name: name,
    sans: [name],
    issuer_id: "iss-cases",
    certificate_profile_id: "prof-e2e",
    owner_id: "o-e2e",
    team_id: "t-e2e",
    renewal_policy_id: "rp-e2e",
    target_ids: ["tgt-e2e"],
    ...more,
  });
  await admin.post(`/api/v1/certificates/${certificate_id}/renew`);
  const answer = await agent.ask("POST", `/api/v1/agents/${agentId}/csr`, { certificate_id, csr_pem: csr });
  return { answer, certificate_id };
}

async function accepted(name: string, csr: string, more: Record<string, unknown> = {}) {
  const { answer, certificate_id } = await submit(name, csr, more);
  expect(answer, JSON.stringify(answer.body)).toMatchObject({ status: 202 });
  const picked = await scene.agent.get(`/api/v1/agents/${scene.agentId}/certificates/${certificate_id}`);
  const chain = scratch.write(`${certificate_id}.pem`, text(picked, "certificate_pem"));
  return { answer, certificate_id, chain };
}

function refusedWith(answer: Answer, message: string) {
  expect(answer, JSON.stringify(answer.body)).toMatchObject({
    status: 400,
    body: { message: expect.stringContaining(message) },
  });
}

/** Brings a CA in: the chain, issuing CA first, and the first one's key. */
function bringIn(id: string, chain: readonly OutsideCa[], more: Record<string, unknown> = {}): Promise<Answer> {
  const config = { ca_cert_pem: chain.map((ca) => ca.cert_pem).join(""), ca_key_pem: chain[0]?.key_pem, ...more };
  return scene.admin.ask("POST", "/api/v1/issuers", { id, name: id, type: "GenericCA", config });
}

describe("a CSR from the field", () => {
  const named = (name: string, more: CsrRequest = {}) => makeCsr({ commonName: name, sans: [name], ...more });

  it("of IIS is taken, and what is not copied is told", async () => {
    const csr = await named("iis.example.test", { key: rsa, ...microsoftExtras() });
    const { answer, chain } = await accepted("iis.example.test", csr.replaceAll("\n", "\r\n"));
    expect(answer.body.ignored).toContain("extension sMIMECapabilities (1.2.840.113549.1.9.15)");
    const { text: shown } = await must("openssl", ["x509", "-in", chain, "-noout", "-text"]);
    expect(shown).toContain("DNS:iis.example.test");
    expect(shown).not.toMatch(/S\/MIME Capabilities|Netscape Comment|1\.3\.6\.1\.4\.1\.311/);
  });

  const TAKEN: [string, () => CsrRequest][] = [
    ["nonull", () => ({ key: rsa, signatureAlgorithm: RSA_WITHOUT_NULL })],
    ["noattr", () => ({ sans: [], withoutAttributes: true })],
    ["extfalse", () => ({ explicitFalse: true })],
  ];
  it.each(TAKEN)("is taken: %s", async (kind, request) => {
    const name = `${kind}.example.test`;
    await accepted(name, await named(name, request()));
  });

  it("with an RSA exponent that cannot be used is refused for that", async () => {
    const name = "e65539.example.test";
    const [key, csr] = [scratch.file("e.key"), scratch.file("e.csr")];
    const generate = ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-pkeyopt", "rsa_keygen_pubexp:65539"];
    await must("openssl", ["genpkey", ...generate, "-out", key]);
    const san = ["-addext", `subjectAltName=DNS:${name}`];
    await must("openssl", ["req", "-new", "-key", key, "-subj", `/CN=${name}`, ...san, "-out", csr]);
    const { answer } = await submit(name, scratch.read("e.csr"));
    refusedWith(answer, "65539");
  });

  const REFUSED: [string, string, () => Promise<CsrRequest>][] = [
    ["spkinull", "without its NULL", async () => ({ key: rsa, spki: rsaSpki(modulus, 65_537, { null: true }) })],
    ["negative", "sign octet", async () => ({ key: rsa, spki: rsaSpki(modulus, 65_537, { sign: true }) })],
    [
      "compressed",
      "compressed",
      async () => {
        const key = await newKey();
        const point = bitString(new Uint8Array([2, ...key.spki.subarray(-64, -32)]));
        const algorithm = sequence(oid("1.2.840.10045.2.1"), oid("1.2.840.10045.3.1.7"));
        return { key, spki: sequence(algorithm, point) };
      },
    ],
  ];
  it.each(REFUSED)("%s is refused for what is wrong: %s", async (kind, message, request) => {
    const name = `${kind}.example.test`;
    const { answer } = await submit(name, await named(name, await request()));
    refusedWith(answer, message);
  });

  it.each(["urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "spiffe://trust_domain/ns/prod"])(
    "may ask for %s",
    async (name) => {
      const host = `uri-${++n}.example.test`;
      const csr = await makeCsr({ commonName: host, sans: [host, name] });
      const { chain } = await accepted(host, csr, { sans: [host, name] });
      const { text: shown } = await must("openssl", ["x509", "-in", chain, "-noout", "-ext", "subjectAltName"]);
      expect(shown).toContain(`URI:${name}`);
    },
  );
});

describe("a CA from the field", () => {
  it("whose root stands twice, or without a subject, is refused", async () => {
    const root = await outsideCa({ name: "Root twice" });
    refusedWith(await bringIn("iss-twice", [await outsideCa({ name: "Issuing", above: root }), root, root]), "twice");
    refusedWith(await bringIn("iss-empty", [await outsideCa({ subject: {} })]), "empty subject");
  });

  it("for clients alone refuses a leaf for servers, and says why", async () => {
    const root = await outsideCa({ name: "EKU Root" });
    const issuing = await outsideCa({ name: "clientAuth only", above: root, ekus: ["clientAuth"] });
    expect(await bringIn("iss-eku", [issuing, root])).toMatchObject({ status: 201 });
    const name = "server.example.test";
    const { answer } = await submit(name, await makeCsr({ commonName: name }), { issuer_id: "iss-eku" });
    refusedWith(answer, "serverAuth is excluded by the extended key usage of CN=clientAuth only");
  });

  it("that outlives its root signs nothing that does", async () => {
    const root = await outsideCa({ name: "Root of 60 days", days: 60 });
    const issuing = await outsideCa({ name: "Outlives its root", above: root, days: 3_650 });
    expect(await bringIn("iss-short", [issuing, root], { validity_days: 90 })).toMatchObject({ status: 201 });
    const name = "short.example.test";
    const { certificate_id, chain } = await accepted(name, await makeCsr({ commonName: name }), {
      issuer_id: "iss-short",
    });
    const { expires_at } = await scene.admin.get(`/api/v1/certificates/${certificate_id}`);
    const { text: end } = await must("openssl", ["x509", "-in", chain, "-noout", "-enddate", "-dateopt", "iso_8601"]);
    expect(Date.parse(end.trim().replace("notAfter=", "").replace(" ", "T"))).toBe(Date.parse(String(expires_at)));
    expect(Date.parse(String(expires_at))).toBeLessThanOrEqual(Date.now() + 60 * DAY);
  });

  it("is not renewed with another key identifier", async () => {
    const first = await outsideCa({ name: "Renewed root" });
    const second = await outsideCa({ name: "Renewed root", keys: first.keys, ski: new Uint8Array(20).fill(9) });
    expect(await bringIn("iss-renew", [first])).toMatchObject({ status: 201 });
    const body = { config: { ca_cert_pem: second.cert_pem } };
    refusedWith(await scene.admin.ask("PUT", "/api/v1/issuers/iss-renew", body), "subjectKeyIdentifier");
  });

  it("made by openssl without a configuration is refused, and made right as the answer says", async () => {
    const [key, cert] = [scratch.file("d.key"), scratch.file("d.pem")];
    const subject = ["-subj", "/CN=Made by openssl req -x509", "-days", "3650"];
    const bare = scratch.write(
      "bare.cnf",
      "[req]\ndistinguished_name=dn\nx509_extensions=ca\n[dn]\n[ca]\n" +
        "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid:always\nbasicConstraints=critical,CA:true\n",
    );
    const config = ["-config", bare];
    await must("openssl", [
      "req",
      "-x509",
      ...config,
      "-newkey",
      "rsa:2048",
      "-nodes",
      "-keyout",
      key,
      ...subject,
      "-out",
      cert,
    ]);
    const bring = () =>
      scene.admin.ask("POST", "/api/v1/issuers", {
        id: "iss-openssl",
        name: "openssl",
        type: "GenericCA",
        config: { ca_cert_pem: scratch.read("d.pem"), ca_key_pem: scratch.read("d.key") },
      });
    const refused = await bring();
    refusedWith(refused, "-addext keyUsage=critical,keyCertSign,cRLSign");
    const [, remedy = ""] = /\(openssl (.*)\)/.exec(text(refused.body, "message")) ?? [];
    const args = remedy
      .split(" ")
      .flatMap((arg) => (arg === "KEY" ? [key] : arg === "SUBJECT" ? ["/CN=Made right"] : [arg]));
    await must("openssl", [...args, ...config, "-days", "3650", "-out", cert]);
    expect(await bring()).toMatchObject({ status: 201 });
  });

  it("may have a PKCS#8 key without its public key", async () => {
    const ca = await outsideCa({ name: "PKCS8 without public key" });
    const algorithm = sequence(oid("1.2.840.10045.2.1"), oid("1.2.840.10045.3.1.7"));
    const secret = octetString(sequence(integer(1), octetString(ca.keys.pkcs8.subarray(36, 68))));
    const key_pem = encodePem("PRIVATE KEY", sequence(integer(0), algorithm, secret));
    expect(await bringIn("iss-pkcs8", [{ ...ca, key_pem }])).toMatchObject({ status: 201 });
  });
});

describe("a CA with a past", () => {
  const serial = () => toHex(randomSerialNumber());
  const at = new Date(Date.now() - DAY).toISOString();

  async function status(issuerId: string, ca: string, of: string): Promise<string> {
    const url = `${server.url}/.well-known/pki/ocsp/${issuerId}`;
    const asking = ["ocsp", "-issuer", ca, "-serial", `0x${of}`, "-url", url, "-CAfile", ca, "-no_nonce"];
    const { text: said } = await run("openssl", asking);
    return /: (good|revoked|unknown)/.exec(said)?.[1] ?? said;
  }

  it("goes on above its last CRL, and answers for what it had issued and revoked", async () => {
    const ca = await outsideCa({ name: "With a past" });
    const [good, revoked] = [serial(), serial()];
    const crl = await outsideCrl(ca, [{ serial: revoked, at, reason: 4 }], { number: 10n ** 19n + 1n });
    const past = { issued: [{ serial: good }], crl: toBase64(crl) };
    expect(await bringIn("iss-past", [ca], past)).toMatchObject({ status: 201 });
    const pem = await fetchCa(scene, "iss-past");
    expect(await status("iss-past", pem, good)).toBe("good");
    expect(await status("iss-past", pem, revoked)).toBe("revoked");
    expect(await status("iss-past", pem, serial())).toBe("unknown");
    const { bytes } = await scene.admin.send("GET", "/.well-known/pki/crl/iss-past");
    const list = scratch.write("past.crl", bytes);
    const { text: shown } = await must("openssl", ["crl", "-inform", "DER", "-in", list, "-noout", "-crlnumber"]);
    expect(BigInt(shown.trim().replace("crlNumber=", ""))).toBeGreaterThan(10n ** 19n + 1n);
  });

  it("brings 20,000 revocations with it, and 50,000 certificates as lines that come one by one", async () => {
    const ca = await outsideCa({ name: "With a long past" });
    const revocations = Array.from({ length: 20_000 }, () => ({ serial_number: serial(), revoked_at: at }));
    expect(await bringIn("iss-long", [ca], { revocations })).toMatchObject({ status: 201 });
    const serials = Array.from({ length: 50_000 }, serial);
    const lines = Readable.from(serials.map((one) => Buffer.from(`{"serial":"${one}"}\n`)));
    const response = await fetch(`${server.url}/api/v1/issuers/iss-long/issued`, {
      method: "POST",
      headers: { Authorization: `Bearer ${scene.admin.key}`, "Content-Type": "application/x-ndjson" },
      body: Readable.toWeb(lines),
      duplex: "half",
    } as unknown as RequestInit);
    expect(await response.json()).toMatchObject({ lines: 50_000, added: 50_000, failed: 0 });
    const pem = await fetchCa(scene, "iss-long");
    expect(await status("iss-long", pem, serials[49_999] ?? "")).toBe("good");
    expect(await status("iss-long", pem, revocations[19_999]?.serial_number ?? "")).toBe("revoked");
    const body = { serial_number: serials[0], reason: "superseded" };
    expect(await scene.admin.ask("POST", "/api/v1/issuers/iss-long/revoke-serial", body)).toMatchObject({
      status: 200,
    });
    expect(await status("iss-long", pem, serials[0] ?? "")).toBe("revoked");
  });
});
