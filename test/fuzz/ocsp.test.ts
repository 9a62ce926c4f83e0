import { createSign } from "node:crypto";
import fc from "fast-check";
import * as pkijs from "pkijs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Bytes, toBase64, toHex } from "../../src/pki/bytes.ts";
import { decode, oid, sequence } from "../../src/pki/der.ts";
import {
  assembleOcspResponse,
  buildCertId,
  buildOcspRequest,
  buildOcspTbs,
  compileOcspTemplate,
  decodeOcspPath,
  OcspError,
  type OcspRequest,
  type OcspSingleResponse,
  ocspError,
  type ParsedOcspResponse,
  parseOcspRequest,
  parseOcspResponse,
} from "../../src/pki/ocsp.ts";
import { hashOf, keyBitsOf, type OpensslCa, opensslCa } from "../support/openssl.ts";
import { attempt, mutated, reencoded, runs } from "./mutate.ts";

let ca: OpensslCa;
beforeAll(() => {
  ca = opensslCa();
});
afterAll(() => ca.files.remove());

/** The value, or null for the parser's own typed error; anything else that is thrown is a failure. */
function accepted<T>(run: () => T): T | null {
  try {
    return run();
  } catch (error) {
    if (error instanceof OcspError) return null;
    throw error;
  }
}

function certId(hash: "sha1" | "sha256", serial: string): Bytes {
  return buildCertId(hash, hashOf(hash, ca.issuerName), hashOf(hash, keyBitsOf(ca.caDer)), serial);
}

function realRequests(): Bytes[] {
  const openssl = (name: string, ...more: string[]): Bytes => {
    ca.files.run("ocsp", "-issuer", "ca.pem", "-cert", "leaf.pem", ...more, "-reqout", name);
    return ca.files.read(name);
  };
  return [
    openssl("plain.req"),
    openssl("bare.req", "-no_nonce"),
    openssl("three.req", "-sha256", "-serial", "0xff", "-serial", "1"),
    openssl("signed.req", "-signer", "leaf.pem", "-signkey", "leaf.key"),
    buildOcspRequest([certId("sha1", "80"), certId("sha256", "7f")], new Uint8Array(128).fill(7)),
  ];
}

/** Serials (hex without leading zeros) and hashes as one text each. */
function asked(request: OcspRequest): string[] {
  return request.certIds.map((id) => `${toHex(id.issuerNameHash)} ${toHex(id.issuerKeyHash)} ${id.serial}`);
}

function askedOfPkijs(der: Bytes): string[] {
  return pkijs.OCSPRequest.fromBER(der).tbsRequest.requestList.map(({ reqCert }) => {
    const serial = new Uint8Array(reqCert.serialNumber.valueBlock.valueHexView);
    const start = serial[0] === 0 && serial.length > 1 ? 1 : 0;
    const [name, key] = [reqCert.issuerNameHash, reqCert.issuerKeyHash].map((hash) =>
      toHex(new Uint8Array(hash.valueBlock.valueHexView)),
    );
    return `${name} ${key} ${toHex(serial.slice(start))}`;
  });
}

/** What `openssl ocsp` reads, or undefined when it refuses. */
function serialsOfOpenssl(der: Bytes): string[] | undefined {
  ca.files.write("fuzz.req", der);
  const ran = ca.files.try("ocsp", "-reqin", "fuzz.req", "-req_text", "-noverify");
  const lines = ran.text.match(/Serial Number: [0-9A-F]+/g);
  return ran.code === 0 && lines !== null ? lines.map((line) => line.slice(15).toLowerCase()) : undefined;
}

