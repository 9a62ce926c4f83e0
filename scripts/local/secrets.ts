import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import path from "node:path";
import { parseEnv } from "node:util";
import { checkValue } from "../../src/platform/sealing.ts";
import { parseSealingKeys } from "../../src/platform/settings.ts";
import { type Environment, StartError } from "./settings.ts";

/** The variables of a `.dev.vars`; empty if the file does not exist. */
export function readSecrets(file: string): Readonly<Record<string, string>> {
  try {
    return parseEnv(readFileSync(file, "utf8")) as Record<string, string>;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return {};
    throw new StartError(`cannot read ${file}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

const HEADER = `# Secrets of this certctl-edge, made at its first start. Whoever has them has the CA: back this file up, apart from the
# state. What CERTCTL_SEALING_KEYS sealed opens with no other key.
`;

/**
 * Writes the secrets that neither the file nor the environment has, but only for a state that does not exist yet: an
 * existing state never gets a new sealing key. The caller holds the state's lock. Returns whether it wrote anything.
 */
export function writeFirstSecrets(file: string, env: Environment, stateExists: boolean, random = randomBytes): boolean {
  if (stateExists) return false;
  const known = readSecrets(file);
  const made: Record<string, string> = {
    CERTCTL_BOOTSTRAP_TOKEN: random(32).toString("base64url"),
    CERTCTL_SEALING_KEYS: `k1:${random(32).toString("base64")}`,
  };
  const missing = Object.keys(made).filter((name) => env[name] === undefined && !known[name]);
  if (missing.length === 0) return false;
  // A copy of .dev.vars.example has the names with empty values.
  const empty = new RegExp(`^(?:${missing.join("|")})=.*\\n?`, "gm");
  const before = existsSync(file) ? readFileSync(file, "utf8").replace(empty, "").replace(/\n?$/, "\n") : HEADER;
  mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
  // Atomic: whole or not at all.
  const next = `${file}.new.${process.pid}`;
  writeFileSync(next, `${before}${missing.map((name) => `${name}=${made[name]}\n`).join("")}`, {
    mode: 0o600,
    flag: "wx",
  });
  renameSync(next, file);
  return true;
}

/** A row of `sealing_keys`: the id of a key that sealed something in this state, and its check value. */
export interface SealedBy {
  readonly id: string;
  readonly check_value: string;
}

/**
 * Refuses to start on a state that the configured keys do not unseal. Throws StartError naming each missing or wrong
 * key id and where to restore it.
 */
export async function checkSealingKeys(configured: string, sealedBy: readonly SealedBy[], file: string): Promise<void> {
  const keys = parseSealingKeys(configured);
  const missing: string[] = [];
  const wrong: string[] = [];
  for (const row of sealedBy) {
    const key = keys.find((candidate) => candidate.id === row.id);
    if (!key) missing.push(row.id);
    else if ((await checkValue(key)) !== row.check_value) wrong.push(row.id);
  }
  const flaws = [
    ...(missing.length > 0 ? [`the sealing key ${missing.join(", ")} is missing`] : []),
    ...(wrong.length > 0 ? [`the sealing key ${wrong.join(", ")} is not the one that sealed this state`] : []),
  ];
  if (flaws.length > 0) throw new StartError(`${flaws.join(", and ")}: ${restoreHint(file)}`);
  if (keys.length === 0) throw new StartError(`no sealing key is configured, and state exists: ${restoreHint(file)}`);
}

function restoreHint(file: string): string {
  return `restore it in CERTCTL_SEALING_KEYS (${file} or the environment) from your backup; no new key opens what it sealed`;
}
