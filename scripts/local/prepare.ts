import { existsSync, readdirSync, rmSync } from "node:fs";
import path from "node:path";
import { checkSealingKeys, readSecrets, writeFirstSecrets } from "./secrets.ts";
import { type Environment, type LocalSettings, localSettings, type Places } from "./settings.ts";
import type { Inventory } from "./state.ts";

/**
 * Common to `start` and `dev`, once they hold the state's lock: creates secrets for a new state and removes temporary
 * files of an earlier process. Returns the settings with those secrets.
 */
export function prepareSecrets(
  vars: Readonly<Record<string, string>>,
  places: Places,
  env: Environment,
): LocalSettings {
  // A killed process leaves its temporary files; the lock rules out another user of this state.
  rmSync(path.join(places.stateDir, "tmp"), { recursive: true, force: true });
  const stateExists = existsSync(places.persistDir) && readdirSync(places.persistDir).length > 0;
  writeFirstSecrets(places.secretsFile, env, stateExists);
  return localSettings(vars, readSecrets(places.secretsFile), env);
}

/**
 * Whether the database can be served as it is: every migration of `directory` is applied, and no other. Throws
 * StartError if the sealing keys do not match.
 */
export async function isMigrated(
  inventory: Inventory | null,
  settings: LocalSettings,
  places: Places,
  directory: string,
): Promise<boolean> {
  if (!inventory) return false;
  await checkSealingKeys(settings.vars.CERTCTL_SEALING_KEYS ?? "", inventory.sealedBy, places.secretsFile);
  const files = readdirSync(directory).filter((name) => name.endsWith(".sql"));
  const applied = new Set(inventory.applied);
  return applied.size === files.length && files.every((name) => applied.has(name));
}
