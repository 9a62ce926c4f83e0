import { and, eq, type SQL, sql } from "drizzle-orm";
import { mustCover, permissionsOf } from "../identity/grants.ts";
import { ownerOf } from "../identity/keys.ts";
import { ownerIsDeactivated } from "../identity/live.ts";
import { onceFor } from "../identity/once.ts";
import { addressKey } from "../platform/caller.ts";
import { commit } from "../platform/commit.ts";
import { type Actor, type Caller, type Context, type LookupContext, timestamp } from "../platform/context.ts";
import { bearerToken, type Credential } from "../platform/credential.ts";
import { up } from "../platform/cursor.ts";
import { guard, rowExists, type Statement } from "../platform/database.ts";
import {
  type AppError,
  forbidden,
  gone,
  invalid,
  notFound,
  tooManyRequests,
  unauthorized,
} from "../platform/errors.ts";
import { randomId } from "../platform/ids.ts";
import type { Page, PageRequest } from "../platform/paging.ts";
import { ifUnchanged } from "../platform/race.ts";
import { listPage } from "../platform/rows.ts";
import { base64url, sha256Hex } from "../platform/text.ts";
import { agentCredentials as table } from "./table.ts";

/** Credentials with which agents enrol themselves: limited in uses and lifetime, and good for enrolment only. */

/** Prefix of credential ids; agent ids may not have it. */
const CREDENTIAL_ID_PREFIX = "abc-";
const TOKEN_PREFIX = "certctl_agent_";
const TOKEN = /^certctl_agent_[A-Za-z0-9_-]{43}$/;
const SHOWN_PREFIX = TOKEN_PREFIX.length + 6;
const DAY_MS = 86_400_000;
const DEFAULT_LIFE_MS = DAY_MS;
const MAX_LIFE_MS = 90 * DAY_MS;

/** Failed attempts a minute from one address: too few to guess a token, enough to notice a wrong one. */
const FAILURES = 10;
const FAILURE_WINDOW_MS = 60_000;

export type AgentCredential = typeof table.$inferSelect;
export type ShownCredential = Omit<AgentCredential, "token_hash" | "updated_at">;

export interface NewCredential {
  readonly name: string;
  readonly max_uses: number;
  readonly expires_at?: string | undefined;
  readonly ttl_seconds?: number | undefined;
}

/** The credential without its hash. */
export function shown({ token_hash: _, updated_at: __, ...credential }: AgentCredential): ShownCredential {
  return credential;
}

/**
 * A new credential; only this answer has its token. 403 if the caller lacks a permission that the enrolled agents would
 * get, 400 for an expiry in the past or more than 90 days ahead.
 */
export async function createCredential(
  ctx: Context,
  body: NewCredential,
): Promise<ShownCredential & { readonly token: string }> {
  const wanted = await permissionsOf(ctx, [{ role_id: "r-agent", scope_type: "global", scope_id: "" }]);
  await mustCover(ctx, wanted, "the agents it enrols");
  const token = TOKEN_PREFIX + base64url(ctx.random.bytes(32));
  const owner = ownerOf(ctx.actor);
  const now = timestamp(ctx);
  const row: AgentCredential = {
    id: randomId(ctx.random, CREDENTIAL_ID_PREFIX),
    name: body.name,
    prefix: token.slice(0, SHOWN_PREFIX),
    token_hash: await sha256Hex(token),
    max_uses: body.max_uses,
    uses: 0,
    expires_at: expiryOf(Date.parse(now), body),
    revoked_at: null,
    created_by: ctx.actor.id,
    owner_type: owner.type,
    owner_id: owner.id,
    last_used_at: null,
    created_at: now,
    updated_at: now,
  };
  const answer = { ...shown(row), token };
  const details = { name: row.name, max_uses: row.max_uses, expires_at: row.expires_at };
  await commit(ctx, [ctx.db.insert(table).values(row), ctx.audit("auth.agent_credential.create", row.id, details)], {
    answer: { status: 201, body: answer },
  });
  return answer;
}

function expiryOf(now: number, { expires_at, ttl_seconds }: NewCredential): string {
  if (expires_at !== undefined && ttl_seconds !== undefined)
    throw invalid("expires_at", "either expires_at or ttl_seconds says how long it holds, not both");
  const field = expires_at === undefined ? "ttl_seconds" : "expires_at";
  const end =
    expires_at === undefined
      ? now + (ttl_seconds === undefined ? DEFAULT_LIFE_MS : ttl_seconds * 1000)
      : Date.parse(expires_at);
  if (end <= now) throw invalid(field, "must be in the future");
  if (end > now + MAX_LIFE_MS) throw invalid(field, "a credential holds at most 90 days");
  return new Date(end).toISOString();
}

export async function findCredential(ctx: Pick<Context, "db">, id: string): Promise<AgentCredential | null> {
  const [row] = await ctx.db.select().from(table).where(eq(table.id, id));
  return row ?? null;
}

export function listCredentials(ctx: Context, page: PageRequest): Promise<Page<AgentCredential>> {
  return listPage(ctx, table, page, { order: [up(table.created_at), up(table.id)] });
}

