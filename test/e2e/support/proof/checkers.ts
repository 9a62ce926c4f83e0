import { fileURLToPath } from "node:url";
import { must } from "../shell.ts";
import type { Exception } from "./exceptions.ts";

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const BUILD = at("../../../../.build");

/** What `npm run checkers` makes: the Go program (zlint, crypto/x509, x/crypto/ocsp), and a Python that has pkilint. */
export const PROGRAM = `${BUILD}/proof`;
export const PYTHON = `${BUILD}/pkilint/bin/python`;

/** One file for the checkers and what it must be: see main.go, which has the same fields. */
export interface Artefact {
  readonly Name: string;
  readonly Kind: "certificate" | "crl" | "ocsp";
  /** DER. */
  readonly File: string;
  /** The CA that signed it, PEM; empty for a root. */
  readonly Issuer: string;
  readonly Root?: string;
  readonly Chain?: string;
  /** Lower-case hex without leading zeros, to reason code. */
  readonly Revoked?: Readonly<Record<string, number>>;
  /** The distribution point of a partition; none for a whole list. */
  readonly Point?: string;
  readonly Certificate?: string;
  readonly Serial?: string;
  readonly Status?: "good" | "revoked" | "unknown";
  readonly Reason?: number;
  /** Of the CertID. */
  readonly Hash?: string;
}

export interface Finding {
  readonly artefact: string;
  readonly checker: Exception["checker"];
  readonly code: string;
  readonly message: string;
}

export type Check = (artefacts: readonly Artefact[]) => Promise<Finding[]>;

/** Builds the Go program again, as it is now; what it needs is there since `npm run checkers`. */
export async function buildGo(): Promise<void> {
  await must("go", ["build", "-buildvcs=false", "-o", PROGRAM, "."], { cwd: at("."), timeout: 600_000 });
}

export const byGo: Check = (artefacts) => findings(PROGRAM, [], artefacts);
export const byPkilint: Check = (artefacts) => findings(PYTHON, [at("lint.py")], artefacts);

async function findings(program: string, args: string[], artefacts: readonly Artefact[]): Promise<Finding[]> {
  const { stdout } = await must(program, args, { input: JSON.stringify(artefacts), timeout: 300_000 });
  const lines = stdout
    .toString()
    .trim()
    .split("\n")
    .map((line): unknown => JSON.parse(line));
  const last = lines.pop() as { checked?: number };
  if (last.checked !== artefacts.length)
    throw new Error(`${last.checked} of ${artefacts.length} artefacts were checked`);
  return lines as Finding[];
}

export function covers(exception: Exception, { checker, code, artefact, message }: Finding): boolean {
  return exception.checker === checker && exception.code === code && exception.where.test(`${artefact}: ${message}`);
}
