import { endLedgers, recordLedgers } from "../src/authority/ledgers.ts";
import { reconcileLedgers } from "../src/authority/reconcile.ts";
import { attuneLedgers } from "../src/authority/recovery.ts";
import { recordDenied } from "../src/identity/denied.ts";
import { pruneSignIns } from "../src/identity/sessions/sessions.ts";
import { rotateSigningKeys } from "../src/identity/sessions/signing-keys.ts";
import { cancelOrphanedJobs, expireJobs, refreshCertificates, resumeJobs } from "../src/lifecycle/sweeps.ts";
import { pruneIdempotencyKeys } from "../src/platform/commit.ts";
import type { Context } from "../src/platform/context.ts";
import { runSweeps, type SweepStep } from "../src/platform/sweep.ts";
import { beat } from "../src/platform/whole.ts";
import { runDue } from "../src/platform/work/engine.ts";
import { Meter, metered } from "../src/platform/work/meter.ts";
import { makeContext, type Waiter } from "./context.ts";
import { type Env, readEnv } from "./env.ts";
import { workKinds } from "./handlers.ts";
import { hearOfStorage } from "./storage.ts";

/** Every sweep by name: what it does with one slice. */
const SWEEPS: Readonly<Record<string, SweepStep>> = {
  work: async (ctx) => ((await runDue(ctx, workKinds)) === "more" ? "more" : null),
  // Ledgers seal by themselves: after a rotation the new key is on record within a minute of the start.
  "sealing.register": async (ctx) => {
    await ctx.sealer.register(ctx.db, ctx.clock.now());
    return null;
  },
  // First of all: whether the database is as new as what it did.
  "inventory.beat": beat,
  "ledgers.attune": attuneLedgers,
  "jobs.resume": resumeJobs,
  "jobs.expire": expireJobs,
  "jobs.orphaned": cancelOrphanedJobs,
  "certificates.status": refreshCertificates,
  "ledgers.reconcile": reconcileLedgers,
  "ledgers.record": recordLedgers,
  "ledgers.end": endLedgers,
  "denied.record": recordDenied,
  "sessions.keys": rotateSigningKeys,
  "sessions.prune": pruneSignIns,
  prune: async (ctx) => {
    await pruneIdempotencyKeys(ctx);
    return null;
  },
};

/** One schedule of wrangler.toml, its sweeps. */
const SCHEDULES: Readonly<Record<string, readonly string[]>> = {
  "* * * * *": [
    "inventory.beat",
    "ledgers.attune",
    "sealing.register",
    "work",
    "jobs.resume",
    "jobs.orphaned",
    "certificates.status",
    "denied.record",
  ],
  "*/15 * * * *": ["ledgers.end", "jobs.expire", "sessions.keys", "sessions.prune"],
  "17 3 * * *": ["prune", "ledgers.reconcile", "ledgers.record"],
};

/** While the disk is nearly full only what revocations and lists wait for goes on; the others find their work later. */
const WHEN_FULL: ReadonlySet<string> = new Set(["ledgers.attune", "work"]);

export async function tick(controller: ScheduledController, env: Env, waiter: Waiter): Promise<void> {
  await hearOfStorage(readEnv(env).bindings);
  const ctx = metered(makeContext(env, waiter), new Meter());
  const names = SCHEDULES[controller.cron] ?? [];
  await sweep(ctx, ctx.storageFull ? names.filter((name) => WHEN_FULL.has(name)) : names);
}

/** Runs sweeps; what does not fit into one run goes on through the queue. */
export async function sweep(ctx: Context, names: readonly string[]): Promise<void> {
  const steps = names.map((name) => {
    const step = SWEEPS[name];
    if (!step) throw new Error(`no sweep ${name}`);
    return [name, step] as const;
  });
  const outcomes = await runSweeps(ctx, Object.fromEntries(steps));
  for (const [name, outcome] of outcomes) {
    if (outcome === "more") await ctx.bindings.WORK.send({ kind: "sweep", name });
  }
}
