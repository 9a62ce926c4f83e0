import * as asn1js from "asn1js";
import * as pkijs from "pkijs";
import { type Bytes, fromHex } from "../src/pki/bytes.ts";
import {
  assembleCertificate,
  buildRootTbs,
  buildTbsCertificate,
  compileIssuerTemplate,
  parseCertificate,
  signTbs,
} from "../src/pki/certificate.ts";
import { CrlChecker, crlChunks, crlEntryLength, crlLength, planCrl, signCrl, writeCrlEntry } from "../src/pki/crl.ts";
import {
  generateKeyPair,
  importSigner,
  importStreamSigner,
  keyIdentifier,
  type PublicKeyInfo,
  parseSpki,
} from "../src/pki/keys.ts";
import { encodeName } from "../src/pki/names.ts";
import {
  assembleOcspResponse,
  buildCertId,
  buildOcspRequest,
  buildOcspTbs,
  compileOcspTemplate,
  decodeOcspPath,
  parseOcspRequest,
  parseOcspResponse,
} from "../src/pki/ocsp.ts";
import { importStreamVerifier } from "../src/pki/stream-verifier.ts";

/**
 * The Worker that bench/codec.ts times from outside: `/run?op=...&n=...` runs one job n times, `/crl?n=...` builds a
 * CRL of that many entries and answers its length, with `&check` it also reads the CRL back.
 */

type Job = () => { readonly length: number };

/** Placeholder for a P-256 signature: the timed jobs do not sign. */
const SIGNATURE = fromHex(`30450220${"5a".repeat(32)}022100${"a5".repeat(32)}`);
const SERIAL = fromHex("5f0123456789abcdef0123456789abcdef");
const CRL_URL = "http://pki.test/.well-known/pki/crl/iss-bench";
const OCSP_URL = "http://pki.test/.well-known/pki/ocsp/iss-bench";
const CA_URL = "http://pki.test/.well-known/pki/ca/iss-bench";
const NAMES = ["www.example.com", "example.com"];
const FROM = new Date("2026-11-23T00:00:00Z");
const UNTIL = new Date("2027-02-23T00:00:00Z");

interface Material {
  readonly ca: Bytes;
  readonly caPkcs8: Bytes;
  readonly caSpki: Bytes;
  readonly algorithmIdentifier: Bytes;
  readonly leafKey: PublicKeyInfo;
  readonly leafSki: Bytes;
}

async function makeMaterial(): Promise<Material> {
  const [caPair, leafPair] = [await generateKeyPair("ECDSA-P256"), await generateKeyPair("ECDSA-P256")];
  const signer = await importSigner(caPair.pkcs8);
  const caKey = parseSpki(caPair.spki);
  const caTbs = buildRootTbs({
    serial: SERIAL,
    notBefore: FROM,
    notAfter: new Date("2036-11-23T00:00:00Z"),
    subject: encodeName({ common_name: "Bench CA", organization: "Example" }),
    publicKey: caKey,
    subjectKeyIdentifier: await keyIdentifier(caKey),
    pathLen: null,
    signatureAlgorithmIdentifier: signer.algorithmIdentifier,
  });
  const ca = await signTbs(caTbs, signer);
  const leafKey = parseSpki(leafPair.spki);
  return {
    ca,
    caPkcs8: caPair.pkcs8,
    caSpki: caPair.spki,
    algorithmIdentifier: signer.algorithmIdentifier,
    leafKey,
    leafSki: await keyIdentifier(leafKey),
  };
}

