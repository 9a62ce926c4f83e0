import { createHash, randomBytes, X509Certificate } from "node:crypto";
import { parseCertificate } from "../src/pki/certificate.ts";
import { buildCertId, buildOcspRequest } from "../src/pki/ocsp.ts";
import { startServer } from "../test/support/server.ts";
import { httpRequest, type LoadResult, runLoad } from "./load.ts";
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
 * The relying party's side over HTTP, against `npm start`'s own workerd: every figure is a ratio to GET /health of the same
 * run. `seconds` is the length of each measurement; best of three rounds, taken in turn so that noise meets all alike.
 */
export async function benchHttp(seconds = Number(process.env.BENCH_SECONDS ?? 4)): Promise<void> {
  const server = await startServer();
  try {
    const seeded = await seed(server.url, server.bootstrapToken, CERTIFICATES);
    console.log(
      `issuance over HTTP with its D1 rows (4 requests a certificate, 8 at a time): ${seeded.issuancesPerSecond.toFixed(0)} certificates/s`,
    );
    const port = Number(new URL(server.url).port);
    const questions = questionsOf(seeded.chains);
    const path = `/.well-known/pki/ocsp/${seeded.issuerId}`;
    const type = "application/ocsp-request";
    const post = (body: Uint8Array, close = false) => httpRequest("POST", path, { type, body, close });
    const plain = questions.map((ask) => ask(null));
    const fresh = Array.from({ length: NONCES }, (_, i) =>
      (questions[i % questions.length] ?? fail())(randomBytes(32)),
    );
    const cases: { what: string; requests: Uint8Array[]; reconnect?: boolean }[] = [
      { what: "trivial: GET /health", requests: [httpRequest("GET", "/health")] },
      {
        what: "OCSP GET, repeated certificates",
        requests: plain.map((der) =>
          httpRequest("GET", `${path}/${encodeURIComponent(Buffer.from(der).toString("base64"))}`),
        ),
      },
      { what: "OCSP POST, repeated certificates", requests: plain.map((der) => post(der)) },
      {
        what: "OCSP GET, every answer signed after its ledger lookup (nonce)",
        requests: fresh.map((der) =>
          httpRequest("GET", `${path}/${encodeURIComponent(Buffer.from(der).toString("base64"))}`),
        ),
      },
      {
        what: "OCSP POST, every answer signed after its ledger lookup (nonce)",
        requests: fresh.map((der) => post(der)),
      },
      {
        what: "OCSP POST, every answer signed, a new connection each",
        requests: fresh.map((der) => post(der, true)),
        reconnect: true,
      },
    ];
    const rows: Row[] = [];
    for (const { what, ...load } of cases) {
      let best: LoadResult | null = null;
      for (let round = 0; round < 3; round++) {
        const result = await runLoad({ port, connections: CONNECTIONS, seconds, ...load });
        if (result.failures > 0)
          throw new Error(`${what}: ${result.failures} of ${result.answers} answers were not 200`);
        if (!best || result.requestsPerSecond > best.requestsPerSecond) best = result;
      }
      if (best) rows.push({ what, result: best });
    }
    rows.push({
      what: "openssl ocsp -multi 2, POST, a new connection each",
      result: await benchOpenssl(seeded.chains, plain, CONNECTIONS, seconds),
    });
    print(rows);
  } finally {
    await server.stop();
  }
}

function fail(): never {
  throw new Error("nothing to ask for");
}

/** For each certificate a function that makes the DER OCSPRequest for it, with or without a nonce. */
function questionsOf(
  chains: readonly string[],
): ((nonce: Uint8Array<ArrayBuffer> | null) => Uint8Array<ArrayBuffer>)[] {
  return chains.map((chain) => {
    const [leaf, issuer] = pemBlocks(chain).map((pem) => new X509Certificate(pem));
    if (!leaf || !issuer) throw new Error("a chain has a leaf and its issuer");
    const parsed = parseCertificate(new Uint8Array(issuer.raw));
    const sha1 = (bytes: Uint8Array) => new Uint8Array(createHash("sha1").update(bytes).digest());
    const certId = buildCertId(
      "sha1",
      sha1(parsed.subject.der),
      sha1(parsed.publicKey.keyBits),
      leaf.serialNumber.toLowerCase(),
    );
    return (nonce) => buildOcspRequest([certId], nonce);
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
