import { equal } from "./bytes.ts";
import type { CrlParameters } from "./crl-build.ts";
import { CrlChecker, CrlError, type CrlSummary } from "./crl-read.ts";
import type { PublicKeyInfo } from "./spki.ts";
import { importStreamVerifier } from "./stream-verifier.ts";

/** The expected fields of a finished list. */
export type ExpectedCrl = Pick<CrlParameters, "issuer" | "nextUpdate" | "number" | "distributionPoint"> & {
  readonly entryCount: number;
};

/**
 * Checks a CRL while it is written: each piece is passed on when the next arrives, and the last only after the whole
 * list was parsed, its signature verified and its fields compared. Throws CrlError, or DerError for octets that are no
 * CRL.
 */
export async function* checkedCrl(
  chunks: AsyncIterable<Uint8Array>,
  issuerKey: PublicKeyInfo,
  expected: ExpectedCrl,
): AsyncGenerator<Uint8Array> {
  const checker = new CrlChecker({ verifier: (algorithm) => importStreamVerifier(issuerKey, algorithm) });
  let held: Uint8Array | null = null;
  for await (const chunk of chunks) {
    if (held) yield held;
    checker.push(chunk);
    held = chunk;
  }
  const wrong = differenceOf(checker.finish(), expected);
  if (wrong) throw new CrlError(`the list that was built has a wrong ${wrong}`);
  if (held) yield held;
}

function differenceOf(found: CrlSummary, expected: ExpectedCrl): string | null {
  if (!equal(found.issuer, expected.issuer)) return "issuer";
  if (found.number !== BigInt(expected.number)) return "number";
  if (found.distributionPoint !== expected.distributionPoint) return "distribution point";
  if (found.entryCount !== expected.entryCount) return "count of entries";
  if (found.nextUpdate.getTime() !== expected.nextUpdate.getTime()) return "nextUpdate";
  return null;
}