function leafJobs({ ca, algorithmIdentifier, leafKey, leafSki }: Material): Record<"ours" | "pkijs", Job> {
  const issuerCertificate = parseCertificate(ca);
  const template = compileIssuerTemplate({
    issuerCertificate,
    signatureAlgorithmIdentifier: algorithmIdentifier,
    crlUrlsByShard: [[CRL_URL]],
    ocspUrls: [OCSP_URL],
    caIssuersUrls: [CA_URL],
  });
  const sans = NAMES.map((value) => ({ type: "dns" as const, value }));
  const ours: Job = () => {
    const tbs = buildTbsCertificate(template, {
      serial: SERIAL,
      notBefore: FROM,
      notAfter: UNTIL,
      subject: encodeName({ common_name: "www.example.com" }),
      publicKey: leafKey,
      subjectKeyIdentifier: leafSki,
      sans,
      ekus: ["serverAuth"],
    });
    return assembleCertificate(tbs, algorithmIdentifier, SIGNATURE);
  };
  const issuer = pkijs.Certificate.fromBER(ca);
  const publicKeyInfo = pkijs.PublicKeyInfo.fromBER(leafKey.spki);
  const ski = issuerCertificate.subjectKeyIdentifier ?? leafSki;
  return { ours, pkijs: () => pkijsLeaf(issuer, publicKeyInfo, ski, leafSki) };
}

function pkijsExtension(extnID: string, critical: boolean, value: { toBER(): ArrayBuffer }): pkijs.Extension {
  return new pkijs.Extension({ extnID, critical, extnValue: value.toBER() });
}

const uri = (value: string): pkijs.GeneralName => new pkijs.GeneralName({ type: 6, value });

/** The same leaf built by pkijs in its cheapest way: the TBSCertificate is encoded once. */
function pkijsLeaf(issuer: pkijs.Certificate, key: pkijs.PublicKeyInfo, aki: Bytes, ski: Bytes): Uint8Array {
  const commonName = new asn1js.Utf8String({ value: "www.example.com" });
  const access = (accessMethod: string, url: string): pkijs.AccessDescription =>
    new pkijs.AccessDescription({ accessMethod, accessLocation: uri(url) });
  const certificate = new pkijs.Certificate({
    version: 2,
    serialNumber: new asn1js.Integer({ valueHex: SERIAL }),
    signature: new pkijs.AlgorithmIdentifier({ algorithmId: "1.2.840.10045.4.3.2" }),
    issuer: issuer.subject,
    notBefore: new pkijs.Time({ type: 0, value: FROM }),
    notAfter: new pkijs.Time({ type: 0, value: UNTIL }),
    subject: new pkijs.RelativeDistinguishedNames({
      typesAndValues: [new pkijs.AttributeTypeAndValue({ type: "2.5.4.3", value: commonName })],
    }),
    subjectPublicKeyInfo: key,
    extensions: [
      pkijsExtension("2.5.29.15", true, new asn1js.BitString({ valueHex: new Uint8Array([0x80]), unusedBits: 7 })),
      pkijsExtension("2.5.29.37", false, new pkijs.ExtKeyUsage({ keyPurposes: ["1.3.6.1.5.5.7.3.1"] }).toSchema()),
      pkijsExtension("2.5.29.19", true, new pkijs.BasicConstraints({ cA: false }).toSchema()),
      pkijsExtension("2.5.29.14", false, new asn1js.OctetString({ valueHex: ski })),
      pkijsExtension(
        "2.5.29.35",
        false,
        new pkijs.AuthorityKeyIdentifier({ keyIdentifier: new asn1js.OctetString({ valueHex: aki }) }).toSchema(),
      ),
      pkijsExtension(
        "1.3.6.1.5.5.7.1.1",
        false,
        new pkijs.InfoAccess({
          accessDescriptions: [access("1.3.6.1.5.5.7.48.1", OCSP_URL), access("1.3.6.1.5.5.7.48.2", CA_URL)],
        }).toSchema(),
      ),
      pkijsExtension(
        "2.5.29.17",
        false,
        new pkijs.GeneralNames({
          names: NAMES.map((value) => new pkijs.GeneralName({ type: 2, value })),
        }).toSchema(),
      ),
      pkijsExtension(
        "2.5.29.31",
        false,
        new pkijs.CRLDistributionPoints({
          distributionPoints: [new pkijs.DistributionPoint({ distributionPoint: [uri(CRL_URL)] })],
        }).toSchema(),
      ),
    ],
  });
  return pkijsSigned(certificate.encodeTBS());
}

