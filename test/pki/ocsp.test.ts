import { createSign, createVerify, X509Certificate } from "node:crypto";
import * as asn1js from "asn1js";
import * as pkijs from "pkijs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Bytes, fromHex, toHex } from "../../src/pki/bytes.ts";
import { context, integer, octetString, oid, sequence, tlv } from "../../src/pki/der.ts";
import {
  assembleOcspResponse,
  buildCertId,
  buildOcspRequest,
  buildOcspTbs,
  type CertIdHash,
  canonicalCertId,
  compileOcspTemplate,
  OcspError,
  type OcspResponder,
  type OcspSingleResponse,
  ocspError,
  parseCertId,
  parseOcspRequest,
  parseOcspResponse,
} from "../../src/pki/ocsp.ts";
import { hashOf, keyBitsOf, type OpensslCa, opensslCa, subjectOf } from "../support/openssl.ts";

const SHA256_WITH_ECDSA = sequence(oid("1.2.840.10045.4.3.2"));

let ca: OpensslCa;
beforeAll(() => {
  ca = opensslCa();
});
afterAll(() => ca.files.remove());

function certIdFor(hash: CertIdHash, serial: string): Bytes {
  return buildCertId(hash, hashOf(hash, ca.issuerName), hashOf(hash, keyBitsOf(ca.caDer)), serial);
}

function byteString(length: number, seed: number): Bytes {
  return Uint8Array.from({ length }, (_, i) => (seed + 7 * i) & 0xff);
}

function statusOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof OcspError) return error.status;
    throw error;
  }
  return "accepted";
}

const delegated = (): OcspResponder => ({
  id: { byKey: hashOf("sha1", keyBitsOf(ca.responderDer)) },
  algorithmIdentifier: SHA256_WITH_ECDSA,
  certificates: [ca.responderDer],
});

