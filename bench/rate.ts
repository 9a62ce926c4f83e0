import { X509Certificate } from "node:crypto";

/** Measures how many certificates per second an issuer of any kind issues. */

export const CONNECTIONS = 32;

/** A CSR and the key that its certificate must have. */
export interface KeyRequest {
  readonly csr: string;
  /** DER SubjectPublicKeyInfo. */
  readonly spki: Buffer;
}

export interface Rate {
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** Issues one certificate; throws unless it is for `request`'s key. `turn` counts from 0. */
export type Issue = (request: KeyRequest, turn: number) => Promise<void>;

/** Certificates to issue first, until the code is compiled. */
export const WARM_UP = 1_000;

/** Runs `issue` on all connections at once, for at least `seconds` and at least `atLeast` times. */
export async function measure(
  issue: Issue,
  requests: readonly KeyRequest[],
  seconds: number,
  atLeast = 0,
): Promise<Rate> {
  const times: number[] = [];
  const began = performance.now();
  const until = began + seconds * 1000;
  const worker = async (_: unknown, connection: number) => {
    for (let round = 0; performance.now() < until || round * CONNECTIONS < atLeast; round++) {
      const turn = connection + round * CONNECTIONS;
      const request = requests[(turn + Math.floor(began)) % requests.length];
      if (!request) throw new Error("no request to send");
      const from = performance.now();
      await issue(request, turn);
      times.push(performance.now() - from);
    }
  };
  await Promise.all(Array.from({ length: CONNECTIONS }, worker));
  const took = (performance.now() - began) / 1000;
  times.sort((a, b) => a - b);
  const at = (share: number) => times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? Number.NaN;
  return { perSecond: times.length / took, p50Ms: at(0.5), p99Ms: at(0.99) };
}

export function printRate(what: string, { perSecond, p50Ms, p99Ms }: Rate): void {
  console.log(
    `${what.padEnd(56)}${perSecond.toFixed(0).padStart(7)}/s   p50 ${p50Ms.toFixed(1)} ms   p99 ${p99Ms.toFixed(1)} ms`,
  );
}

/** Throws unless the first certificate of a PEM text is for the requested key. */
export function checkCertificate(pem: unknown, { spki }: KeyRequest): void {
  const found = new X509Certificate(String(pem)).publicKey.export({ format: "der", type: "spki" });
  if (!found.equals(spki)) throw new Error("the certificate is for another key");
}
