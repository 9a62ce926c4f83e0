import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { convertV4MiniflareOptions, Miniflare } from "miniflare";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { applyMigrations, type Sql, splitStatements } from "../../scripts/local/migrations.ts";
import { PROJECT } from "../../scripts/local/settings.ts";
import { wranglerScript } from "../../scripts/local/wrangler.ts";

let directory: string;
let migrations: string;
let miniflare: Miniflare;
let db: Sql;

/** The id that wrangler gives a local database without a configured one is its binding's. */
async function open(): Promise<void> {
  miniflare = new Miniflare(
    convertV4MiniflareOptions({
      modules: true,
      script: "export default { fetch: () => new Response(null) };",
      compatibilityDate: "2026-11-01",
      d1Databases: { DB: "probe-database" },
      resourcePersistencePath: path.join(directory, "state/v3"),
      cf: false,
    } as Parameters<typeof convertV4MiniflareOptions>[0]),
  );
  db = (await miniflare.getD1Database("DB")) as unknown as Sql;
}

beforeEach(async () => {
  directory = mkdtempSync(path.join(tmpdir(), "certctl-edge-migrations-"));
  migrations = path.join(directory, "migrations");
  mkdirSync(migrations);
  await open();
});

afterEach(async () => {
  await miniflare.dispose();
  rmSync(directory, { recursive: true, force: true, maxRetries: 5 });
});

const write = (name: string, sql: string) => writeFileSync(path.join(migrations, name), sql);
const names = async (sql: string) => (await db.prepare(sql).all<{ name: string }>()).results.map((row) => row.name);
const tables = () =>
  names("select name from sqlite_master where type = 'table' and name like 't\\_%' escape '\\' order by name");

describe("migrations", () => {
  test("are applied once, in the order of their names, triggers and comments included", async () => {
    write("0001_more.sql", "ALTER TABLE t_one ADD b text;");
    write(
      "0000_start.sql",
      `-- The start; with a semicolon.
CREATE TABLE t_one (a text);
--> statement-breakpoint
CREATE INDEX one_a ON t_one (a);--> statement-breakpoint
CREATE TRIGGER t_fixed BEFORE DELETE ON t_one BEGIN SELECT RAISE(ABORT, 'stays; always'); SELECT 1; END;
`,
    );
    expect(await applyMigrations(db, migrations)).toEqual(["0000_start.sql", "0001_more.sql"]);
    expect(await applyMigrations(db, migrations)).toEqual([]);
    await db.prepare("insert into t_one (a, b) values ('x', 'y')").all();
    await expect(Promise.resolve(db.prepare("delete from t_one").all())).rejects.toThrow(/stays; always/);
  });

  test("a file that fails leaves nothing behind, and the files before it stay", async () => {
    write("0000_start.sql", "CREATE TABLE t_one (a text);");
    write("0001_bad.sql", "CREATE TABLE t_two (a text);--> statement-breakpoint\nCREATE TABLE t_one (a text);");
    await expect(applyMigrations(db, migrations)).rejects.toThrow(/migration 0001_bad\.sql failed/);
    expect(await tables()).toEqual(["t_one"]);
    expect(await names("select name from d1_migrations")).toEqual(["0000_start.sql"]);
    write("0001_bad.sql", "CREATE TABLE t_two (a text);");
    expect(await applyMigrations(db, migrations)).toEqual(["0001_bad.sql"]);
  });

  test("a state of a newer version is refused", async () => {
    write("0000_start.sql", "CREATE TABLE t_one (a text);");
    write("0001_new.sql", "CREATE TABLE t_two (a text);");
    await applyMigrations(db, migrations);
    rmSync(path.join(migrations, "0001_new.sql"));
    await expect(applyMigrations(db, migrations)).rejects.toThrow(/newer version \(0001_new\.sql/);
  });

  test("wrangler's own apply agrees, in both directions", { timeout: 120_000 }, async () => {
    write("0000_start.sql", "CREATE TABLE t_one (a text);");
    writeFileSync(
      path.join(directory, "wrangler.toml"),
      `name = "probe"\ncompatibility_date = "2026-11-01"\n[[d1_databases]]\nbinding = "DB"\ndatabase_name = "probe"\ndatabase_id = "probe-database"\n`,
    );
    const wrangler = async () => {
      await miniflare.dispose();
      const args = [wranglerScript(), "d1", "migrations", "apply", "DB", "--local", "--persist-to", "state"];
      const env = { ...process.env, CI: "1", WRANGLER_SEND_METRICS: "false", WRANGLER_WRITE_LOGS: "false" };
      const said = execFileSync(process.execPath, args, { cwd: directory, encoding: "utf8", env, stdio: "pipe" });
      await open();
      return said;
    };
    await applyMigrations(db, migrations);
    expect(await wrangler()).toContain("No migrations to apply");
    write("0001_more.sql", "CREATE TABLE t_two (a text);");
    await wrangler();
    expect(await tables()).toEqual(["t_one", "t_two"]);
    expect(await applyMigrations(db, migrations)).toEqual([]);
  });

  test("the project's own apply from nothing", async () => {
    const applied = await applyMigrations(db, path.join(PROJECT, "migrations"));
    expect(applied[0]).toBe("0000_start.sql");
    expect(await names("select name from sqlite_master where name = 'sealing_keys'")).toEqual(["sealing_keys"]);
  });

  test("statements end at breakpoints and semicolons outside of strings, comments and bodies", () => {
    expect(
      splitStatements("select ';';\n--> statement-breakpoint\n-- only a comment;\nselect 2; select 3"),
    ).toHaveLength(3);
    expect(splitStatements("-- nothing\n")).toEqual([]);
  });
});