describe("requests", () => {
  test.each(["sha1", "sha256", "sha384", "sha512"] as const)("openssl's own, with %s CertIDs and a nonce", (hash) => {
    ca.files.run(
      ...["ocsp", `-${hash}`, "-issuer", "ca.pem", "-cert", "leaf.pem", "-serial", "0x00ff", "-serial", "5"],
      ...["-reqout", "request.der"],
    );
    const der = ca.files.read("request.der");
    const { certIds, nonce } = parseOcspRequest(der);
    expect(certIds.map((certId) => certId.hash)).toEqual([hash, hash, hash]);
    expect(certIds.map((certId) => certId.serial)).toEqual([ca.leafSerial, "ff", "05"]);
    for (const { issuerNameHash, issuerKeyHash } of certIds) {
      expect(issuerNameHash).toEqual(hashOf(hash, ca.issuerName));
      expect(issuerKeyHash).toEqual(hashOf(hash, keyBitsOf(ca.caDer)));
    }
    expect(nonce?.length).toBe(16);
    // What was read, written again, is the request itself.
    expect(
      buildOcspRequest(
        certIds.map((certId) => certId.der),
        nonce,
      ),
    ).toEqual(der);
  });

  test("ours are read by openssl", () => {
    const request = buildOcspRequest([certIdFor("sha256", "00ab"), certIdFor("sha1", "7f")], byteString(32, 1));
    ca.files.write("ours.der", request);
    const { text } = ca.files.run("ocsp", "-reqin", "ours.der", "-req_text", "-noverify");
    expect(text).toContain("Hash Algorithm: sha256");
    expect(text).toContain("Hash Algorithm: sha1");
    expect(text).toContain("Serial Number: AB");
    expect(text).toContain("OCSP Nonce");
  });

  test("a signed one with requestorName, whose signature is not looked at", () => {
    ca.files.run(
      ...["ocsp", "-issuer", "ca.pem", "-cert", "leaf.pem", "-signer", "leaf.pem", "-signkey", "leaf.key"],
      ...["-reqout", "signed.der"],
    );
    const der = ca.files.read("signed.der");
    expect(new TextDecoder("latin1").decode(der)).toContain("leaf");
    expect(parseOcspRequest(der).certIds[0]?.serial).toBe(ca.leafSerial);
  });

  test("a CertID that stands twice is asked once; the key text tells different ones apart and back", () => {
    const [one, other] = [certIdFor("sha1", "0102"), certIdFor("sha1", "010203")];
    const { certIds } = parseOcspRequest(buildOcspRequest([one, other, one, one]));
    expect(certIds.map((certId) => certId.serial)).toEqual(["0102", "010203"]);
    const texts = certIds.map(canonicalCertId);
    expect(new Set(texts).size).toBe(2);
    expect(texts.map((text) => parseCertId(fromHex(text)))).toEqual(certIds);
  });

  test("hash parameters may be absent, and the CertID is kept as it was sent", () => {
    const bare = sequence(
      sequence(oid("1.3.14.3.2.26")),
      octetString(byteString(20, 3)),
      octetString(byteString(20, 4)),
      integer(9),
    );
    const [certId] = parseOcspRequest(buildOcspRequest([bare])).certIds;
    expect(certId?.hash).toBe("sha1");
    expect(certId?.der).toEqual(bare);
  });

  test("ten in one, not eleven, not none", () => {
    const many = (count: number): Bytes =>
      buildOcspRequest(Array.from({ length: count }, (_, i) => certIdFor("sha1", toHex(new Uint8Array([i + 1])))));
    expect(parseOcspRequest(many(10)).certIds).toHaveLength(10);
    expect(statusOf(() => parseOcspRequest(many(11)))).toBe("malformedRequest");
    expect(statusOf(() => parseOcspRequest(many(0)))).toBe("malformedRequest");
  });

  test("nonces of 1 to 128 octets and no others (RFC 9654)", () => {
    for (const length of [1, 16, 32, 128]) {
      const nonce = byteString(length, length);
      expect(parseOcspRequest(buildOcspRequest([certIdFor("sha1", "01")], nonce)).nonce).toEqual(nonce);
    }
    for (const length of [0, 129, 1000]) {
      const request = buildOcspRequest([certIdFor("sha1", "01")], byteString(length, 1));
      expect(statusOf(() => parseOcspRequest(request))).toBe("malformedRequest");
    }
  });

  const withExtensions = (...extensions: Bytes[]): Bytes =>
    sequence(sequence(sequence(sequence(certIdFor("sha1", "01"))), context(2, true, sequence(...extensions))));
  const TRUE = new Uint8Array([1, 1, 0xff]);
  const NONCE = oid("1.3.6.1.5.5.7.48.1.2");

  test("extensions: unknown ones are ignored unless critical", () => {
    const unknown = oid("1.2.3.4");
    const nonce = octetString(octetString(byteString(8, 1)));
    const accepted = [
      withExtensions(sequence(unknown, octetString())),
      withExtensions(sequence(NONCE, TRUE, nonce), sequence(unknown, octetString())),
      withExtensions(sequence(oid("1.3.6.1.5.5.7.48.1.4"), TRUE, octetString(sequence(oid("1.3.6.1.5.5.7.48.1.1"))))),
    ];
    for (const request of accepted) expect(parseOcspRequest(request).certIds).toHaveLength(1);
    const refused = [
      withExtensions(),
      withExtensions(sequence(unknown, TRUE, octetString())),
      withExtensions(sequence(unknown, new Uint8Array([1, 1, 1]), octetString())),
      withExtensions(sequence(unknown, new Uint8Array([1, 2, 0, 0]), octetString())),
      withExtensions(sequence(NONCE, nonce), sequence(NONCE, nonce)),
      withExtensions(sequence(NONCE, octetString())),
      withExtensions(sequence(NONCE, octetString(byteString(129, 1)))),
      sequence(
        sequence(
          sequence(
            sequence(certIdFor("sha1", "01"), context(0, true, sequence(sequence(unknown, TRUE, octetString())))),
          ),
        ),
      ),
    ];
    for (const request of refused) expect(statusOf(() => parseOcspRequest(request))).toBe("malformedRequest");
  });

  test("defaults may be written out: version v1, critical FALSE", () => {
    const FALSE = new Uint8Array([1, 1, 0]);
    const list = sequence(sequence(certIdFor("sha1", "01")));
    const nonce = byteString(8, 1);
    const extensions = context(2, true, sequence(sequence(NONCE, FALSE, octetString(octetString(nonce)))));
    const unknown = context(2, true, sequence(sequence(oid("1.2.3.4"), FALSE, octetString())));
    const version = (number: number): Bytes => context(0, true, integer(number));
    const read = parseOcspRequest(sequence(sequence(version(0), list, extensions)));
    expect(read).toMatchObject({ nonce, bareNonce: false });
    expect(read.certIds).toHaveLength(1);
    expect(parseOcspRequest(sequence(sequence(version(0), list, unknown))).nonce).toBeNull();
    for (const bad of [version(1), context(0, true), context(0, true, integer(0), integer(0)), context(0, true, list)])
      expect(statusOf(() => parseOcspRequest(sequence(sequence(bad, list))))).toBe("malformedRequest");
  });

  test("a nonce without an OCTET STRING of its own is taken, and its echo has the same form", () => {
    const template = compileOcspTemplate(delegated());
    const at = new Date("2026-11-01T00:00:00Z");
    const responses = [
      { certId: certIdFor("sha1", "01"), status: { type: "good" }, thisUpdate: at, nextUpdate: null },
    ] as const;
    const seen = byteString(16, 9);
    // As long as a wrapped one says, too long, too short, a length that DER would not write, and a header alone.
    const bare = [seen, [4, 5, 1, 2, 3, 4], [4, 3, 1, 2, 3, 4], [4, 0x81, 2, 1, 2], [4], [4, 0x81, 0x80]];
    for (const octets of bare.map((one) => Uint8Array.from(one))) {
      const { nonce, bareNonce } = parseOcspRequest(withExtensions(sequence(NONCE, octetString(octets))));
      expect({ nonce, bareNonce }).toEqual({ nonce: octets, bareNonce: true });
      const tbs = buildOcspTbs(template, { producedAt: at, responses, nonce, bareNonce });
      expect(toHex(tbs)).toContain(toHex(sequence(NONCE, octetString(octets))));
    }
    for (const length of [1, 127, 128]) {
      const extension = sequence(NONCE, octetString(octetString(byteString(length, 4))));
      const { nonce, bareNonce } = parseOcspRequest(withExtensions(extension));
      expect({ nonce, bareNonce }).toEqual({ nonce: byteString(length, 4), bareNonce: false });
      expect(toHex(buildOcspTbs(template, { producedAt: at, responses, nonce, bareNonce }))).toContain(
        toHex(extension),
      );
    }
  });

  test("what is not strict DER or not a request is malformed; an unknown hash is unauthorized", () => {
    const good = buildOcspRequest([certIdFor("sha1", ca.leafSerial)], byteString(32, 5));
    for (let cut = 0; cut < good.length; cut++) {
      expect(statusOf(() => parseOcspRequest(good.slice(0, cut)))).toBe("malformedRequest");
    }
    const indefinite = Uint8Array.from([0x30, 0x80, ...good.slice(3), 0, 0]);
    const certId = (serial: Bytes, algorithm = sequence(oid("1.3.14.3.2.26"))): Bytes =>
      sequence(algorithm, octetString(byteString(20, 1)), octetString(byteString(20, 2)), serial);
    const bad = [
      Uint8Array.from([...good, 0]),
      indefinite,
      new Uint8Array(10_241),
      new Uint8Array(10_000_000),
      buildOcspRequest([certId(tlv(2))]),
      buildOcspRequest([certId(tlv(2, new Uint8Array([0x80])))]),
      buildOcspRequest([certId(tlv(2, new Uint8Array([0, 1])))]),
      buildOcspRequest([certId(integer(byteString(21, 1)))]),
      buildOcspRequest([
        sequence(
          sequence(oid("1.3.14.3.2.26")),
          octetString(byteString(19, 1)),
          octetString(byteString(20, 1)),
          integer(1),
        ),
      ]),
      sequence(sequence(context(0, true, integer(1)), sequence(sequence(certId(integer(1)))))),
    ];
    for (const request of bad) expect(statusOf(() => parseOcspRequest(request))).toBe("malformedRequest");
    const sha224 = buildOcspRequest([certId(integer(1), sequence(oid("2.16.840.1.101.3.4.2.4")))]);
    expect(statusOf(() => parseOcspRequest(sha224))).toBe("unauthorized");
  });
});