/** Encodes the TBS octets, as signing requires, then the whole structure with algorithm and signature. */
function pkijsSigned(tbs: asn1js.Sequence, ...more: asn1js.BaseBlock[]): Uint8Array {
  if (tbs.toBER().byteLength === 0) throw new Error("nothing to sign");
  const algorithm = new pkijs.AlgorithmIdentifier({ algorithmId: "1.2.840.10045.4.3.2" });
  const signature = new asn1js.BitString({ valueHex: SIGNATURE });
  return new Uint8Array(new asn1js.Sequence({ value: [tbs, algorithm.toSchema(), signature, ...more] }).toBER());
}

function requestFor(nonce: Bytes | null): Bytes {
  const certId = buildCertId(
    "sha1",
    new Uint8Array(20).fill(0x11),
    new Uint8Array(20).fill(0x22),
    "5f0123456789abcdef",
  );
  return buildOcspRequest([certId], nonce);
}

function responseJobs({ ca, algorithmIdentifier }: Material): Record<"ours" | "pkijs", Job> {
  const byKey = new Uint8Array(20).fill(0x33);
  const template = compileOcspTemplate({ id: { byKey }, algorithmIdentifier, certificates: [ca] });
  const certId = parseOcspRequest(requestFor(null)).certIds[0]?.der ?? new Uint8Array(0);
  const ours: Job = () => {
    const tbs = buildOcspTbs(template, {
      producedAt: FROM,
      responses: [{ certId, status: { type: "good" }, thisUpdate: FROM, nextUpdate: UNTIL }],
      nonce: null,
    });
    return assembleOcspResponse(template, tbs, SIGNATURE);
  };
  const certID = pkijs.OCSPRequest.fromBER(requestFor(null)).tbsRequest.requestList[0]?.reqCert ?? new pkijs.CertID();
  const certs = new asn1js.Constructed({
    idBlock: { tagClass: 3, tagNumber: 0 },
    value: [new asn1js.Sequence({ value: [pkijs.Certificate.fromBER(ca).toSchema()] })],
  });
  const library: Job = () => {
    const certStatus = new asn1js.Primitive({ idBlock: { tagClass: 3, tagNumber: 0 } });
    const single = new pkijs.SingleResponse({ certID, certStatus, thisUpdate: FROM, nextUpdate: UNTIL });
    const data = new pkijs.ResponseData({
      responderID: new asn1js.OctetString({ valueHex: byKey }),
      producedAt: FROM,
      responses: [single],
    });
    const basic = pkijsSigned(data.toSchema(true), certs);
    const responseBytes = new pkijs.ResponseBytes({
      responseType: "1.3.6.1.5.5.7.48.1.1",
      response: new asn1js.OctetString({ valueHex: basic }),
    });
    const response = new pkijs.OCSPResponse({ responseStatus: new asn1js.Enumerated({ value: 0 }), responseBytes });
    return new Uint8Array(response.toSchema().toBER());
  };
  return { ours, pkijs: library };
}

function requestJobs(): Record<string, Job> {
  const [plain, fresh] = [requestFor(null), requestFor(new Uint8Array(32).fill(0x44))];
  let text = "";
  for (const octet of plain) text += String.fromCharCode(octet);
  const path = encodeURIComponent(btoa(text));
  return {
    "request.ours": () => parseOcspRequest(plain).certIds,
    "request.pkijs": () => pkijs.OCSPRequest.fromBER(plain).tbsRequest.requestList,
    "nonce-request.ours": () => parseOcspRequest(fresh).certIds,
    "nonce-request.pkijs": () => pkijs.OCSPRequest.fromBER(fresh).tbsRequest.requestList,
    "path.ours": () => parseOcspRequest(decodeOcspPath(path)).certIds,
  };
}

