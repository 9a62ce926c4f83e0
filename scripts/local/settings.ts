import path from "node:path";
import { fileURLToPath } from "node:url";
import { type AuthSettings, parseSettings } from "../../src/platform/settings.ts";
import { demoRefusal, openAddresses } from "./demo.ts";

/** An operator's mistake, or something the operator has to do: printed as it is, without a stack. */
export class StartError extends Error {
  readonly code = "start_failed";
}

/** The project's root, which has wrangler.toml. */
export const PROJECT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");

export type Environment = Readonly<Record<string, string | undefined>>;

/** The paths of a state, known before any file is read. */
export interface Places {
  readonly stateDir: string;
  /** The only `.dev.vars` in use: the project's own for the default state, otherwise the one inside STATE_DIR. */
  readonly secretsFile: string;
  /** The directory that Miniflare and `wrangler dev --persist-to STATE_DIR` share. */
  readonly persistDir: string;
}

export function placesOf(env: Environment, project = PROJECT): Places {
  const usual = path.join(project, ".state");
  const stateDir = path.resolve(project, env.STATE_DIR || usual);
  return {
    stateDir,
    secretsFile: path.join(stateDir === usual ? project : stateDir, ".dev.vars"),
    persistDir: path.join(stateDir, "v3"),
  };
}

export interface LocalSettings {
  /** Addresses to listen on. `optional` ones are skipped if the machine has no such address. */
  readonly hosts: readonly { readonly address: string; readonly optional: boolean }[];
  /** 0: any free port. */
  readonly port: number;
  /** CERTCTL_PUBLIC_URL as configured; null: it follows from the port. */
  readonly publicUrl: string | null;
  /** Bytes of the disk to keep free; null: watchStorage's default. */
  readonly storageReserve: number | null;
  readonly auth: AuthSettings;
  /** Every setting passed to the Worker, as text. */
  readonly vars: Readonly<Record<string, string>>;
}

const NAMES = ["HOST", "PORT", "TRUSTED_PROXY_SECRET", "OUTBOUND_ALLOW"];

/**
 * The settings of a start: the vars of wrangler.toml, overridden by the `.dev.vars` in use, overridden by the
 * environment. An empty environment variable counts as set. Throws StartError naming an invalid setting, and for a demo
 * mode that other machines could reach.
 */
export function localSettings(
  configVars: Readonly<Record<string, string>>,
  fileVars: Readonly<Record<string, string>>,
  env: Environment,
): LocalSettings {
  const vars: Record<string, string> = { ...configVars, ...fileVars };
  for (const [name, value] of Object.entries(env)) {
    if (value !== undefined && (name in vars || NAMES.includes(name) || name.startsWith("CERTCTL_")))
      vars[name] = value;
  }
  const hosts = parseHosts(vars.HOST);
  const addresses = hosts.map(({ address }) => address);
  vars.CERTCTL_LOCAL = openAddresses(addresses).length > 0 ? "network" : "loopback";
  // The Worker parses the settings itself; parsing them here too makes an invalid one fail the start instead of each
  // request.
  const { auth } = checked(() => parseSettings(vars));
  const refusal = demoRefusal(auth, addresses, Date.now());
  if (refusal !== null) throw new StartError(refusal);
  const storageReserve = parseReserve(vars.CERTCTL_STORAGE_RESERVE_MB);
  return { hosts, port: parsePort(vars.PORT), publicUrl: vars.CERTCTL_PUBLIC_URL || null, storageReserve, auth, vars };
}

function checked<T>(parse: () => T): T {
  try {
    return parse();
  } catch (cause) {
    throw new StartError(cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

function parseHosts(value: string | undefined): LocalSettings["hosts"] {
  const names = (value ?? "")
    .split(",")
    .map((part) => part.trim().replace(/^\[|\]$/g, ""))
    .filter((part) => part !== "");
  if (names.length > 0 && !names.includes("localhost")) return names.map((address) => ({ address, optional: false }));
  return [
    { address: "127.0.0.1", optional: false },
    { address: "::1", optional: true },
  ];
}

function parsePort(value: string | undefined): number {
  if (value === undefined || value === "") return 8787;
  if (!/^\d{1,5}$/.test(value) || Number(value) > 65_535) {
    throw new StartError(`PORT must be a number from 0 (any free port) to 65535, not ${JSON.stringify(value)}`);
  }
  return Number(value);
}

function parseReserve(value: string | undefined): number | null {
  if (value === undefined || value === "") return null;
  if (/^\d{1,8}$/.test(value)) return Number(value) * 1024 * 1024;
  throw new StartError(
    `CERTCTL_STORAGE_RESERVE_MB must be a whole number of megabytes (0: none), not ${JSON.stringify(value)}`,
  );
}
