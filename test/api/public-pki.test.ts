import { env, exports } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { type Issued, type Ledger, ledgerOf } from "../../src/authority/ledger.ts";
import { type Bytes, digest, fromHex, toBase64, toHex } from "../../src/pki/bytes.ts";
import { parseCertificate } from "../../src/pki/certificate.ts";
import { context, integer, octetString, oid, sequence } from "../../src/pki/der.ts";
import { verify } from "../../src/pki/keys.ts";
import { buildCertId, buildOcspRequest, type CertIdHash, parseOcspResponse } from "../../src/pki/ocsp.ts";
import { decodePem } from "../../src/pki/pem.ts";
import type { Bindings } from "../../src/platform/context.ts";
import { administrator, type Client } from "../support/api.ts";
import { issueLeaf } from "../support/ledgers.ts";

const bindings = env as unknown as Bindings;
const NONCE = oid("1.3.6.1.5.5.7.48.1.2");

interface CaRow {
  readonly ledger_id: string;
  readonly cert_pem: string;
  readonly name_hash_sha1: string;
  readonly key_hash_sha1: string;
  readonly name_hash_sha256: string;
  readonly key_hash_sha256: string;
}

let api: Client;
let issuer: string;
let ca: CaRow;
let ledger: Ledger;
let good: Issued;
let bad: Issued;

beforeAll(async () => {
  api = await administrator();
  issuer = (await api.create<{ id: string }>("/api/v1/issuers", { name: "Public", type: "GenericCA" })).id;
  ca = await rowOf(issuer);
  ledger = ledgerOf({ bindings }, ca.ledger_id);
  [good, bad] = [await issueLeaf(ledger, "good"), await issueLeaf(ledger, "bad")];
  await ledger.revoke([bad.serial], "keyCompromise");
});

async function rowOf(caId: string): Promise<CaRow> {
  const row = await bindings.DB.prepare("select * from certificate_authorities where ca_id = ?")
    .bind(caId)
    .first<CaRow>();
  if (!row) throw new Error("no CA");
  return row;
}

function certId(serial: string, hash: CertIdHash = "sha1", of: CaRow = ca): Bytes {
  return hash === "sha1"
    ? buildCertId("sha1", fromHex(of.name_hash_sha1), fromHex(of.key_hash_sha1), serial)
    : buildCertId("sha256", fromHex(of.name_hash_sha256), fromHex(of.key_hash_sha256), serial);
}

function fetch(path: string, init: RequestInit = {}): Promise<Response> {
  return exports.default.fetch(new Request(`http://localhost/.well-known/pki/${path}`, init));
}

async function statuses(response: Response) {
  expect(response.status).toBe(200);
  expect(response.headers.get("Content-Type")).toBe("application/ocsp-response");
  const parsed = parseOcspResponse(new Uint8Array(await response.arrayBuffer()));
  if (!parsed.basic) return [parsed.status];
  return parsed.basic.responses.map((single) => single.status.type);
}

/** Serial and status of each single response: what was asked, and what is said of it. */
async function about(response: Response) {
  const { basic } = parseOcspResponse(new Uint8Array(await response.arrayBuffer()));
  return (basic?.responses ?? []).map((single) => [single.certId.serial, single.status.type]);
}

function post(request: Bytes, headers: Record<string, string> = { "Content-Type": "application/ocsp-request" }) {
  return fetch(`ocsp/${issuer}`, { method: "POST", body: request, headers });
}

const get = (request: Bytes) => fetch(`ocsp/${issuer}/${encodeURIComponent(toBase64(request))}`);

