import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { bareCsr, bootstrap, type Fleet, makeFleet, requestCertificate, submitCsr } from "../support/client.ts";
import { type RunningServer, startServer } from "../support/server.ts";
import { type History, loadUntilDeath, newHistory } from "./history.ts";
import { at, crl, missingFrom, random, statusOf, versionOf } from "./observe.ts";

const ROUNDS = Number(process.env.FAULT_RESTORES ?? 40);
const PARALLEL = 4;
const SEED = Number(process.env.FAULT_SEED ?? Date.now() % 1_000_000);

/** Each side of the state: what is put back to an earlier one while the other stays. */
const SIDES = { database: "v3/d1", ledgers: "v3/do/certctl-edge-Issuer" } as const;
type Side = keyof typeof SIDES;

describe(`one side restored to an earlier state, ${ROUNDS} times (FAULT_SEED=${SEED})`, () => {
  const stateDir = mkdtempSync(join(tmpdir(), "certctl-restores-"));
  const saved = mkdtempSync(join(tmpdir(), "certctl-saved-"));
  let server: RunningServer | null = null;
  afterAll(async () => {
    const lines = server?.log().split("\n") ?? [];
    console.log(
      lines
        .filter((line) => /"level":"error"|ERROR/.test(line))
        .slice(-20)
        .join("\n"),
    );
    await server?.stop();
    for (const directory of [stateDir, saved]) rmSync(directory, { recursive: true, force: true });
  });

  const save = (side: Side) => {
    rmSync(join(saved, side), { recursive: true, force: true });
    cpSync(join(stateDir, SIDES[side]), join(saved, side), { recursive: true });
  };
  /** The state of the last save of that side, and the present one saved for the next time. */
  const swap = (side: Side) => {
    const present = join(saved, "present");
    cpSync(join(stateDir, SIDES[side]), present, { recursive: true });
    rmSync(join(stateDir, SIDES[side]), { recursive: true });
    cpSync(join(saved, side), join(stateDir, SIDES[side]), { recursive: true });
    rmSync(join(saved, side), { recursive: true });
    cpSync(present, join(saved, side), { recursive: true });
    rmSync(present, { recursive: true });
  };

  it("inv 2, 4, 6: nothing that was answered is lost, nothing revoked is ever good, no serial comes twice", async () => {
    const next = random(SEED);
    const history = newHistory();
    const serials = new Map<string, string>();
    let number = 0n;
    server = await startServer({ stateDir });
    let fleet = await makeFleet(await bootstrap(server.url, server.bootstrapToken), "restore");
    await submitCsr(fleet, await requestCertificate(fleet, "first.restore.example.com"), bareCsr());
    await server.stop();
    for (const side of ["database", "ledgers"] as const) save(side);
    server = await startServer({ stateDir });
    fleet = at(fleet, server.url);
    for (let round = 0; round < ROUNDS; round++) {
      await loadUntil(server, fleet, history, 8 + Math.floor(next() * 8), round % 4 < 2);
      swap(round % 2 === 0 ? "ledgers" : "database");
      server = await startServer({ stateDir });
      fleet = at(fleet, server.url);
      await checkAtOnce(fleet, history, serials);
      await expect.poll(() => isReady(fleet), { timeout: 120_000, interval: 200 }).toBe(true);
      await checkWhole(fleet, history, serials);
      const list = await crl(fleet);
      expect(list.number >= number, `inv 2: CRL number ${list.number} after ${number}`).toBe(true);
      number = list.number;
    }
    const revoked = new Set([...serials].filter(([, id]) => history.revoked.has(id)).map(([serial]) => serial));
    await submitCsr(fleet, await requestCertificate(fleet, "last.restore.example.com"), bareCsr());
    await expect
      .poll(async () => missingFrom(await crl(fleet), revoked), { timeout: 90_000, interval: 1_000 })
      .toEqual([]);
    console.log(`restore test: ${ROUNDS} restores, ${history.jobs.size} jobs, ${revoked.size} revoked serials`);
    expect(revoked.size).toBeGreaterThan(0);
  });
});

/** Issues and revokes until there are so many more answers; then an orderly stop, or a kill in the middle. */
async function loadUntil(server: RunningServer, fleet: Fleet, history: History, answers: number, kill: boolean) {
  let dead = false;
  const load = loadUntilDeath(fleet, history, PARALLEL, () => dead);
  const enough = history.answers + answers;
  await expect.poll(() => history.answers, { timeout: 60_000, interval: 5 }).toBeGreaterThanOrEqual(enough);
  if (kill) await server.killParent();
  dead = true;
  await load;
  if (!kill) await server.stop();
}

async function isReady(fleet: Fleet): Promise<boolean> {
  return (await fetch(`${fleet.admin.url}/ready`)).ok;
}

/** Before anything has caught up: no answer says less than an earlier one did. */
async function checkAtOnce(fleet: Fleet, history: History, serials: Map<string, string>): Promise<void> {
  for (const [serial, certificateId] of serials) {
    const status = await statusOf(fleet, serial);
    if (history.revoked.has(certificateId)) expect(["revoked", "tryLater"], `inv 4: ${serial}`).toContain(status);
    else expect(["good", "revoked", "tryLater"], `inv 1: ${serial}`).toContain(status);
  }
}

/** All that was answered is there on both sides, and the one certificate of each job. */
async function checkWhole(fleet: Fleet, history: History, serials: Map<string, string>): Promise<void> {
  for (const [jobId, job] of [...history.jobs].slice(-40)) {
    if (job.answer === null) continue;
    const find = async () => (await versionOf(fleet, job.certificateId, jobId).catch(() => undefined))?.id;
    await expect
      .poll(find, { timeout: 60_000, interval: 200, message: `inv 1: job ${jobId} was answered` })
      .toBe(job.answer.version_id);
    const serial = String((await versionOf(fleet, job.certificateId, jobId))?.serial_number);
    expect(serials.get(serial) ?? job.certificateId, "inv 2: a serial belongs to one certificate").toBe(
      job.certificateId,
    );
    serials.set(serial, job.certificateId);
    if (!history.revoked.has(job.certificateId)) continue;
    const status = async () => (await fleet.admin.call("GET", `/api/v1/certificates/${job.certificateId}`)).status;
    await expect.poll(status, { timeout: 60_000, interval: 200, message: "inv 4: on record" }).toBe("Revoked");
    await expect.poll(() => statusOf(fleet, serial), { timeout: 60_000, interval: 200 }).toBe("revoked");
  }
}