/** Ends a credential at once; agents it enrolled keep working. Idempotent. */
export async function revokeCredential(ctx: Context, id: string): Promise<void> {
  const credential = await findCredential(ctx, id);
  if (!credential) throw notFound("agent credential", id);
  if (credential.revoked_at !== null) return;
  const now = timestamp(ctx);
  const live = and(eq(table.id, id), sql`${table.revoked_at} is null`);
  const statements = [
    guard(rowExists(table, live)),
    ctx.db.update(table).set({ revoked_at: now, updated_at: now }).where(live),
    ctx.audit("auth.agent_credential.revoke", id, { name: credential.name, uses: credential.uses }),
  ];
  await ifUnchanged(() => commit(ctx, statements));
}

/** Condition: this user has a credential that would enrol agents if the user were active. */
export function mayEnrol(ctx: Context, userId: string): SQL {
  return rowExists(
    table,
    sql`${table.owner_type} = 'User' and ${table.owner_id} = ${userId} and ${table.revoked_at} is null
      and ${table.uses} < ${table.max_uses} and ${table.expires_at} > ${timestamp(ctx)}`,
  );
}

/** Allows only the enrolment of an agent. Sent as a Bearer token, like an API key. */
export const bootstrapCredential: Credential = {
  name: "agentBootstrap",
  scheme: { type: "http", scheme: "bearer", description: `An agent's bootstrap credential: ${TOKEN_PREFIX}...` },
  title: "an agent's bootstrap credential",
  challenge: null,
  identify: (ctx, { request, caller }) => {
    const token = bearerToken(request);
    return token !== null && TOKEN.test(token) ? enrollingActor(ctx, caller, token) : null;
  },
  elsewhere: () => forbidden("an agent's bootstrap credential opens POST /api/v1/agents only", "for_enrolment_only"),
};

/**
 * The actor behind a bootstrap credential: a future agent without rights. A used-up credential still authenticates,
 * because its last enrolment may be repeated by its Idempotency-Key; `useStatements` refuses further use. Throws 401
 * for an invalid token, 429 for an address that has sent too many of them.
 */
async function enrollingActor(ctx: LookupContext, caller: Caller, token: string): Promise<Actor> {
  const from = addressKey(caller.address);
  const failures = from === null ? null : onceFor(ctx, "agent-credential", from);
  if (from !== null && failures) {
    const { locked_until } = await failures.attempts(from, FAILURES);
    if (locked_until !== null) throw tooMany(locked_until - ctx.clock.now().getTime());
  }
  const [found] = await ctx.db
    .select({ credential: table, stopped: ownerIsDeactivated(table).mapWith(Boolean) })
    .from(table)
    .where(eq(table.token_hash, await sha256Hex(token)));
  const flaw = flawOf(found?.credential ?? null, found?.stopped ?? false, timestamp(ctx));
  if (found && !flaw) {
    const { id } = found.credential;
    return { id, type: "Agent", tenant_id: "t-default", roles: [], permissions: [], enrols_by: id };
  }
  if (from !== null && failures) {
    const attempt = await failures.attempt(from, FAILURES, FAILURE_WINDOW_MS);
    if (!attempt.allowed) throw tooMany(attempt.retry_after_ms);
  }
  throw flaw ?? unknownToken();
}

function tooMany(retryAfterMs: number): AppError {
  return tooManyRequests("too many agent credentials that do not hold came from this address", retryAfterMs / 1000);
}

function unknownToken(): AppError {
  return unauthorized("the agent credential is not valid: there is none like it", "agent_credential_invalid");
}

/** The reason a credential is invalid, or null. */
function flawOf(credential: AgentCredential | null, stopped: boolean, now: string): AppError | null {
  if (!credential) return unknownToken();
  const { revoked_at, expires_at } = credential;
  if (revoked_at !== null)
    return unauthorized(`the agent credential was revoked at ${revoked_at}`, "agent_credential_revoked");
  if (expires_at <= now)
    return unauthorized(`the agent credential expired at ${expires_at}`, "agent_credential_expired");
  if (stopped) return unauthorized("the agent credential's owner was deactivated", "agent_credential_revoked");
  return null;
}

/**
 * Statements that count one use of a credential. If it is used up or no longer valid, the batch fails with the reason.
 */
export function useStatements(ctx: Context, id: string): Statement[] {
  const now = timestamp(ctx);
  const holds = and(
    eq(table.id, id),
    sql`${table.uses} < ${table.max_uses} and ${table.revoked_at} is null and ${table.expires_at} > ${now}`,
    sql`not ${ownerIsDeactivated(table)}`,
  );
  return [
    guard(rowExists(table, holds), () => whyNotUsed(ctx, id)),
    ctx.db
      .update(table)
      .set({ uses: sql`${table.uses} + 1`, last_used_at: now, updated_at: now })
      .where(eq(table.id, id)),
  ];
}

async function whyNotUsed(ctx: Context, id: string): Promise<AppError> {
  const credential = await findCredential(ctx, id);
  if (credential && credential.uses >= credential.max_uses)
    return gone("agent_credential_used_up", `the agent credential has had its ${credential.max_uses} uses`);
  return flawOf(credential, true, timestamp(ctx)) ?? unknownToken();
}