/** Checks that the timed jobs of both sides produce the expected output. */
function checkJobs(jobs: Record<string, Job>): void {
  const made = (name: string): Bytes => new Uint8Array(jobs[name]?.() as Uint8Array<ArrayBuffer>);
  const [leaf, other] = [parseCertificate(made("leaf.ours")), parseCertificate(made("leaf.pkijs"))];
  if (leaf.extensions.length !== other.extensions.length) throw new Error("the leaves differ");
  for (const name of ["response.ours", "response.pkijs"]) {
    if (parseOcspResponse(made(name)).basic?.responses.length !== 1) throw new Error(`${name}: no response`);
  }
}

/** Chunks with as many entries of 51 octets as fit into 64 KB, as a ledger reads them from its rows. */
function* crlEntries(count: number): Generator<Uint8Array> {
  const serial = SERIAL.slice();
  const each = crlEntryLength(serial, FROM.getTime(), 1);
  const perChunk = Math.floor(65_536 / each);
  for (let from = 0; from < count; from += perChunk) {
    const out = new Uint8Array(Math.min(perChunk, count - from) * each);
    let at = 0;
    for (let i = from; at < out.length; i++) {
      serial[13] = i >>> 24;
      serial[14] = i >>> 16;
      serial[15] = i >>> 8;
      serial[16] = i;
      at = writeCrlEntry(out, at, serial, FROM.getTime() + i * 1000, 1);
    }
    yield out;
  }
}

/** Makes both passes over the entries; `use` receives the finished list in chunks. */
async function buildCrl(material: Material, count: number, use: (chunk: Uint8Array) => void): Promise<number> {
  const signer = importStreamSigner(material.caPkcs8);
  const issuer = parseCertificate(material.ca);
  const plan = planCrl({
    issuer: issuer.subject.der,
    algorithmIdentifier: signer.algorithmIdentifier,
    thisUpdate: FROM,
    nextUpdate: UNTIL,
    number: FROM.getTime(),
    authorityKeyId: issuer.subjectKeyIdentifier ?? new Uint8Array(20),
    distributionPoint: null,
    entriesLength: count * crlEntryLength(SERIAL, FROM.getTime(), 1),
  });
  const signature = await signCrl(plan, signer, crlEntries(count));
  for await (const chunk of crlChunks(plan, signature, crlEntries(count))) use(chunk);
  return crlLength(plan, signature.length);
}

async function answerCrl(material: Material, count: number, check: boolean): Promise<Response> {
  const verifier = (id: Bytes) => importStreamVerifier(parseSpki(material.caSpki), id);
  const checker = check ? new CrlChecker({ verifier }) : null;
  let length = 0;
  const planned = await buildCrl(material, count, (chunk) => {
    length += chunk.length;
    checker?.push(chunk);
  });
  if (length !== planned) throw new Error("the CRL is not as long as planned");
  const summary = checker?.finish();
  if (summary !== undefined && summary.entryCount !== count) throw new Error("entries are missing");
  return new Response(String(length));
}

let made: Promise<{ material: Material; jobs: Record<string, Job> }> | undefined;

async function make(): Promise<{ material: Material; jobs: Record<string, Job> }> {
  const material = await makeMaterial();
  const [leaf, response] = [leafJobs(material), responseJobs(material)];
  const jobs: Record<string, Job> = {
    "leaf.ours": leaf.ours,
    "leaf.pkijs": leaf.pkijs,
    "response.ours": response.ours,
    "response.pkijs": response.pkijs,
    ...requestJobs(),
  };
  checkJobs(jobs);
  return { material, jobs };
}

export default {
  async fetch(request: Request): Promise<Response> {
    made ??= make();
    const { material, jobs } = await made;
    const { pathname, searchParams } = new URL(request.url);
    const count = Number(searchParams.get("n"));
    if (pathname === "/crl") return answerCrl(material, count, searchParams.has("check"));
    const job = jobs[searchParams.get("op") ?? ""];
    if (job === undefined) return new Response("no such job", { status: 404 });
    let total = 0;
    for (let i = 0; i < count; i++) total += job().length;
    return new Response(String(total));
  },
};
