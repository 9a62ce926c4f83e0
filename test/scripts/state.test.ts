import { spawnSync } from "node:child_process";
import {
  chmodSync,
  closeSync,
  cpSync,
  ftruncateSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { PROJECT } from "../../scripts/local/settings.ts";
import { bareCsr, bootstrap, makeFleet, requestCertificate, submitCsr } from "../support/client.ts";
import { environment, startServer } from "../support/server.ts";

const DEADLINE = 180_000;
/** A state with an inventory and a ledger in it, as an orderly end leaves it. */
let made: string;
let scratch: string;
/** Every file and directory of the running server that was not its owner's alone. */
let open: string[];

beforeAll(async () => {
  scratch = mkdtempSync(path.join(tmpdir(), "certctl-edge-state-"));
  made = path.join(scratch, "made");
  mkdirSync(made);
  // As an operator makes it, and one that lets everybody read what is not closed to them.
  chmodSync(made, 0o755);
  const before = process.umask(0);
  const server = await startServer({ stateDir: made });
  process.umask(before);
  const fleet = await makeFleet(await bootstrap(server.url, server.bootstrapToken), "state");
  await submitCsr(fleet, await requestCertificate(fleet, "a.state.example.com"), bareCsr());
  open = entriesUnder(made).filter((file) => (lstatSync(file).mode & 0o077) !== 0);
  await server.stop();
}, DEADLINE);

afterAll(() => rmSync(scratch, { recursive: true, force: true, maxRetries: 5 }));

function entriesUnder(directory: string): string[] {
  const names = readdirSync(directory, { recursive: true, encoding: "utf8" });
  return names.map((name) => path.join(directory, name));
}

let state = "";
afterEach(() => {
  if (state !== "") rmSync(state, { recursive: true, force: true });
});

/** A copy of the state to do harm to. */
function copy(): string {
  state = mkdtempSync(path.join(scratch, "copy-"));
  cpSync(made, state, { recursive: true });
  return state;
}

/** The database of a kind in a state: `d1`, `do/certctl-edge-Issuer` and the like. */
function databaseOf(directory: string, kind: string): string {
  const files = entriesUnder(path.join(directory, "v3", kind));
  const found = files.filter((file) => /\/[0-9a-f]{64}\.sqlite$/.test(file))[0];
  if (found === undefined) throw new Error(`no database of ${kind} in ${files.join(", ")}`);
  return found;
}

/** Root may read and write everything; without these two capabilities root is a user like any other. */
const AS_USER = process.getuid?.() === 0 ? ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] : [];

/** What a start says that must refuse: one line, and no stack. */
function refusal(stateDir: string): string {
  const [program = "", ...args] = [...AS_USER, process.execPath, "scripts/run.mjs", "start"];
  const env = environment({ STATE_DIR: stateDir, PORT: "0" });
  const { status, stdout, stderr } = spawnSync(program, args, {
    cwd: PROJECT,
    env,
    encoding: "utf8",
    timeout: DEADLINE,
  });
  expect([status, stdout]).toEqual([1, ""]);
  expect(stderr).toMatch(/^certctl-edge: .+\n$/);
  return stderr;
}

describe("what a server writes", () => {
  test("is its owner's alone, whatever the umask and the directory were", () => {
    expect(open).toEqual([]);
    const kinds = new Set(entriesUnder(made).map((file) => path.relative(made, file).split("/").slice(0, 2).join("/")));
    for (const kind of ["lock", "lock.json", ".dev.vars", "v3/d1", "v3/do", "v3/r2"]) expect(kinds).toContain(kind);
    expect(statSync(made).mode & 0o777).toBe(0o755);
  });

  test("and what an earlier version left open is closed at the next start", { timeout: DEADLINE }, async () => {
    copy();
    for (const file of entriesUnder(state)) chmodSync(file, lstatSync(file).isDirectory() ? 0o755 : 0o644);
    const server = await startServer({ stateDir: state });
    const left = entriesUnder(state).filter((file) => (lstatSync(file).mode & 0o077) !== 0);
    await server.stop();
    expect(left).toEqual([]);
  });
});

