import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, existsSync, openSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterEach, expect, it } from "vitest";
import { isAlive, poll } from "../../scripts/local/process.ts";
import { readSecrets } from "../../scripts/local/secrets.ts";
import { PROJECT } from "../../scripts/local/settings.ts";
import { environment, type RunningServer, startServer } from "../support/server.ts";
import { type Answer, Api, bootstrap } from "./support/api.ts";
import { ocspBy, ocspVerdict, WAYS } from "./support/ocsp.ts";
import { createIssuer, type Issued, issue, revoke, type Scene, setScene } from "./support/scene.ts";
import { eventually, must, run, Scratch } from "./support/shell.ts";
import { describeOnSmallDisk, SmallDisk } from "./support/small-disk.ts";

const MB = 1024 * 1024;
const DISK_MB = 64;
/** 5 % of the disk. */
const RESERVE = 0.05 * DISK_MB * MB;

const ends: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

function smallDisk(): SmallDisk {
  const disk = new SmallDisk(DISK_MB);
  ends.push(() => disk.remove());
  return disk;
}

/** A CA with certificates on a server. */
async function populate(url: string, token: string): Promise<{ scene: Scene; issued: Issued[] }> {
  const scratch = new Scratch();
  ends.push(() => scratch.remove());
  const scene = await setScene(await bootstrap(url, token), scratch);
  await createIssuer(scene, "iss-full", { ca_common_name: "Full Root", key_algorithm: "ECDSA-P256" });
  const issued: Issued[] = [];
  for (const name of ["one", "two", "three", "four"]) issued.push(await issue(scene, "iss-full", name));
  return { scene, issued };
}

function expectRefused(answer: Answer): void {
  expect([answer.status, answer.body.error]).toEqual([503, "storage_full"]);
  expect(Number(answer.headers.get("Retry-After"))).toBeGreaterThan(0);
}

/** Each kind of write: made by a create, changed, deleted, a renewal, an agent's heartbeat and its CSR. */
async function writesAreRefused({ admin, agent, agentId }: Scene): Promise<void> {
  const certificate = { id: "mc-late", name: "late", common_name: "late.example.com", sans: ["late.example.com"] };
  const record = { issuer_id: "iss-full", owner_id: "o-e2e", team_id: "t-e2e", renewal_policy_id: "rp-e2e" };
  expectRefused(await admin.ask("POST", "/api/v1/teams", { name: "late" }));
  expectRefused(await admin.ask("PUT", "/api/v1/teams/t-e2e", { name: "renamed" }));
  expectRefused(await admin.ask("DELETE", "/api/v1/targets/tgt-e2e"));
  expectRefused(await admin.ask("POST", "/api/v1/certificates", { ...certificate, ...record }));
  expectRefused(await admin.ask("POST", "/api/v1/certificates/mc-one/renew"));
  expectRefused(await agent.ask("POST", `/api/v1/agents/${agentId}/heartbeat`, {}));
  expectRefused(await agent.ask("POST", `/api/v1/agents/${agentId}/csr`, { certificate_id: "mc-one", csr_pem: "x" }));
}

/** Reads, lists and OCSP, often enough that whatever reading writes has to find room more than once. */
async function readsGoOn(scene: Scene, times: number, good: Issued[], revoked: Issued[]): Promise<void> {
  const { admin, agent, agentId, scratch } = scene;
  const paths = [
    "/health",
    "/ready",
    "/api/v1/certificates",
    "/api/v1/certificates/mc-one/versions",
    "/api/v1/issuers",
  ];
  const pki = ["/.well-known/pki/crl/iss-full", "/.well-known/pki/ca/iss-full"];
  for (let round = 0; round < times; round++) {
    for (const asked of [...paths, ...pki])
      expect([asked, (await admin.ask("GET", asked)).status]).toEqual([asked, 200]);
    expect((await agent.ask("GET", `/api/v1/agents/${agentId}/work`)).status).toBe(200);
    expect((await agent.ask("GET", `/api/v1/agents/${agentId}/certificates/mc-one`)).status).toBe(200);
  }
  for (const issued of [...good, ...revoked]) {
    for (const way of WAYS) {
      const { verified, status } = ocspVerdict(await ocspBy(way, admin.url, "iss-full", issued, scratch));
      const wanted = good.includes(issued) ? "good" : "revoked";
      expect([issued.certificateId, way, verified, status]).toEqual([issued.certificateId, way, true, wanted]);
    }
  }
}

