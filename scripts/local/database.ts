import path from "node:path";
import { note } from "./log.ts";
import { applyMigrations, type Sql } from "./migrations.ts";
import type { Project } from "./project.ts";
import { startDatabaseOnly } from "./runtime.ts";
import { checkSealingKeys, type SealedBy } from "./secrets.ts";
import { type LocalSettings, type Places, PROJECT } from "./settings.ts";

/**
 * Checks the sealing keys against the sealed data and migrates the database, before the Worker itself is reachable.
 * Throws StartError with what the operator has to do.
 */
export async function prepareDatabase(project: Project, places: Places, settings: LocalSettings): Promise<void> {
  const simulator = await startDatabaseOnly(project, places);
  try {
    const db = (await simulator.miniflare.getD1Database("DB")) as unknown as Sql;
    await checkSealingKeys(settings.vars.CERTCTL_SEALING_KEYS ?? "", await sealedBy(db), places.secretsFile);
    const applied = await applyMigrations(db, path.join(PROJECT, "migrations"));
    if (applied.length > 0) note(`migrated: ${applied.join(", ")}`);
  } finally {
    await simulator.stop();
  }
}

/** The recorded keys; none before the first migration. */
async function sealedBy(db: Sql): Promise<SealedBy[]> {
  const { results } = await db
    .prepare("select 1 from sqlite_master where type = 'table' and name = 'sealing_keys'")
    .all();
  if (results.length === 0) return [];
  return (await db.prepare("select id, check_value from sealing_keys order by id").all<SealedBy>()).results;
}
