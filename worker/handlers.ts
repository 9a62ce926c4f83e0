import { issuerWork } from "../src/authority/issuers/issuers.ts";
import { endLedgers, recordLedgers } from "../src/authority/local/ledgers.ts";
import { purgeWork } from "../src/authority/local/purge.ts";
import { reconcileLedgers } from "../src/authority/local/reconcile.ts";
import { attuneLedgers } from "../src/authority/local/recovery.ts";
import { withdrawalWork } from "../src/authority/local/withdrawal.ts";
import { breakglassWork } from "../src/identity/breakglass/credentials.ts";
import { recordDenied } from "../src/identity/denied.ts";
import { providerWork } from "../src/identity/oidc/providers.ts";
import { pruneSignIns } from "../src/identity/sessions/sessions.ts";
import { rotateSigningKeys } from "../src/identity/sessions/signing-keys.ts";
import { userWork } from "../src/identity/users.ts";
import { jobWork } from "../src/lifecycle/signing.ts";
import { cancelOrphanedJobs, expireJobs, refreshCertificates } from "../src/lifecycle/sweeps.ts";
import { pruneIdempotencyKeys } from "../src/platform/commit.ts";
import type { Context } from "../src/platform/context.ts";
import { beat } from "../src/platform/whole.ts";
import { dailyAt, everyMinutes } from "../src/platform/work/schedule.ts";
import { sweep, sweepKind } from "../src/platform/work/sweep.ts";
import { type WorkKinds, wake } from "../src/platform/work/work.ts";
import { alertWork } from "../src/record/alerts.ts";
import { reactionWork } from "../src/record/reactions.ts";
import { WIRING } from "./wiring.ts";

const ATTUNE = "ledgers.attune";

/** The implementation of each kind of work. */
export const workKinds: WorkKinds = {
  ...purgeWork,
  ...issuerWork,
  ...withdrawalWork,
  ...providerWork,
  ...alertWork,
  ...breakglassWork,
  ...userWork,
  ...jobWork,
  ...reactionWork(WIRING.reactions),

  ...sweep("inventory.beat", everyMinutes(1), beatOnce),
  // Also woken by the minute's beat while the inventory recovers.
  ...sweep(ATTUNE, everyMinutes(5), attuneLedgers, { whenFull: true }),
  ...sweep("sealing.register", everyMinutes(1), registerSealing),
  ...sweep("jobs.orphaned", everyMinutes(1), cancelOrphanedJobs),
  ...sweep("certificates.status", everyMinutes(1), refreshCertificates),
  ...sweep("denied.record", everyMinutes(1), recordDenied),
  ...sweep("ledgers.end", everyMinutes(15), endLedgers),
  ...sweep("jobs.expire", everyMinutes(15), expireJobs),
  ...sweep("sessions.keys", everyMinutes(15), rotateSigningKeys),
  ...sweep("sessions.prune", everyMinutes(15), pruneSignIns),
  ...sweep("idempotency.prune", dailyAt(3, 17), pruneKeys),
  ...sweep("ledgers.reconcile", dailyAt(3, 17), reconcileLedgers),
  ...sweep("ledgers.record", dailyAt(3, 17), recordLedgers),
};

/**
 * Runs while the disk is nearly full: only what revocations and CRLs depend on. The remaining sweeps catch up later.
 */
export const kindsWhenFull: WorkKinds = Object.fromEntries(
  Object.entries(workKinds).filter(([, { schedule, whenFull }]) => !schedule || whenFull),
);

/** Starts recovery at once when the inventory turns out to be older than its beat. */
async function beatOnce(ctx: Context): Promise<null> {
  if (await beat(ctx)) wake(ctx, [sweepKind(ATTUNE)]);
  return null;
}

/** Ledgers seal without registering the key, so this records a rotated one within a minute of the start. */
async function registerSealing(ctx: Context): Promise<null> {
  await ctx.sealer.register(ctx.db, ctx.clock.now());
  return null;
}

async function pruneKeys(ctx: Context): Promise<null> {
  await pruneIdempotencyKeys(ctx);
  return null;
}