async function crlHas({ admin }: Scene, issued: Issued): Promise<void> {
  await eventually(async () => {
    const { bytes } = await admin.send("GET", "/.well-known/pki/crl/iss-full");
    const { text } = await must("openssl", ["crl", "-inform", "DER", "-noout", "-text"], { input: bytes });
    expect(text.toLowerCase()).toContain(issued.serial);
  });
}

/** A server whose whole output goes into a file. */
async function startLoggingTo(file: string, stateDir: string): Promise<{ url: string; child: ChildProcess }> {
  const fd = openSync(file, "a");
  const child = spawn(process.execPath, ["scripts/run.mjs", "start"], {
    cwd: PROJECT,
    stdio: ["ignore", fd, fd],
    env: environment({ STATE_DIR: stateDir, PORT: "0", EXIT_WITH_PARENT: "1" }),
  });
  closeSync(fd);
  const ended = new Promise((resolve) => child.once("exit", resolve));
  ends.push(() => {
    child.kill("SIGTERM");
    return ended;
  });
  const url = await eventually(async () => {
    const ready = /ready on (\S+)/.exec(readFileSync(file, "utf8"))?.[1];
    if (ready === undefined) throw new Error(`not ready: ${readFileSync(file, "utf8")}`);
    return ready;
  });
  return { url, child };
}