describe("OCSP", () => {
  it("answers GET, POST and the hex form alike, for SHA-1 and SHA-256 CertIDs", async () => {
    for (const [issued, status] of [
      [good, "good"],
      [bad, "revoked"],
    ] as const) {
      for (const hash of ["sha1", "sha256"] as const) {
        const request = buildOcspRequest([certId(issued.serial, hash)]);
        expect(await statuses(await get(request))).toEqual([status]);
        expect(await statuses(await post(request))).toEqual([status]);
      }
      expect(await statuses(await fetch(`ocsp/${issuer}/${issued.serial}`))).toEqual([status]);
      expect(await statuses(await fetch(`ocsp/${issuer}/000${issued.serial.toUpperCase()}`))).toEqual([status]);
    }
  });

  it("is signed by a delegated responder that the CA certified for just that", async () => {
    const response = await post(buildOcspRequest([certId(good.serial)]));
    const { basic } = parseOcspResponse(new Uint8Array(await response.arrayBuffer()));
    const [der] = basic?.certificates ?? [];
    if (!basic || !der) throw new Error("no delegated certificate");
    const responder = parseCertificate(der);
    expect(responder).toMatchObject({ extendedKeyUsage: ["OCSPSigning"], ocspNoCheck: true });
    const root = parseCertificate(decodePem(ca.cert_pem)[0]?.der ?? new Uint8Array(0));
    expect(await verify(root.publicKey, responder.signatureAlgorithm, responder.signature, responder.tbs)).toBe(true);
    expect(await verify(responder.publicKey, basic.algorithmIdentifier, basic.signature, basic.tbs)).toBe(true);
  });

  it("says unknown, never good, for a serial that was never issued, and compares both issuer hashes", async () => {
    expect(await statuses(await post(buildOcspRequest([certId("0123456789")])))).toEqual(["unknown"]);
    const name = buildCertId("sha1", fromHex("00".repeat(20)), fromHex(ca.key_hash_sha1), good.serial);
    const key = buildCertId("sha1", fromHex(ca.name_hash_sha1), fromHex("00".repeat(20)), good.serial);
    for (const foreign of [name, key]) {
      const response = await post(buildOcspRequest([foreign]));
      expect(response.headers.get("Cache-Control")).toContain("no-store");
      expect(await statuses(response)).toEqual(["unauthorized"]);
    }
  });

  it("answers several requests in one, and echoes a nonce without letting anybody store it", async () => {
    const several = buildOcspRequest([certId(good.serial), certId(bad.serial), certId("77")]);
    expect(await statuses(await post(several))).toEqual(["good", "revoked", "unknown"]);
    const nonce = crypto.getRandomValues(new Uint8Array(32));
    const response = await post(buildOcspRequest([certId(good.serial)], nonce));
    expect(response.headers.get("Cache-Control")).toContain("no-store");
    const { basic } = parseOcspResponse(new Uint8Array(await response.arrayBuffer()));
    expect(basic?.nonce).toEqual(nonce);
    expect(basic?.extensionOids).toEqual(["1.3.6.1.5.5.7.48.1.2"]);
  });

  it("may be cached for less than it is valid, and is not sent again to who has it", async () => {
    const response = await get(buildOcspRequest([certId(good.serial)]));
    const headers = response.headers;
    expect(headers.get("Cache-Control")).toBe("max-age=300, public, no-transform, must-revalidate");
    expect(headers.get("Cache-Tag")).toContain(`ocsp-${ca.ledger_id}-${good.serial}`);
    const parsed = parseOcspResponse(new Uint8Array(await response.arrayBuffer())).basic?.responses[0];
    expect(headers.get("Last-Modified")).toBe(parsed?.thisUpdate.toUTCString());
    expect(headers.get("Expires")).toBe(parsed?.nextUpdate?.toUTCString());
    const again = await fetch(
      `ocsp/${issuer}/${encodeURIComponent(toBase64(buildOcspRequest([certId(good.serial)])))}`,
      {
        headers: { "If-None-Match": headers.get("ETag") ?? "" },
      },
    );
    expect(again.status).toBe(304);
  });

  it("takes what clients write beyond DER and RFC 6960: defaults, a bare nonce, other hashes, line breaks, slashes", async () => {
    const id = certId(good.serial);
    const nonce = crypto.getRandomValues(new Uint8Array(16));
    const extension = sequence(NONCE, new Uint8Array([1, 1, 0]), octetString(nonce));
    const list = sequence(sequence(id));
    const lax = sequence(sequence(context(0, true, integer(0)), list, context(2, true, sequence(extension))));
    for (const response of [await post(lax), await get(lax)]) {
      expect(response.headers.get("Cache-Control")).toContain("no-store");
      const body = new Uint8Array(await response.arrayBuffer());
      expect(toHex(body)).toContain(toHex(sequence(NONCE, octetString(nonce))));
    }
    const certificate = parseCertificate(decodePem(ca.cert_pem)[0]?.der ?? new Uint8Array(0));
    for (const [hash, algorithm] of [
      ["sha384", "SHA-384"],
      ["sha512", "SHA-512"],
    ] as const) {
      const [name, key] = [certificate.subject.der, certificate.publicKey.keyBits];
      const about = async (serial: string, of = key) =>
        buildOcspRequest([buildCertId(hash, await digest(algorithm, name), await digest(algorithm, of), serial)]);
      expect(await statuses(await post(await about(good.serial)))).toEqual(["good"]);
      expect(await statuses(await get(await about(bad.serial)))).toEqual(["revoked"]);
      expect(await statuses(await get(await about(bad.serial, name)))).toEqual(["unauthorized"]);
    }
    const request = buildOcspRequest([id]);
    const text = encodeURIComponent(toBase64(request));
    for (const tail of [
      `${text}/`,
      text.replace(/.{40}/g, "$&%0A"),
      text.replace(/.{40}/g, "$&%0d%0a"),
      `${good.serial}/`,
    ])
      expect([tail, await statuses(await fetch(`ocsp/${issuer}/${tail}`))]).toEqual([tail, ["good"]]);
    const headers = { "Content-Type": "application/ocsp-request" };
    const slashed = await fetch(`ocsp/${issuer}/`, { method: "POST", body: request, headers });
    expect(await statuses(slashed)).toEqual(["good"]);
    expect((await fetch(`ocsp/${issuer}/`)).headers.get("Allow")).toBe("POST");
  });

  it("answers for the CAs below, in one request with several as in one with one", async () => {
    const { id } = await api.create<{ id: string }>(`/api/v1/issuers/${issuer}/intermediates`, { name: "Below" });
    const below = await rowOf(id);
    const under = ledgerOf({ bindings }, below.ledger_id);
    const [held, ended] = [await issueLeaf(under, "below-good"), await issueLeaf(under, "below-bad")];
    await under.revoke([ended.serial], "superseded");
    const ids = [
      ...[
        certId(good.serial),
        certId(held.serial, "sha256", below),
        certId(bad.serial),
        certId(ended.serial, "sha1", below),
      ],
      ...[certId(held.serial), certId(good.serial, "sha1", below)],
    ];
    const each = [];
    for (const one of ids) each.push(...(await statuses(await post(buildOcspRequest([one])))));
    expect(each).toEqual(["good", "good", "revoked", "revoked", "unknown", "unknown"]);
    expect(await statuses(await post(buildOcspRequest(ids)))).toEqual(each);
    expect(await statuses(await post(buildOcspRequest([...ids].reverse())))).toEqual([...each].reverse());
  });

  it("inv 10: bad paths, types, sizes and names have the status that says what is wrong", async () => {
    expect((await fetch(`ocsp/${issuer}/hello`)).status).toBe(400);
    expect((await fetch(`ocsp/${issuer}/${"1".repeat(41)}`)).status).toBe(400);
    expect((await fetch("ocsp/iss-nobody/01")).status).toBe(404);
    expect((await fetch(`ocsp/${issuer}`)).headers.get("Allow")).toBe("POST");
    expect((await post(new Uint8Array(10), { "Content-Type": "text/plain" })).status).toBe(415);
    expect((await post(new Uint8Array(11_000))).status).toBe(413);
    expect(await statuses(await post(new Uint8Array([0x30, 0x80, 0, 0])))).toEqual(["malformedRequest"]);
    expect(await statuses(await fetch(`ocsp/${issuer}/MAMA`))).toEqual(["malformedRequest"]);
    const envelope = (await (await fetch("ocsp/iss-nobody/01")).json()) as Record<string, string>;
    expect(Object.keys(envelope).sort()).toEqual(["error", "message", "request_id"]);
  });

  it("inv 4: under load each asker gets the answer to its own question", async () => {
    const issued = await Promise.all(Array.from({ length: 40 }, (_, i) => issueLeaf(ledger, `load-${i}`)));
    const half = issued.filter((_, i) => i % 2 === 0);
    await Promise.all(half.map((one) => ledger.revoke([one.serial], "superseded")));
    const truth = issued.map((one, i) => [one.serial, i % 2 === 0 ? "revoked" : "good"]);
    const several = issued.slice(0, 8).map((one) => certId(one.serial));
    const [posted, got, named, together] = await Promise.all([
      Promise.all(issued.map(async (one) => about(await post(buildOcspRequest([certId(one.serial)]))))),
      Promise.all(issued.map(async (one) => about(await get(buildOcspRequest([certId(one.serial)]))))),
      Promise.all(issued.map(async (one) => about(await fetch(`ocsp/${issuer}/${one.serial}`)))),
      about(await post(buildOcspRequest(several))),
    ]);
    for (const answers of [posted, got, named]) expect(answers.flat()).toEqual(truth);
    expect(together).toEqual(truth.slice(0, 8));
  });
});

