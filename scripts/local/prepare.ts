import { existsSync, readdirSync, rmSync } from "node:fs";
import path from "node:path";
import { note } from "./log.ts";
import { applyMigrations, type Sql } from "./migrations.ts";
import { type Project, startDatabaseOnly } from "./runtime.ts";
import { checkSealingKeys, readSecrets, type SealedBy, writeFirstSecrets } from "./secrets.ts";
import { type Environment, type LocalSettings, localSettings, type Places, PROJECT, placesOf } from "./settings.ts";

/** A state that is ready to be worked on, with its settings. */
export interface Prepared {
  readonly places: Places;
  readonly settings: LocalSettings;
  /** Whether the secrets were made just now. */
  readonly firstRun: boolean;
}

/**
 * What `start` and `dev` do alike once they hold the state's lock: secrets made where there is nothing yet, the sealing
 * keys checked against what they sealed, the database migrated. Throws StartError with what the operator has to do.
 */
export async function prepareState(project: Project, env: Environment, root = PROJECT): Promise<Prepared> {
  const places = placesOf(env, root);
  // Whatever ended here hard left its temporary files; nobody else has this state now.
  rmSync(path.join(places.stateDir, "tmp"), { recursive: true, force: true });
  const stateExists = existsSync(places.persistDir) && readdirSync(places.persistDir).length > 0;
  const firstRun = writeFirstSecrets(places.secretsFile, env, stateExists);
  const settings = localSettings(project.vars, readSecrets(places.secretsFile), env);
  const runtime = await startDatabaseOnly(project, places);
  try {
    const db = (await runtime.miniflare.getD1Database("DB")) as unknown as Sql;
    await checkSealingKeys(settings.vars.CERTCTL_SEALING_KEYS ?? "", await sealedBy(db), places.secretsFile);
    const applied = await applyMigrations(db, path.join(root, "migrations"));
    if (applied.length > 0) note(`migrated: ${applied.join(", ")}`);
  } finally {
    await runtime.stop();
  }
  return { places, settings, firstRun };
}

/** The keys on record; none before the first migration. */
async function sealedBy(db: Sql): Promise<SealedBy[]> {
  const { results } = await db
    .prepare("select 1 from sqlite_master where type = 'table' and name = 'sealing_keys'")
    .all();
  if (results.length === 0) return [];
  return (await db.prepare("select id, check_value from sealing_keys order by id").all<SealedBy>()).results;
}
