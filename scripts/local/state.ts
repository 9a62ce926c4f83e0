import { accessSync, chmodSync, constants, existsSync, mkdirSync, readdirSync, statSync } from "node:fs";
import path from "node:path";
import { DatabaseSync } from "node:sqlite";
import type { SealedBy } from "./secrets.ts";
import { type Places, StartError } from "./settings.ts";
import { isSpent } from "./storage.ts";

/** A database up to this size is read in full at each start; of a larger one only the schema. */
const CHECKED_BYTES = 256 * 1024 * 1024;

/** Creates a state directory if there is none. Throws StartError if it cannot be read and written. */
export function openStateDir(stateDir: string): void {
  try {
    mkdirSync(stateDir, { recursive: true, mode: 0o700 });
    accessSync(stateDir, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (error) {
    throw unusable(stateDir, codeOf(error) === "ENOENT" ? whyNotMade(stateDir, error) : error);
  }
}

/**
 * On a read-only file system Node reports ENOENT for a new directory; the nearest existing directory above gives the
 * real reason.
 */
function whyNotMade(directory: string, otherwise: unknown): unknown {
  let above = path.dirname(directory);
  while (!existsSync(above)) above = path.dirname(above);
  try {
    accessSync(above, constants.W_OK | constants.X_OK);
    return otherwise;
  } catch (error) {
    return error;
  }
}

/**
 * Checks everything that a start will use, and restricts it to its owner. The caller holds the state's lock. Throws
 * StartError naming the unusable file, the damaged database or the missing inventory, and the remedy.
 */
export function checkState(places: Places): void {
  const { stateDir, persistDir } = places;
  for (const name of ["lock", "lock.json", ".dev.vars", "reserve"]) ownFile(path.join(stateDir, name));
  const databases = [...filesUnder(persistDir)].filter((file) => file.endsWith(".sqlite"));
  for (const file of databases) {
    const damage = damageOf(file);
    if (damage !== null) throw damaged(file, damage, places);
  }
  const ledgers = databases.filter((file) => partOf(file, places) === LEDGER && !file.endsWith("metadata.sqlite"));
  const inventories = databases.filter((file) => partOf(file, places) === INVENTORY);
  if (ledgers.length > 0 && !inventories.some((file) => hasTable(file, "d1_migrations"))) {
    throw new StartError(
      `${path.join(persistDir, "d1")} holds no inventory, but there are ledgers of CAs (${ledgers[0]}): ${restore(places)}`,
    );
  }
}

/** Facts read from the inventory's database. */
export interface Inventory {
  /** Names of the migrations. */
  readonly applied: readonly string[];
  readonly sealedBy: readonly SealedBy[];
}

/** Null if there is no inventory database, more than one, or one that cannot be read just now. */
export function readInventory(places: Places): Inventory | null {
  try {
    return inventoryIn(path.join(places.persistDir, "d1"));
  } catch {
    return null;
  }
}

function inventoryIn(directory: string): Inventory | null {
  const found = [...filesUnder(directory)].filter(
    (file) => file.endsWith(".sqlite") && hasTable(file, "d1_migrations") && hasTable(file, "sealing_keys"),
  );
  const [file] = found;
  if (file === undefined || found.length > 1) return null;
  return withDatabase(file, (database) => ({
    applied: database
      .prepare("SELECT name FROM d1_migrations")
      .all()
      .map((row) => String(row.name)),
    sealedBy: database
      .prepare("SELECT id, check_value FROM sealing_keys ORDER BY id")
      .all()
      .map((row) => ({ id: String(row.id), check_value: String(row.check_value) })),
  }));
}

/** The error for a file or directory that this process cannot use, with the remedy. */
export function unusable(file: string, error: unknown): StartError {
  const why = REASONS[codeOf(error)] ?? (() => (error instanceof Error ? error.message : String(error)));
  return new StartError(`cannot use ${file}: ${why(file)}`, { cause: error });
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "";
}

const REASONS: Readonly<Record<string, (file: string) => string>> = {
  EACCES: denied,
  EPERM: denied,
  EROFS: () => "its file system is read-only (EROFS); mount it writable, or set another STATE_DIR",
  ENOSPC: () => "its disk is full (ENOSPC); make space, or set another STATE_DIR",
  EDQUOT: () => "the disk quota of this user is used up (EDQUOT); make space, or set another STATE_DIR",
  EEXIST: () => "it is no directory; remove it, or set another STATE_DIR",
  ENOTDIR: () => "a part of its path is no directory; set another STATE_DIR",
};

function denied(file: string): string {
  const user = process.getuid?.() ?? "another";
  const advice = "run as its owner, or give it to this user with chown and chmod u+rwX";
  try {
    const { uid, mode } = statSync(file);
    const bits = (mode & 0o777).toString(8).padStart(4, "0");
    return `permission denied: it belongs to user ${uid} with mode ${bits}, and this runs as user ${user}; ${advice}`;
  } catch {
    return `permission denied for user ${user}; ${advice}`;
  }
}

/** Every file of a directory tree, each checked on the way; none if the directory does not exist. */
function* filesUnder(directory: string): Generator<string> {
  if (!ownFile(directory, constants.X_OK)) return;
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const file = path.join(directory, entry.name);
    if (entry.isDirectory()) yield* filesUnder(file);
    else if (ownFile(file)) yield file;
  }
}

/** Whether the file exists. If it does, it must be readable and writable; access is restricted to its owner. */
function ownFile(file: string, more = 0): boolean {
  try {
    const mode = statSync(file, { throwIfNoEntry: false })?.mode;
    if (mode === undefined) return false;
    accessSync(file, constants.R_OK | constants.W_OK | more);
    if ((mode & 0o077) !== 0) chmodSync(file, mode & 0o700);
    return true;
  } catch (error) {
    throw unusable(file, error);
  }
}

const SQLITE_CORRUPT = 11;
const SQLITE_NOTADB = 26;

/** The damage that SQLite reports in a database; null if it is intact. Throws StartError if it cannot be checked. */
function damageOf(file: string): string | null {
  try {
    return withDatabase(file, (database) => {
      if (statSync(file).size > CHECKED_BYTES) {
        database.prepare("SELECT count(*) FROM sqlite_schema").get();
        return null;
      }
      const found = database.prepare("PRAGMA quick_check(1)").get()?.quick_check;
      return found === "ok" ? null : String(found).replaceAll(/\s+/g, " ");
    });
  } catch (error) {
    // The lower eight bits are the primary code (sqlite.org/rescode.html).
    const code = error instanceof Error && "errcode" in error ? Number(error.errcode) & 0xff : 0;
    if (code === SQLITE_CORRUPT || code === SQLITE_NOTADB) return String(error instanceof Error && error.message);
    // Checking a database needs a little disk space; without it SQLite reports one of several errors.
    throw unusable(file, isSpent(path.dirname(file)) ? Object.assign(new Error(), { code: "ENOSPC" }) : error);
  }
}

function hasTable(file: string, table: string): boolean {
  return (
    withDatabase(file, (database) =>
      database.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?").get(table),
    ) !== undefined
  );
}

function withDatabase<T>(file: string, use: (database: DatabaseSync) => T): T {
  const database = new DatabaseSync(file, { readOnly: true });
  try {
    // A value that violates a CHECK constraint is not damage to the file.
    database.exec("PRAGMA ignore_check_constraints = ON");
    return use(database);
  } finally {
    database.close();
  }
}

const INVENTORY = "the inventory";
const LEDGER = "the ledger of a CA";

/** What a database holds, by its path; null for disposable data. */
function partOf(file: string, { persistDir }: Places): string | null {
  const [kind = "", owner = ""] = path.relative(persistDir, file).split(path.sep);
  if (kind === "d1") return INVENTORY;
  if (kind === "do" && owner.endsWith("-Issuer")) return LEDGER;
  return kind === "cache" || kind === "ratelimit" ? null : "a part of the state";
}

function damaged(file: string, damage: string, places: Places): StartError {
  const part = partOf(file, places);
  const advice =
    part === null
      ? `nothing in it has to last: delete ${path.dirname(file)} and start again`
      : `keep a copy of it for whoever looks into this, and ${restore(places)}`;
  return new StartError(`the database ${file} (${part ?? "scratch space"}) is damaged: ${damage}; ${advice}`);
}

function restore({ stateDir }: Places): string {
  return `put ${stateDir} back from your backup (docs/operations.md, "Back up and restore")`;
}