describe("requests", () => {
  test("a typed error, or strict DER of which pkijs and openssl read the same", () => {
    let taken = 0;
    let opensslLeft = 150;
    fc.assert(
      fc.property(mutated(realRequests()), (der) => {
        const request = accepted(() => parseOcspRequest(der));
        if (request === null) return;
        taken++;
        expect(reencoded(decode(der))).toEqual(der);
        const theirs = attempt(() => askedOfPkijs(der));
        if (theirs !== undefined) expect(asked(request)).toEqual([...new Set(theirs)]);
        if (opensslLeft-- > 0) {
          const serials = serialsOfOpenssl(der);
          if (serials !== undefined) expect(request.certIds.map((id) => id.serial)).toEqual([...new Set(serials)]);
        }
      }),
      runs(20_000),
    );
    expect(taken).toBeGreaterThan(100);
  });

  test("what is built is read back", () => {
    const id = fc
      .tuple(fc.boolean(), fc.uint8Array({ minLength: 1, maxLength: 20 }), fc.nat(255))
      .map(([short, serial, fill]) => {
        const [hash, size] = short ? (["sha1", 20] as const) : (["sha256", 32] as const);
        return buildCertId(hash, new Uint8Array(size).fill(fill), new Uint8Array(size).fill(fill + 1), toHex(serial));
      });
    const nonce = fc.option(fc.uint8Array({ minLength: 1, maxLength: 128 }).map((octets) => Uint8Array.from(octets)));
    fc.assert(
      fc.property(fc.uniqueArray(id, { minLength: 1, maxLength: 10, selector: toHex }), nonce, (ids, wanted) => {
        const request = parseOcspRequest(buildOcspRequest(ids, wanted));
        expect(request.certIds.map((read) => read.der)).toEqual(ids);
        expect(request.nonce).toEqual(wanted);
      }),
      runs(1_000),
    );
  });
});

