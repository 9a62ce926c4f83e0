import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { bareCsr, bootstrap, type Fleet, makeFleet, requestCertificate, submitCsr } from "../support/client.ts";
import { type RunningServer, startServer } from "../support/server.ts";
import { type History, loadUntilDeath, newHistory } from "./history.ts";
import { at, crl, fetchBytes, missingFrom, random, statusOf, versionOf, versionsOf } from "./observe.ts";

const ROUNDS = Number(process.env.FAULT_ROUNDS ?? 50);
const PARALLEL = 6;
const SEED = Number(process.env.FAULT_SEED ?? Date.now() % 1_000_000);

describe(`kill -9 under load, ${ROUNDS} times (FAULT_SEED=${SEED})`, () => {
  const stateDir = mkdtempSync(join(tmpdir(), "certctl-faults-"));
  let server: RunningServer | null = null;
  afterAll(async () => {
    await server?.stop();
    rmSync(stateDir, { recursive: true, force: true });
  });

  it("inv 1, 2, 4, 6: what was answered stays true, no serial comes twice, no revocation un-shows, each job has one certificate", async () => {
    const next = random(SEED);
    const history = newHistory();
    const seen: Seen = { root: "", crlNumber: 0n, serials: new Map() };
    server = await startServer({ stateDir });
    let fleet = await makeFleet(await bootstrap(server.url, server.bootstrapToken), "crash");
    for (let round = 0; round < ROUNDS; round++) {
      const victim = round % 2 === 0 ? "workerd" : "parent";
      await killUnderLoad(server, fleet, history, victim, Math.floor(next() * 12), next() * 60);
      // The runtime alone is brought back by the process that holds it.
      if (victim === "parent") server = await startServer({ stateDir });
      fleet = at(fleet, server.url);
      await checkAfterCrash(fleet, history, seen);
    }
    await settleEverything(fleet, history, seen);
    console.log(
      `crash test: ${ROUNDS} kills, ${history.jobs.size} jobs, ${history.revoked.size} revocations answered, ${seen.serials.size} serials`,
    );
    expect(history.jobs.size).toBeGreaterThan(ROUNDS);
    expect(history.revoked.size).toBeGreaterThan(0);
  });
});

interface Seen {
  root: string;
  crlNumber: bigint;
  /** Serial to job. */
  readonly serials: Map<string, string>;
}

/** Kills after so many more answers and a moment on: in the middle of whatever is under way then. */
async function killUnderLoad(
  server: RunningServer,
  fleet: Fleet,
  history: History,
  victim: "workerd" | "parent",
  answers: number,
  delayMs: number,
): Promise<void> {
  let dead = false;
  const load = loadUntilDeath(fleet, history, PARALLEL, () => dead);
  const enough = history.answers + answers;
  await expect.poll(() => history.answers, { timeout: 60_000, interval: 5 }).toBeGreaterThanOrEqual(enough);
  await new Promise((resolve) => setTimeout(resolve, delayMs));
  await (victim === "workerd" ? server.killWorkerd() : server.killParent());
  dead = true;
  await load;
}

/** Right after the restart: the root, every answered certificate and every answered revocation are there. */
async function checkAfterCrash(fleet: Fleet, history: History, seen: Seen): Promise<void> {
  const root = Buffer.from(await fetchBytes(fleet, `/.well-known/pki/ca/${fleet.issuerId}`)).toString("base64");
  if (seen.root === "") seen.root = root;
  expect(root, "the same root").toBe(seen.root);
  const recent = [...history.jobs].slice(-40);
  for (const [jobId, job] of recent) {
    if (job.answer === null) continue;
    const version = await versionOf(fleet, job.certificateId, jobId);
    expect(version?.id, `inv 1: job ${jobId} was answered, its version is stored`).toBe(job.answer.version_id);
    expect(["good", "revoked"], "inv 1: the ledger knows it").toContain(
      await statusOf(fleet, String(version?.serial_number)),
    );
  }
  for (const certificateId of [...history.revoked].slice(-40)) {
    for (const version of await versionsOf(fleet, certificateId))
      expect(await statusOf(fleet, String(version.serial_number)), `inv 4: ${certificateId}`).toBe("revoked");
  }
  await checkCrlNumber(fleet, seen);
}

/** Repeats what had no answer, then looks at everything that ever was. */
async function settleEverything(fleet: Fleet, history: History, seen: Seen): Promise<void> {
  for (const [jobId, job] of history.jobs) {
    const answer = await submitCsr(fleet, { jobId, certificateId: job.certificateId }, job.csr);
    if (job.answer) expect(answer.version_id, "inv 6: a repetition gets the same version").toBe(job.answer.version_id);
  }
  for (const certificateId of history.revocationAsked) {
    await fleet.admin.call("POST", `/api/v1/certificates/${certificateId}/revoke`, { reason: "superseded" });
  }
  const revoked = new Set<string>();
  for (const [jobId, job] of history.jobs) {
    const data = await versionsOf(fleet, job.certificateId);
    expect(
      data.filter((version) => version.job_id === jobId),
      `inv 6: job ${jobId} has one certificate`,
    ).toHaveLength(1);
    for (const version of data) {
      const serial = String(version.serial_number);
      expect(seen.serials.get(serial) ?? jobId, "inv 2: a serial belongs to one job").toBe(jobId);
      seen.serials.set(serial, jobId);
      if (history.revocationAsked.has(job.certificateId)) revoked.add(serial);
    }
  }
  const last = await requestCertificate(fleet, "last.crash.example.com");
  await submitCsr(fleet, last, bareCsr());
  await expect
    .poll(async () => missingFrom(await crl(fleet), revoked), {
      timeout: 90_000,
      interval: 1_000,
      message: "inv 4: every revocation is in the CRL",
    })
    .toEqual([]);
  await checkCrlNumber(fleet, seen);
}

async function checkCrlNumber(fleet: Fleet, seen: Seen): Promise<void> {
  const { number } = await crl(fleet);
  expect(number >= seen.crlNumber, `inv 2: CRL number ${number} after ${seen.crlNumber}`).toBe(true);
  seen.crlNumber = number;
}