/** Signs with a key of the openssl CA. */
function respond(
  responder: OcspResponder,
  keyFile: string,
  responses: OcspSingleResponse[],
  nonce: Bytes | null = null,
): Bytes {
  const template = compileOcspTemplate(responder);
  const tbs = buildOcspTbs(template, { producedAt: new Date(), responses, nonce });
  const key = new TextDecoder().decode(ca.files.read(keyFile));
  return assembleOcspResponse(template, tbs, new Uint8Array(createSign("sha256").update(tbs).sign(key)));
}

describe("responses", () => {
  const now = Math.floor(Date.now() / 1000) * 1000;
  const [thisUpdate, nextUpdate] = [new Date(now - 3_600_000), new Date(now + 86_400_000)];
  const revokedAt = new Date(now - 7_200_000);

  test("good, revoked with reason and unknown in one, delegated, with the nonce: openssl ocsp verifies", () => {
    ca.files.run(
      ...["ocsp", "-issuer", "ca.pem", "-cert", "leaf.pem", "-serial", "0x0101", "-sha256", "-serial", "0x0202"],
      ...["-sha1", "-serial", "0x0303", "-reqout", "three.der"],
    );
    const { certIds, nonce } = parseOcspRequest(ca.files.read("three.der"));
    const statuses: OcspSingleResponse["status"][] = [
      { type: "good" },
      { type: "revoked", at: revokedAt, reason: 1 },
      { type: "unknown" },
      { type: "revoked", at: revokedAt, reason: 0 },
    ];
    const responses = certIds.map((certId, i) => ({
      certId: certId.der,
      status: statuses[i] ?? { type: "unknown" as const },
      thisUpdate,
      nextUpdate,
    }));
    ca.files.write("three.resp", respond(delegated(), "responder.key", responses, nonce));
    const ran = ca.files.run(
      ...["ocsp", "-respin", "three.resp", "-CAfile", "ca.pem", "-issuer", "ca.pem", "-cert", "leaf.pem"],
      ...["-no_nonce", "-resp_text"],
    );
    expect(ran.stderr).toContain("Response verify OK");
    expect(ran.stderr).not.toContain("WARNING");
    expect(ran.text).toContain("leaf.pem: good");
    expect(ran.text).toContain("Cert Status: revoked");
    expect(ran.text).toContain("Revocation Reason: keyCompromise (0x1)");
    expect(ran.text.match(/Revocation Reason/g)).toHaveLength(1);
    expect(ran.text).toContain("Cert Status: unknown");
    expect(ran.text).toContain(toHex(nonce ?? new Uint8Array(0)).toUpperCase());
  });

  test("signed by the CA itself, responder byName, nothing embedded", () => {
    const certId = certIdFor("sha1", ca.leafSerial);
    const responder = { id: { byName: ca.issuerName }, algorithmIdentifier: SHA256_WITH_ECDSA, certificates: [] };
    const der = respond(responder, "ca.key", [{ certId, status: { type: "good" }, thisUpdate, nextUpdate: null }]);
    ca.files.write("ca.resp", der);
    const ran = ca.files.run(
      ...["ocsp", "-respin", "ca.resp", "-CAfile", "ca.pem", "-issuer", "ca.pem", "-cert", "leaf.pem", "-no_nonce"],
    );
    expect(ran.stderr).toContain("Response verify OK");
    expect(der.length).toBeLessThan(400);
  });

  test("read back by us: the same values, the same octets, a signature that holds", () => {
    const nonce = byteString(128, 9);
    const responses: OcspSingleResponse[] = [
      { certId: certIdFor("sha256", "ff"), status: { type: "good" }, thisUpdate, nextUpdate },
      {
        certId: certIdFor("sha1", "01"),
        status: { type: "revoked", at: revokedAt, reason: 6 },
        thisUpdate,
        nextUpdate,
      },
      {
        certId: certIdFor("sha1", "02"),
        status: { type: "revoked", at: revokedAt, reason: 0 },
        thisUpdate,
        nextUpdate: null,
      },
      { certId: certIdFor("sha1", "03"), status: { type: "unknown" }, thisUpdate, nextUpdate },
    ];
    const responder = delegated();
    const der = respond(responder, "responder.key", responses, nonce);
    const { status, basic } = parseOcspResponse(der);
    expect(status).toBe("successful");
    if (basic === null) throw new Error("no basic response");
    expect(basic.responses.map((single) => ({ ...single, certId: single.certId.der }))).toEqual(
      responses.map((single) => ({ ...single, extensionOids: [] })),
    );
    expect(basic.responderId).toEqual(responder.id);
    expect(basic.nonce).toEqual(nonce);
    expect(basic.certificates).toEqual([ca.responderDer]);
    const key = new X509Certificate(ca.responderDer).publicKey;
    expect(createVerify("sha256").update(basic.tbs).verify(key, basic.signature)).toBe(true);
    const template = compileOcspTemplate(responder);
    const tbs = buildOcspTbs(template, { producedAt: basic.producedAt, responses, nonce });
    expect(tbs).toEqual(basic.tbs);
    expect(assembleOcspResponse(template, tbs, basic.signature)).toEqual(der);
  });

  test("openssl's own responder is read, and pkijs reads ours alike", () => {
    const expiry = "301231235959Z";
    ca.files.write(
      "index.txt",
      `R\t${expiry}\t260101000000Z,keyCompromise\t${ca.leafSerial.toUpperCase()}\tunknown\t/CN=leaf\n`,
    );
    ca.files.run(
      "ocsp",
      "-issuer",
      "ca.pem",
      "-cert",
      "leaf.pem",
      "-sha256",
      "-serial",
      "0x99",
      "-reqout",
      "their.req",
    );
    ca.files.run(
      ...["ocsp", "-index", "index.txt", "-CA", "ca.pem", "-rsigner", "responder.pem", "-rkey", "responder.key"],
      ...["-reqin", "their.req", "-respout", "their.resp", "-ndays", "1"],
    );
    const theirs = parseOcspResponse(ca.files.read("their.resp"));
    expect(theirs.basic?.responses.map((single) => single.status)).toEqual([
      { type: "revoked", at: new Date("2026-01-01T00:00:00Z"), reason: 1 },
      { type: "unknown" },
    ]);
    const certId = certIdFor("sha1", "0badc0de");
    const ours = respond(delegated(), "responder.key", [
      { certId, status: { type: "revoked", at: revokedAt, reason: 4 }, thisUpdate, nextUpdate },
    ]);
    const outer = pkijs.OCSPResponse.fromBER(ours);
    const octets = outer.responseBytes?.response.valueBlock.valueHexView;
    const read = pkijs.BasicOCSPResponse.fromBER(new Uint8Array(octets ?? []));
    expect(read.tbsResponseData.responses[0]?.thisUpdate).toEqual(thisUpdate);
    expect(read.tbsResponseData.responses[0]?.nextUpdate).toEqual(nextUpdate);
    const status = read.tbsResponseData.responses[0]?.certStatus;
    expect(status).toBeInstanceOf(asn1js.Constructed);
    expect(status.idBlock.tagNumber).toBe(1);
  });

  test("RSA signatures of 256 octets come out right too", () => {
    const rsa = opensslCa("rsa");
    try {
      const template = compileOcspTemplate({
        id: { byName: subjectOf(rsa.responderDer) },
        algorithmIdentifier: sequence(oid("1.2.840.113549.1.1.11"), new Uint8Array([5, 0])),
        certificates: [rsa.responderDer],
      });
      const certId = buildCertId(
        "sha1",
        hashOf("sha1", rsa.issuerName),
        hashOf("sha1", keyBitsOf(rsa.caDer)),
        rsa.leafSerial,
      );
      const single: OcspSingleResponse = { certId, status: { type: "good" }, thisUpdate, nextUpdate };
      const tbs = buildOcspTbs(template, { producedAt: new Date(), responses: [single], nonce: null });
      const key = new TextDecoder().decode(rsa.files.read("responder.key"));
      const signature = new Uint8Array(createSign("sha256").update(tbs).sign(key));
      rsa.files.write("rsa.resp", assembleOcspResponse(template, tbs, signature));
      const ran = rsa.files.run(
        ...["ocsp", "-respin", "rsa.resp", "-CAfile", "ca.pem", "-issuer", "ca.pem", "-cert", "leaf.pem", "-no_nonce"],
      );
      expect(ran.stderr).toContain("Response verify OK");
    } finally {
      rsa.files.remove();
    }
  });

  test("error answers are the five octets of their status, and openssl names them", () => {
    const names = {
      malformedRequest: "malformedrequest",
      internalError: "internalerror",
      tryLater: "trylater",
      unauthorized: "unauthorized",
    } as const;
    for (const [status, name] of Object.entries(names)) {
      const der = ocspError(status as keyof typeof names);
      expect(der).toHaveLength(5);
      expect(parseOcspResponse(der)).toEqual({ status, basic: null });
      ca.files.write("error.resp", der);
      expect(ca.files.try("ocsp", "-respin", "error.resp", "-noverify").text).toContain(`Responder Error: ${name}`);
    }
  });

  test("impossible values are refused when building", () => {
    const template = compileOcspTemplate(delegated());
    const single = { certId: certIdFor("sha1", "01"), thisUpdate, nextUpdate };
    const build = (status: OcspSingleResponse["status"], nonce: Bytes | null = null): Bytes =>
      buildOcspTbs(template, { producedAt: new Date(), responses: [{ ...single, status }], nonce });
    for (const reason of [-1, 7, 11, 1.5, Number.NaN]) {
      expect(() => build({ type: "revoked", at: revokedAt, reason })).toThrow(RangeError);
    }
    for (const length of [0, 129]) expect(() => build({ type: "good" }, byteString(length, 1))).toThrow(RangeError);
    expect(() => buildOcspTbs(template, { producedAt: new Date(), responses: [], nonce: null })).toThrow(RangeError);
    expect(() => compileOcspTemplate({ ...delegated(), id: { byKey: byteString(32, 1) } })).toThrow(RangeError);
  });

  test("truncated or padded responses are refused", () => {
    const der = respond(delegated(), "responder.key", [
      { certId: certIdFor("sha1", "01"), status: { type: "good" }, thisUpdate, nextUpdate },
    ]);
    for (let cut = 0; cut < der.length; cut += 3) expect(() => parseOcspResponse(der.slice(0, cut))).toThrow(OcspError);
    expect(() => parseOcspResponse(Uint8Array.from([...der, 0]))).toThrow(OcspError);
  });
});