describe("the path form", () => {
  const LETTERS = "MAIC/+=% -_2Ff0aD\n";

  test("mutated and random paths: a typed error, or what base64 says", () => {
    const requests = realRequests();
    const texts = requests.flatMap((der) => [toBase64(der), encodeURIComponent(toBase64(der)), `//${toBase64(der)}`]);
    const path = fc.oneof(
      mutated(texts.map((text) => Uint8Array.from(Buffer.from(text)))).map((octets) =>
        Buffer.from(octets).toString("latin1"),
      ),
      fc.string({ unit: fc.constantFrom(...LETTERS), maxLength: 300 }).map((text) => `M${text}`),
      fc.string({ unit: "binary", maxLength: 100 }),
    );
    let taken = 0;
    fc.assert(
      fc.property(path, (text) => {
        const der = accepted(() => decodeOcspPath(text));
        if (der === null) return;
        taken++;
        const plain = decodeURIComponent(text)
          .replace(/[\r\n]/g, "")
          .replaceAll("_", "/")
          .replace(/[ -]/g, "+");
        const all = plain.replace(/^\/+/, "").replace(/=\/+$/, "=").replace(/=+$/, "");
        const characters = all.slice(0, Math.ceil((der.length * 4) / 3));
        // Slashes at the end are no part of the request.
        expect(all.slice(characters.length)).toMatch(/^\/*$/);
        if (Math.ceil((der.length * 4) / 3) === characters.length)
          expect(der).toEqual(Uint8Array.from(Buffer.from(characters, "base64")));
        else expect(accepted(() => parseOcspRequest(der))).not.toBeNull();
      }),
      runs(20_000),
    );
    expect(taken).toBeGreaterThan(100);
  });

  test("any request in any form comes back, slashes merged or not", () => {
    const slashy = fc.oneof({ weight: 1, arbitrary: fc.constant(0xff) }, { weight: 3, arbitrary: fc.nat(255) });
    const octets = (length: number): fc.Arbitrary<Bytes> =>
      fc.array(slashy, { minLength: length, maxLength: length }).map((list) => Uint8Array.from(list));
    const request = fc
      .tuple(octets(20), octets(20), octets(16), fc.option(octets(16)))
      .map(([name, key, serial, nonce]) => buildOcspRequest([buildCertId("sha1", name, key, toHex(serial))], nonce));
    const flags = { merge: fc.boolean(), encode: fc.boolean(), pad: fc.boolean(), space: fc.boolean() };
    const form = fc.record({ ...flags, lines: fc.boolean() });
    fc.assert(
      fc.property(request, form, fc.nat(3), (der, { merge, encode, pad, space, lines }, slashes) => {
        let text = toBase64(der);
        if (!pad) text = text.replace(/=+$/, "");
        const full = text.length;
        if (merge) text = text.replace(/\/\/+/g, "/");
        const missing = full - text.length;
        const places = text.match(/\/+/g)?.length ?? 0;
        if (lines) text = text.replace(/^.{60}/, "$&\r\n");
        if (encode) text = encodeURIComponent(text);
        else if (space) text = text.replaceAll("+", " ");
        text = text.replace("\r\n", "%0D%0A");
        text = "/".repeat(slashes) + text;
        const found = accepted(() => decodeOcspPath(text, (read) => same(read, der)));
        // Two or three merged places among a handful are always within the bound.
        if (missing <= 2 && places <= 12) expect(found).toEqual(der);
        else if (found !== null) expect(found).toHaveLength(der.length);
      }),
      runs(2_000),
    );
  });

  function same(read: OcspRequest, der: Bytes): boolean {
    const wanted = parseOcspRequest(der);
    return (
      read.certIds.length === wanted.certIds.length &&
      read.certIds.every((id, i) => toHex(id.der) === toHex(wanted.certIds[i]?.der ?? new Uint8Array(0))) &&
      toHex(read.nonce ?? new Uint8Array(0)) === toHex(wanted.nonce ?? new Uint8Array(0))
    );
  }
});

function realResponses(): Bytes[] {
  const key = new TextDecoder().decode(ca.files.read("responder.key"));
  const template = compileOcspTemplate({
    id: { byKey: hashOf("sha1", keyBitsOf(ca.responderDer)) },
    algorithmIdentifier: sequence(oid("1.2.840.10045.4.3.2")),
    certificates: [ca.responderDer],
  });
  const [at, until] = [new Date("2026-11-23T00:00:00Z"), new Date("2026-11-24T00:00:00Z")];
  const responses: OcspSingleResponse[] = [
    { certId: certId("sha1", "01"), status: { type: "good" }, thisUpdate: at, nextUpdate: until },
    { certId: certId("sha256", "ff"), status: { type: "revoked", at, reason: 1 }, thisUpdate: at, nextUpdate: null },
    { certId: certId("sha1", "02"), status: { type: "unknown" }, thisUpdate: at, nextUpdate: until },
  ];
  const signed = (list: OcspSingleResponse[], nonce: Bytes | null): Bytes => {
    const tbs = buildOcspTbs(template, { producedAt: at, responses: list, nonce });
    return assembleOcspResponse(template, tbs, Uint8Array.from(createSign("sha256").update(tbs).sign(key)));
  };
  ca.files.write("index.txt", `V\t301231235959Z\t\t${ca.leafSerial.toUpperCase()}\tunknown\t/CN=leaf\n`);
  ca.files.run("ocsp", "-issuer", "ca.pem", "-cert", "leaf.pem", "-reqout", "their.req");
  ca.files.run(
    ...["ocsp", "-index", "index.txt", "-CA", "ca.pem", "-rsigner", "responder.pem", "-rkey", "responder.key"],
    ...["-reqin", "their.req", "-respout", "their.resp", "-ndays", "1"],
  );
  return [
    signed(responses.slice(0, 1), null),
    signed(responses, new Uint8Array(32).fill(9)),
    ca.files.read("their.resp"),
    ocspError("tryLater"),
  ];
}

function timesOfPkijs(der: Bytes): string[] {
  const outer = pkijs.OCSPResponse.fromBER(der);
  const octets = outer.responseBytes?.response.valueBlock.valueHexView;
  const { producedAt, responses } = pkijs.BasicOCSPResponse.fromBER(Uint8Array.from(octets ?? [])).tbsResponseData;
  return [producedAt, ...responses.map((single) => single.thisUpdate)].map((date) => date.toISOString());
}

function timesOfOurs({ basic }: ParsedOcspResponse): string[] {
  if (basic === null) return [];
  return [basic.producedAt, ...basic.responses.map((single) => single.thisUpdate)].map((date) => date.toISOString());
}

test("responses: a typed error, or strict DER of which pkijs reads the same", () => {
  let taken = 0;
  fc.assert(
    fc.property(mutated(realResponses()), (der) => {
      const response = accepted(() => parseOcspResponse(der));
      if (response === null) return;
      taken++;
      expect(reencoded(decode(der))).toEqual(der);
      if (response.basic === null) return;
      const theirs = attempt(() => timesOfPkijs(der));
      if (theirs !== undefined) expect(timesOfOurs(response)).toEqual(theirs);
    }),
    runs(20_000),
  );
  expect(taken).toBeGreaterThan(100);
});