describe("a start on a state that it cannot use says which file, and what to do", () => {
  test.each([
    ["read-only", 0o500, "mode 0500"],
    ["unreadable", 0o300, "mode 0300"],
    ["closed", 0, "mode 0000"],
  ])("a directory that is %s", (_what, mode, words) => {
    chmodSync(copy(), mode);
    const said = refusal(state);
    chmodSync(state, 0o700);
    expect(said).toContain(`cannot use ${state}: permission denied`);
    expect(said).toContain(words);
    expect(said).toContain("chown");
  });

  test("a directory that cannot be made, or is a file", () => {
    state = mkdtempSync(path.join(scratch, "parent-"));
    chmodSync(state, 0o500);
    expect(refusal(path.join(state, "new"))).toContain(`cannot use ${path.join(state, "new")}: permission denied`);
    chmodSync(state, 0o700);
    writeFileSync(path.join(state, "file"), "");
    expect(refusal(path.join(state, "file"))).toContain("it is no directory");
    expect(refusal(path.join(state, "file/below"))).toContain("no directory");
  });

  test.each([
    ["d1", 0o400],
    ["do/certctl-edge-Issuer", 0],
  ])("a database of %s that is not writable or not readable", (kind, mode) => {
    const file = databaseOf(copy(), kind);
    chmodSync(file, mode);
    expect(refusal(state)).toContain(`cannot use ${file}: permission denied`);
  });

  test("a directory inside that is closed, secrets that are closed, a lock that is none", () => {
    const inside = path.join(copy(), "v3/do");
    chmodSync(inside, 0o600);
    const said = refusal(state);
    chmodSync(inside, 0o700);
    expect(said).toContain(`cannot use ${inside}: permission denied`);
    chmodSync(path.join(state, ".dev.vars"), 0);
    expect(refusal(state)).toContain(`cannot use ${path.join(state, ".dev.vars")}: permission denied`);
    writeFileSync(path.join(state, "lock"), "this is no database at all, and not an empty file");
    expect(refusal(state)).toContain(`cannot lock ${path.join(state, "lock")}: file is not a database`);
  });

  test.each([
    ["d1", "the inventory"],
    ["do/certctl-edge-Issuer", "the ledger of a CA"],
  ])("a damaged database of %s", (kind, part) => {
    const file = databaseOf(copy(), kind);
    const whole = new DatabaseSync(file);
    whole.exec("PRAGMA wal_checkpoint(TRUNCATE)");
    whole.close();
    const { size } = statSync(file);
    const harms: Record<string, (fd: number) => void> = {
      "no database any more": (fd) => writeSync(fd, "garbage ".repeat(size / 8), 0),
      "a page in the middle overwritten": (fd) => writeSync(fd, Buffer.alloc(4096, 0x5a), 0, 4096, 4096),
      "cut off": (fd) => ftruncateSync(fd, size - 4096),
    };
    for (const [harm, change] of Object.entries(harms)) {
      cpSync(file, `${file}.whole`);
      const fd = openSync(file, "r+");
      change(fd);
      closeSync(fd);
      const said = refusal(state);
      expect(said, harm).toMatch(/is damaged: \S+/);
      expect(said, harm).toContain(`the database ${file} (${part})`);
      expect(said, harm).toContain(`put ${state} back from your backup`);
      cpSync(`${file}.whole`, file);
      rmSync(`${file}.whole`);
    }
  });

  test("scratch space that is damaged may go", () => {
    const file = path.join(copy(), "v3/ratelimit/miniflare-RateLimiterObject/metadata.sqlite");
    // What stands in the log of a database is taken from there.
    rmSync(`${file}-wal`, { force: true });
    writeFileSync(file, "garbage ".repeat(512));
    expect(refusal(state)).toContain(`delete ${path.dirname(file)} and start again`);
  });

  test("an inventory that is empty or gone beside ledgers of CAs: no new one is made beside them", () => {
    const file = databaseOf(copy(), "d1");
    for (const suffix of ["-wal", "-shm"]) rmSync(`${file}${suffix}`, { force: true });
    truncateSync(file);
    expect(refusal(state)).toContain(`${path.join(state, "v3/d1")} holds no inventory`);
    rmSync(path.join(state, "v3/d1"), { recursive: true });
    expect(refusal(state)).toContain("put");
  });
});
