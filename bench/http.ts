import { createHash, randomBytes, X509Certificate } from "node:crypto";
import { equal } from "../src/pki/bytes.ts";
import { parseCertificate } from "../src/pki/certificate.ts";
import { buildCertId, buildOcspRequest, parseOcspResponse } from "../src/pki/ocsp.ts";
import { httpRequest } from "../test/support/connection.ts";
import { startServer } from "../test/support/server.ts";
import { type Ask, exactly, type LoadResult, runLoad, shown } from "./load.ts";
import { benchOpenssl, pemBlocks } from "./openssl.ts";
import { seed } from "./seed.ts";

const CONNECTIONS = 32;
const CERTIFICATES = 200;
const NONCES = 20_000;

interface Row {
  readonly what: string;
  readonly result: LoadResult;
}

/**
 * Relying parties over HTTP, against `npm start`'s own workerd: every figure is a ratio to GET /health of the same run.
 * `seconds` is the length of each measurement; best of three rounds, taken in turn so that noise affects all equally.
 */
export async function benchHttp(seconds = Number(process.env.BENCH_SECONDS ?? 4)): Promise<void> {
  const server = await startServer();
  try {
    const seeded = await seed(server.url, server.bootstrapToken, CERTIFICATES);
    console.log(
      `issuance over HTTP with its D1 rows (4 requests a certificate, 8 at a time): ${seeded.issuancesPerSecond.toFixed(0)} certificates/s`,
    );
    const port = Number(new URL(server.url).port);
    const certIds = certIdsOf(seeded.chains);
    const path = `/.well-known/pki/ocsp/${seeded.issuerId}`;
    const type = "application/ocsp-request";
    const post = (question: Question, close = false): Ask =>
      answered(question, httpRequest("POST", path, { type, body: question.der, close }));
    const get = (question: Question): Ask =>
      answered(
        question,
        httpRequest("GET", `${path}/${encodeURIComponent(Buffer.from(question.der).toString("base64"))}`),
      );
    const plain = certIds.map((certId) => questionOf(certId, null));
    const fresh = Array.from({ length: NONCES }, (_, i) =>
      questionOf(certIds[i % certIds.length] ?? fail(), randomBytes(32)),
    );
    const cases: { what: string; asks: readonly Ask[]; reconnect?: boolean }[] = [
      { what: "trivial: GET /health", asks: [exactly(httpRequest("GET", "/health"), '{"status":"healthy"}')] },
      { what: "OCSP GET, repeated certificates", asks: plain.map(get) },
      { what: "OCSP POST, repeated certificates", asks: plain.map((question) => post(question)) },
      { what: "OCSP GET, every answer signed after its ledger lookup (nonce)", asks: fresh.map(get) },
      {
        what: "OCSP POST, every answer signed after its ledger lookup (nonce)",
        asks: fresh.map((question) => post(question)),
      },
      {
        what: "OCSP POST, every answer signed, a new connection each",
        asks: fresh.map((question) => post(question, true)),
        reconnect: true,
      },
    ];
    const rows: Row[] = [];
    for (const { what, ...load } of cases) {
      let best: LoadResult | null = null;
      for (let round = 0; round < 3; round++) {
        const result = await runLoad({ port, connections: CONNECTIONS, seconds, ...load });
        if (!best || result.requestsPerSecond > best.requestsPerSecond) best = result;
      }
      if (best) rows.push({ what, result: best });
    }
    rows.push({
      what: "openssl ocsp -multi 2, POST, a new connection each",
      result: await benchOpenssl(
        seeded.chains,
        plain.map(({ der }) => der),
        CONNECTIONS,
        seconds,
      ),
    });
    print(rows);
  } finally {
    await server.stop();
  }
}

function fail(): never {
  throw new Error("nothing to ask for");
}

interface Question {
  readonly certId: Uint8Array<ArrayBuffer>;
  readonly nonce: Uint8Array<ArrayBuffer> | null;
  /** DER OCSPRequest. */
  readonly der: Uint8Array<ArrayBuffer>;
}

export function questionOf(certId: Uint8Array<ArrayBuffer>, nonce: Uint8Array<ArrayBuffer> | null): Question {
  return { certId, nonce, der: buildOcspRequest([certId], nonce) };
}

/**
 * The answer must be about that certificate, match the request, and say `good`. `npm run test:load` verifies
 * signatures.
 */
export function answered({ certId, nonce }: Question, message: Uint8Array): Ask {
  return {
    message,
    wrong: (answer) => {
      if (answer.status !== 200) return shown(answer);
      const { status, basic } = parseOcspResponse(new Uint8Array(answer.body));
      const [single] = basic?.responses ?? [];
      if (!basic || !single || !equal(single.certId.der, certId)) return `OCSP ${status} about another certificate`;
      if (single.status.type !== "good") return `OCSP status ${single.status.type}`;
      const own = nonce === null ? basic.nonce === null : basic.nonce !== null && equal(basic.nonce, nonce);
      return own ? null : "the nonce is not that of the request";
    },
  };
}

/** The CertID of each certificate. */
export function certIdsOf(chains: readonly string[]): Uint8Array<ArrayBuffer>[] {
  return chains.map((chain) => {
    const [leaf, issuer] = pemBlocks(chain).map((pem) => new X509Certificate(pem));
    if (!leaf || !issuer) throw new Error("a chain has a leaf and its issuer");
    const parsed = parseCertificate(new Uint8Array(issuer.raw));
    const sha1 = (bytes: Uint8Array) => new Uint8Array(createHash("sha1").update(bytes).digest());
    return buildCertId(
      "sha1",
      sha1(parsed.subject.der),
      sha1(parsed.publicKey.keyBits),
      leaf.serialNumber.toLowerCase(),
    );
  });
}

function print(rows: readonly Row[]): void {
  const trivial = rows[0]?.result.requestsPerSecond ?? Number.NaN;
  console.log(
    `\n${"requests".padEnd(68)}${"per second".padStart(11)}${"of trivial".padStart(12)}${"p50 ms".padStart(9)}${"p99 ms".padStart(9)}`,
  );
  for (const { what, result } of rows) {
    const figures = [
      result.requestsPerSecond.toFixed(0).padStart(11),
      (result.requestsPerSecond / trivial).toFixed(2).padStart(12),
      result.p50Ms.toFixed(2).padStart(9),
      result.p99Ms.toFixed(1).padStart(9),
    ];
    console.log(what.padEnd(68) + figures.join(""));
  }
}
