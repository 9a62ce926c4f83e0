import { and, eq, gt, isNull, or, sql } from "drizzle-orm";
import { addressKey } from "../platform/caller.ts";
import { type Context, timestamp } from "../platform/context.ts";
import { guard, runBatch, type Statement, UniqueViolation } from "../platform/database.ts";
import { conflict, gone, invalid, tooManyRequests, unauthorized } from "../platform/errors.ts";
import { constantTimeEqual } from "../platform/text.ts";
import { forgetActors } from "./actors.ts";
import { grantStatement } from "./grants.ts";
import { mintKey } from "./keys.ts";
import { isActor, isReservedName } from "./names.ts";
import { onceFor } from "./once.ts";
import { actorRoles, milestones } from "./table.ts";

const CLOSED = "the bootstrap is closed: an administrator exists, or no CERTCTL_BOOTSTRAP_TOKEN is set";

/** Whether the bootstrap is open: a token is set and there has never been an administrator. */
export async function bootstrapAvailable(ctx: Context): Promise<boolean> {
  return ctx.settings.bootstrapToken !== null && noAdministratorYet(ctx);
}

/**
 * Whether there has never been an administrator: none was bootstrapped by token or group, and no actor holds the role.
 */
export async function noAdministratorYet(ctx: Context): Promise<boolean> {
  const [[used], [admin]] = await Promise.all([
    ctx.db.select().from(milestones).where(eq(milestones.name, "bootstrap")),
    ctx.db
      .select({ id: actorRoles.id })
      .from(actorRoles)
      .where(
        and(
          eq(actorRoles.role_id, "r-admin"),
          or(isNull(actorRoles.expires_at), gt(actorRoles.expires_at, timestamp(ctx))),
        ),
      )
      .limit(1),
  ]);
  return !used && !admin;
}

/** Statement that closes the bootstrap permanently. Of two concurrent batches one fails with UniqueViolation. */
export function firstAdministrator(ctx: Context): Statement {
  return ctx.db.insert(milestones).values({ name: "bootstrap", at: timestamp(ctx) });
}

/** Throws 410 if the bootstrap is closed, whatever the request. */
export async function mustBeOpen(ctx: Context): Promise<void> {
  if (!(await bootstrapAvailable(ctx))) throw gone("bootstrap_closed", CLOSED);
}

const ATTEMPTS = 10;
const ATTEMPTS_MS = 60_000;

/** Closes the bootstrap if it is open; for batches that create an administrator in another way. */
export function closeBootstrap(ctx: Context): Statement {
  return ctx.db
    .insert(milestones)
    .values({ name: "bootstrap", at: timestamp(ctx) })
    .onConflictDoNothing();
}

/**
 * Exchanges the bootstrap token for the first administrator's API key. Throws 410 when closed, 401 for a wrong token,
 * 429 for more than ten attempts per minute from one address, and 409 if the actor name is taken: holders of that
 * actor's keys would become administrators. The milestone row and the key are one transaction, so of two racing calls
 * one gets the key and the other the 410.
 */
export async function bootstrap(ctx: Context, token: string, actor_name: string) {
  await mustBeOpen(ctx);
  const from = addressKey(ctx.caller.address);
  if (from !== null) {
    const attempt = await onceFor(ctx, "bootstrap", from).attempt(from, ATTEMPTS, ATTEMPTS_MS);
    if (!attempt.allowed)
      throw tooManyRequests(
        "too many attempts at the bootstrap token from this address",
        attempt.retry_after_ms / 1000,
      );
  }
  // The door records wrong tokens, as one audit event per minute, so that attempts cannot fill a table.
  if (!constantTimeEqual(token, ctx.settings.bootstrapToken ?? ""))
    throw unauthorized("token: is not the bootstrap token", "bootstrap_token_invalid");
  if (isReservedName(actor_name))
    throw invalid("actor_name", `an administrator cannot be called ${JSON.stringify(actor_name)}`);
  const now = timestamp(ctx);
  const key = await mintKey(ctx, {
    actor_id: actor_name,
    actor_type: "APIKey",
    name: actor_name,
    owner: { type: "APIKey", id: actor_name },
  });
  try {
    await runBatch(ctx.db, [
      firstAdministrator(ctx),
      guard(sql`not ${isActor(actor_name, ["APIKey"])}`, () =>
        conflict(
          "already_exists",
          `actor_name: ${JSON.stringify(actor_name)} has keys or roles already, as from the demo mode: choose another`,
        ),
      ),
      ...key.statements,
      grantStatement(ctx, { id: actor_name, type: "APIKey" }, { role_id: "r-admin" }),
      ctx.audit("bootstrap.consume", key.id, { actor_name }),
    ]);
  } catch (error) {
    if (error instanceof UniqueViolation) throw gone("bootstrap_closed", CLOSED);
    throw error;
  }
  forgetActors();
  return {
    actor_id: actor_name,
    api_key_id: key.id,
    key_value: key.value,
    created_at: now,
    message: "Keep this key: it is shown once. The bootstrap is closed now.",
  };
}
