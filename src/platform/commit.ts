import { and, eq, lte } from "drizzle-orm";
import { type Context, timestamp } from "./context.ts";
import { runBatch, type Statement, UniqueViolation } from "./database.ts";
import { conflict } from "./errors.ts";
import { idempotencyKeys } from "./tables.ts";
import { utf8 } from "./text.ts";
import { wake, wokenBy } from "./work/work.ts";
import { runTogether } from "./writer.ts";

/** An answer as sent, stored for replay under an Idempotency-Key. */
export interface Answer {
  readonly status: number;
  readonly body: unknown;
}

const KEEP_HOURS = 24;

/**
 * Commits a change as one D1 transaction: its rows, audit events, work and, if the request carried an Idempotency-Key,
 * the answer to replay. `wakeups` are the ids of work rows among the statements; reactions to its events are woken too.
 * `together` shares one flush with concurrent commits, for busy paths (platform/writer.ts).
 * Throws a guard's error, UniqueViolation or ReferenceViolation; nothing was written then.
 */
export async function commit(
  ctx: Context,
  statements: readonly Statement[],
  options: { answer?: Answer; wakeups?: readonly string[]; together?: boolean } = {},
): Promise<void> {
  const all = [...statements];
  if (ctx.idempotency && options.answer) {
    const text = utf8(JSON.stringify(options.answer.body));
    await ctx.sealer.register(ctx.db, ctx.clock.now());
    all.push(
      ctx.db.insert(idempotencyKeys).values({
        actor: actorKey(ctx),
        key: ctx.idempotency.key,
        digest: await ctx.sealer.mac(ctx.idempotency.request, sealPurpose(ctx)),
        status: options.answer.status,
        answer: await ctx.sealer.seal(text, sealPurpose(ctx)),
        created_at: timestamp(ctx),
      }),
    );
  }
  try {
    await (options.together ? runTogether(ctx, all) : runBatch(ctx.db, all));
  } catch (error) {
    if (error instanceof UniqueViolation && error.columns.some((column) => column.startsWith("idempotency_keys."))) {
      throw new IdempotencyRace("another request with this Idempotency-Key was faster");
    }
    throw error;
  }
  wake(ctx, [...(options.wakeups ?? []), ...wokenBy(all)]);
}

/** Two requests with the same Idempotency-Key raced: the loser reads the recorded answer. */
export class IdempotencyRace extends Error {
  readonly code = "idempotency_race";
}

/**
 * The recorded answer for this request's Idempotency-Key, or null. Throws 409 if the key was used with a different
 * body.
 */
export async function recordedAnswer(ctx: Context): Promise<Answer | null> {
  if (!ctx.idempotency) return null;
  const [row] = await ctx.db
    .select()
    .from(idempotencyKeys)
    .where(and(eq(idempotencyKeys.actor, actorKey(ctx)), eq(idempotencyKeys.key, ctx.idempotency.key)));
  if (!row) return null;
  if (!(await ctx.sealer.isMac(row.digest, ctx.idempotency.request, sealPurpose(ctx)))) {
    throw conflict("idempotency_key_reused", "this Idempotency-Key was used with another request; choose a new one");
  }
  const text = await ctx.sealer.open(row.answer, sealPurpose(ctx));
  return { status: row.status, body: JSON.parse(new TextDecoder().decode(text)) };
}

/** Deletes Idempotency-Keys older than a day. */
export async function pruneIdempotencyKeys(ctx: Context): Promise<void> {
  const before = new Date(ctx.clock.now().getTime() - KEEP_HOURS * 3_600_000).toISOString();
  await ctx.db.delete(idempotencyKeys).where(lte(idempotencyKeys.created_at, before));
}

function actorKey(ctx: Context): string {
  return `${ctx.actor.type}:${ctx.actor.id}`;
}

function sealPurpose(ctx: Context): string {
  return `idempotency|${actorKey(ctx)}|${ctx.idempotency?.key ?? ""}`;
}
