import type { Bindings } from "../src/platform/context.ts";
import { type Database, openDatabase } from "../src/platform/database.ts";
import { makeSealer, type Sealer } from "../src/platform/sealing.ts";
import { parseSettings, type Settings } from "../src/platform/settings.ts";

/** The raw environment; untrusted until `readEnv` has checked it. */
export type Env = Readonly<Record<string, unknown>>;

export interface Surroundings {
  readonly bindings: Bindings;
  readonly settings: Settings;
  readonly sealer: Sealer;
  readonly db: Database;
}

/** Checked environments, one per env object (one per isolate); entries go with their env object. */
const known = new WeakMap<Env, Surroundings>();

/** The bindings, settings and sealer of this isolate. Throws an error naming what is missing or invalid. */
export function readEnv(env: Env): Surroundings {
  const before = known.get(env);
  if (before) return before;
  const settings = parseSettings(env);
  const bindings = checkBindings(env);
  const db = openDatabase(bindings.DB);
  const surroundings = { bindings, settings, sealer: makeSealer(settings.sealingKeys), db };
  known.set(env, surroundings);
  return surroundings;
}

function checkBindings(env: Env): Bindings {
  const need = <T>(name: string): T => {
    const binding = env[name];
    if (typeof binding !== "object" || binding === null) throw new Error(`wrangler.toml binds no ${name}`);
    return binding as T;
  };
  return {
    DB: need<D1Database>("DB"),
    ISSUER: need<DurableObjectNamespace>("ISSUER"),
    PURGE: need<DurableObjectNamespace>("PURGE"),
    SESSION: need<DurableObjectNamespace>("SESSION"),
    ONCE: need<DurableObjectNamespace>("ONCE"),
    WRITER: need<DurableObjectNamespace>("WRITER"),
    BYTES: need<R2Bucket>("BYTES"),
    WORK: need<Queue>("WORK"),
    // null, not undefined: the compiler then rejects unchecked use.
    ADDRESS_LIMIT: env.ADDRESS_LIMIT ? need<RateLimit>("ADDRESS_LIMIT") : null,
    ACTOR_LIMIT: env.ACTOR_LIMIT ? need<RateLimit>("ACTOR_LIMIT") : null,
    ASSETS: env.ASSETS ? need<Fetcher>("ASSETS") : null,
    STORAGE: env.STORAGE ? need<Fetcher>("STORAGE") : null,
  };
}