describe("CRL and CA certificate", () => {
  it("have their types and caching headers, answer HEAD and 304", async () => {
    const list = await fetch(`crl/${issuer}`);
    expect(list.status).toBe(200);
    expect(list.headers.get("Content-Type")).toBe("application/pkix-crl");
    expect(list.headers.get("Cache-Control")).toMatch(/^max-age=\d+, public, no-transform, must-revalidate$/);
    const etag = list.headers.get("ETag") ?? "";
    expect(etag).toMatch(/^"[^"]+"$/);
    await list.arrayBuffer();
    expect((await fetch(`crl/${issuer}`, { headers: { "If-None-Match": etag } })).status).toBe(304);
    const head = await fetch(`crl/${issuer}`, { method: "HEAD" });
    expect(head.headers.get("ETag")).toBe(etag);
    const since = { "If-Modified-Since": list.headers.get("Last-Modified") ?? "" };
    expect((await fetch(`crl/${issuer}`, { headers: since })).status).toBe(304);
    expect((await fetch(`crl/${issuer}/1`)).status).toBe(404);
    expect((await fetch(`crl/${issuer}`, { method: "DELETE" })).headers.get("Allow")).toBe("GET, HEAD");
    expect((await fetch("ca/nobody")).status).toBe(404);
    expect((await fetch(`ca/${issuer}`, { method: "HEAD" })).headers.get("Content-Type")).toBe("application/pkix-cert");
    expect((await fetch("something/else")).status).toBe(404);
  });

  it("the state of every list is told to who may know it", async () => {
    const answer = await api.get<{ row_count: number; cache_rows: { ca_id: string; crl_number: number }[] }>(
      "/api/v1/admin/crl/cache",
    );
    expect(answer.body.row_count).toBe(answer.body.cache_rows.length);
    expect(answer.body.cache_rows).toContainEqual(
      expect.objectContaining({ ca_id: issuer, crl_number: expect.any(Number) }),
    );
  });
});