describeOnSmallDisk("a full disk", () => {
  it("below the reserve: writes are refused, reads, lists, OCSP and revocations go on, and all comes back by itself", async () => {
    const disk = smallDisk();
    const server = await start(path.join(disk.path, "state"));
    const { scene, issued } = await populate(server.url, server.bootstrapToken);
    const [one, two, three, four] = issued as [Issued, Issued, Issued, Issued];
    await revoke(scene, two, "superseded");
    const before = server.workerdPid;
    const reserve = path.join(server.stateDir, "reserve");

    disk.fill(RESERVE / 2);
    await eventually(async () => expectRefused(await scene.admin.ask("POST", "/api/v1/teams", { name: "late" })));
    expect(server.log()).toMatch(/ERROR: the disk of \S+ has 1\.\d MB left, less than the reserve of 3\.2 MB/);
    await writesAreRefused(scene);
    await readsGoOn(scene, 20, [one], [two]);
    await revoke(scene, three, "keyCompromise");
    await readsGoOn(scene, 1, [], [three]);
    await crlHas(scene, three);

    disk.empty();
    await eventually(async () => expect(existsSync(reserve) && server.log()).toContain("everything is stored again"));

    // To the last byte: what was held back is given now.
    disk.fill();
    await readsGoOn(scene, 150, [one], [two, three]);
    await writesAreRefused(scene);
    await revoke(scene, four, "superseded");
    await readsGoOn(scene, 1, [], [four]);
    await crlHas(scene, four);

    disk.empty();
    await eventually(() => issue(scene, "iss-full", "after"));
    await readsGoOn(scene, 1, [one], [two, three, four]);
    expect(server.workerdPid).toBe(before);
    expect(existsSync(reserve)).toBe(true);
  });

  it("under load: no answer but done or storage_full, nothing that was answered is lost, not even over a kill -9", async () => {
    const disk = smallDisk();
    const server = await start(path.join(disk.path, "state"));
    const { scene } = await populate(server.url, server.bootstrapToken);
    const answered: string[] = [];
    const others: unknown[] = [];
    let ended = false;
    const writer = async (who: number) => {
      for (let n = 0; !ended; n++) {
        const id = `t-load-${who}-${n}`;
        const { status, body } = await scene.admin.ask("POST", "/api/v1/teams", { id, name: id });
        if (status === 201) answered.push(id);
        else if (status !== 503 || body.error !== "storage_full") others.push([status, body]);
      }
    };
    const writers = Promise.all([0, 1, 2, 3].map(writer));
    await eventually(async () => expect(answered.length).toBeGreaterThan(50));
    for (let round = 0; round < 3; round++) {
      disk.fill();
      await eventually(async () => expectRefused(await scene.admin.ask("POST", "/api/v1/teams", { name: "full" })));
      // What the writers had under way takes what was held back; nothing at all is left then.
      disk.fill();
      const full = answered.length;
      await scene.admin.ask("GET", "/api/v1/teams");
      disk.empty();
      await eventually(async () => expect(answered.length).toBeGreaterThan(full + 50));
    }
    ended = true;
    await writers;
    expect(others).toEqual([]);
    await server.killParent();
    const again = await start(server.stateDir);
    const admin = new Api(again.url, scene.admin.key);
    for (const id of answered) expect([id, (await admin.ask("GET", `/api/v1/teams/${id}`)).status]).toEqual([id, 200]);
  });

  it("with the log on it: what cannot be written is lost, nothing ends, and the log goes on when there is space", async () => {
    const disk = smallDisk();
    const log = path.join(disk.path, "log");
    const stateDir = path.join(disk.path, "state");
    const { url, child } = await startLoggingTo(log, stateDir);
    const token = readSecrets(path.join(stateDir, ".dev.vars")).CERTCTL_BOOTSTRAP_TOKEN ?? "";
    const { scene, issued } = await populate(url, token);
    const [one, two] = issued as [Issued, Issued];

    // Twice, so that what was held back is gone too; then lines that have nowhere to go.
    disk.fill();
    await eventually(async () => expectRefused(await scene.admin.ask("POST", "/api/v1/teams", { name: "late" })));
    disk.fill();
    await scene.admin.ask("POST", `/api/v1/certificates/${two.certificateId}/revoke`, { reason: "superseded" });
    for (let i = 0; i < 50; i++) {
      expect([200, 503]).toContain((await scene.admin.ask("GET", "/api/v1/certificates")).status);
      expectRefused(await scene.admin.ask("POST", "/api/v1/teams", { name: "late" }));
    }
    expect(child.exitCode).toBeNull();
    expect((await scene.admin.ask("GET", "/health")).status).toBe(200);

    disk.empty();
    await eventually(() => issue(scene, "iss-full", "after"));
    await revoke(scene, two, "superseded");
    await readsGoOn(scene, 3, [one], [two]);
    await eventually(async () => expect(readFileSync(log, "utf8")).toContain("everything is stored again"));
    expect(readFileSync(log, "utf8")).toMatch(/^certctl-edge: \d+ lines of the log could not be written$/m);
    expect(child.exitCode).toBeNull();
  });

  it("at a start: with what was held back it serves, without it says what is missing, and calls nothing damaged", async () => {
    const disk = smallDisk();
    const stateDir = path.join(disk.path, "state");
    const first = await start(stateDir);
    const { scene, issued } = await populate(first.url, first.bootstrapToken);
    const [one, two] = issued as [Issued, Issued];
    await first.killParent();
    expect(leaveNoLogs(stateDir)).toBeGreaterThan(5);

    disk.fill();
    const { url, child } = await startLoggingTo(scene.scratch.file("log"), stateDir);
    const again = { ...scene, admin: new Api(url, scene.admin.key), agent: new Api(url, scene.agent.key) };
    await writesAreRefused(again);
    await revoke(again, two, "superseded");
    await readsGoOn(again, 3, [one], [two]);
    expect(scene.scratch.read("log")).toContain("was full at the start: nothing new is stored");
    const { workerd } = JSON.parse(readFileSync(path.join(stateDir, "lock.json"), "utf8"));
    child.kill("SIGKILL");
    // As long as workerd has the databases open, their logs stay.
    expect(await poll(() => child.signalCode === "SIGKILL" && !isAlive(workerd), 20_000)).toBe(true);
    leaveNoLogs(stateDir);

    disk.fill();
    const refused = await run(process.execPath, ["scripts/run.mjs", "start"], {
      cwd: PROJECT,
      env: { STATE_DIR: stateDir, PORT: "0" },
    });
    expect(refused.code).toBe(1);
    expect(refused.text).toMatch(/^certctl-edge: cannot use \S+\.sqlite: its disk is full \(ENOSPC\); make space/m);
    expect(refused.text).not.toMatch(/damaged|^ {4}at /m);
  });
});

/** As a stop in good order leaves databases: without logs beside them, so that the next one to open them needs room. How many. */
function leaveNoLogs(stateDir: string): number {
  const names = readdirSync(stateDir, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".sqlite"));
  for (const name of names) {
    const database = new DatabaseSync(path.join(stateDir, name));
    database.exec("PRAGMA wal_checkpoint(TRUNCATE)");
    database.close();
  }
  return names.length;
}

async function start(stateDir: string): Promise<RunningServer> {
  const server = await startServer({ stateDir });
  ends.push(() => server.stop());
  return server;
}
