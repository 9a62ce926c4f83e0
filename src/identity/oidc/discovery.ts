import { and, eq, isNull, lte, or, sql } from "drizzle-orm";
import type { JSONWebKeySet } from "jose";
import { type Context, timestamp } from "../../platform/context.ts";
import { ReferenceViolation, translateDatabaseError } from "../../platform/database.ts";
import { AppError, notFound } from "../../platform/errors.ts";
import { Room } from "../../platform/room.ts";
import { oidcProviderState, type oidcProviders } from "../table.ts";
import { inspectKeySet } from "./key-set.ts";
import { type Discovery, discoveryUrl, fetchJson, inspectMetadata } from "./metadata.ts";

export type { Discovery } from "./metadata.ts";

/**
 * A provider's metadata and keys as last fetched. Stored in D1, so that all isolates share them and the counters are
 * exact; nothing is cached in an isolate.
 */

export type Provider = typeof oidcProviders.$inferSelect;
type StateRow = typeof oidcProviderState.$inferSelect;

/** The stored documents of a provider and its counters. */
export interface ProviderState extends Omit<StateRow, "discovery" | "jwks"> {
  readonly discovery: Discovery | null;
  readonly keys: JSONWebKeySet | null;
}

export interface ProviderDocuments {
  readonly discovery: Discovery;
  readonly keys: JSONWebKeySet;
}

/** Time limit of a fetch. Requests that wait for another request's fetch poll every LOOK_MS. */
const ATTEMPT_MS = 10_000;
const LOOK_MS = 250;
export const MAX_WAITING = 16;

/**
 * Tokens signed with an unknown key cause at most one fetch in this time, whoever sends them, and none this soon after
 * a failure.
 */
const KEY_BRAKE_MS = 30_000;

/** Failed fetches are not repeated for this long, so that load on the sign-in page does not reach the provider. */
const FAILURE_BRAKE_MS = 5_000;

/** 502: the provider did not answer, or its answer was invalid. `reason` is the sign-in failure reason. */
export class ProviderError extends AppError {
  readonly reason: "provider_unreachable" | "jwks_unreachable";

  constructor(reason: ProviderError["reason"], message: string, cause?: unknown) {
    super(502, "provider_failed", message, { cause });
    this.reason = reason;
  }
}

export async function discover(ctx: Context, provider: Provider): Promise<Discovery> {
  return (await providerDocuments(ctx, provider)).discovery;
}

/**
 * The provider's metadata and keys: the stored ones if they are younger than jwks_cache_ttl_seconds and belong to this
 * issuer_url, otherwise fetched. `refresh` always fetches. Throws ProviderError (502) saying what is wrong.
 */
export async function providerDocuments(
  ctx: Context,
  provider: Provider,
  { refresh = false }: { refresh?: boolean } = {},
): Promise<ProviderDocuments> {
  const state = await stateOf(ctx, provider);
  if (!refresh && state) {
    const kept = keptDocuments(ctx, provider, state);
    if (kept) return kept;
    if (state.last_error !== null && isWithin(ctx, state.attempted_at, FAILURE_BRAKE_MS))
      throw new ProviderError(
        state.last_error.startsWith("jwks_uri") ? "jwks_unreachable" : "provider_unreachable",
        state.last_error,
      );
  }
  return fetchDocuments(ctx, provider);
}

/**
 * Fetches again because a token's key is not stored, or the stored key of that id does not verify it. A conditional
 * update lets one caller through per KEY_BRAKE_MS; concurrent callers wait for its result. Null if there is nothing
 * newer.
 */
export async function refetchKeys(ctx: Context, provider: Provider): Promise<ProviderDocuments | null> {
  const before = new Date(ctx.clock.now().getTime() - KEY_BRAKE_MS).toISOString();
  const claimed = await ctx.db
    .update(oidcProviderState)
    .set({ attempted_at: timestamp(ctx) })
    .where(
      and(
        eq(oidcProviderState.provider_id, provider.id),
        or(isNull(oidcProviderState.attempted_at), lte(oidcProviderState.attempted_at, before)),
      ),
    )
    .returning({ id: oidcProviderState.provider_id });
  return claimed.length === 0 ? fetchedByAnother(ctx, provider) : fetchDocuments(ctx, provider);
}

/**
 * Waits for the result of another request's fetch; null if it failed or never ended. Few may wait, others get
 * ProviderError: anyone can send an unknown key id, and a hanging provider must not collect requests that keep polling
 * the database.
 */
async function fetchedByAnother(ctx: Context, provider: Provider): Promise<ProviderDocuments | null> {
  const me = Symbol();
  try {
    for (let waited = 0; ; waited += LOOK_MS) {
      const state = await stateOf(ctx, provider);
      if (!state?.attempted_at || state.last_error !== null) return null;
      if (state.fetched_at !== null && state.fetched_at >= state.attempted_at)
        return keptDocuments(ctx, provider, state);
      if (waited >= ATTEMPT_MS || !isWithin(ctx, state.attempted_at, ATTEMPT_MS)) return null;
      if (waited === 0 && !waiting.enter(me)) throw crowded();
      await scheduler.wait(LOOK_MS);
    }
  } finally {
    waiting.leave(me);
  }
}

/** Requests waiting in this isolate. */
const waiting = new Room(MAX_WAITING, 2 * ATTEMPT_MS);

function crowded(): ProviderError {
  return new ProviderError(
    "jwks_unreachable",
    "jwks_uri: the keys are being fetched, and others wait for them already",
  );
}

/** The state of this provider for its current issuer_url; null before the first fetch. */
export async function stateOf(ctx: Context, provider: Provider): Promise<ProviderState | null> {
  const [row] = await ctx.db.select().from(oidcProviderState).where(eq(oidcProviderState.provider_id, provider.id));
  if (!row) return null;
  const { discovery, jwks, ...rest } = row;
  if (row.issuer_url !== provider.issuer_url)
    return { ...rest, discovery: null, keys: null, fetched_at: null, attempted_at: null, last_error: null };
  return {
    ...rest,
    discovery: discovery as unknown as Discovery | null,
    keys: jwks as unknown as JSONWebKeySet | null,
  };
}

function keptDocuments(ctx: Context, provider: Provider, state: ProviderState): ProviderDocuments | null {
  const { discovery, keys, fetched_at } = state;
  return discovery && keys && isWithin(ctx, fetched_at, provider.jwks_cache_ttl_seconds * 1000)
    ? { discovery, keys }
    : null;
}

/** Whether `time` is less than `ms` ago. False for a future time, which must not delay anything. */
function isWithin(ctx: Context, time: string | null, ms: number): boolean {
  if (time === null) return false;
  const age = ctx.clock.now().getTime() - Date.parse(time);
  return age >= 0 && age < ms;
}

async function fetchDocuments(ctx: Context, provider: Provider): Promise<ProviderDocuments> {
  const attempted_at = timestamp(ctx);
  try {
    const documents = await ask(ctx, provider.issuer_url);
    await save(ctx, provider, {
      fetched_at: attempted_at,
      discovery: { ...documents.discovery },
      jwks: { ...documents.keys },
      last_error: null,
    });
    return documents;
  } catch (error) {
    if (error instanceof ProviderError) await save(ctx, provider, { attempted_at, last_error: error.message });
    throw error;
  }
}

/** Fetches and checks both documents without storing them. */
async function ask(ctx: Context, issuer: string): Promise<ProviderDocuments> {
  const metadata = inspectMetadata(ctx.settings, issuer, await fetched(ctx, "discovery", discoveryUrl(issuer)));
  if (metadata.problems.length > 0)
    throw new ProviderError("provider_unreachable", `discovery: ${metadata.problems.join("; ")}`);
  const discovery = metadata.value as Discovery;
  const keys = await inspectKeySet(await fetched(ctx, "jwks_uri", discovery.jwks_uri));
  if (keys.value.keys.length === 0) throw new ProviderError("jwks_unreachable", keys.problems.join("; "));
  return { discovery, keys: keys.value };
}

async function fetched(ctx: Context, what: "discovery" | "jwks_uri", url: string): Promise<Record<string, unknown>> {
  try {
    return await fetchJson(ctx.settings, url);
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    const reason = what === "discovery" ? "provider_unreachable" : "jwks_unreachable";
    throw new ProviderError(reason, `${what}: ${error.message.replace(/^url: /, "")}`, error);
  }
}

/** Stores the outcome. After a failure, documents of the same issuer are kept until they expire. */
async function save(
  ctx: Context,
  provider: Provider,
  outcome: Pick<StateRow, "last_error"> & Partial<Pick<StateRow, "attempted_at" | "fetched_at" | "discovery" | "jwks">>,
): Promise<void> {
  const fresh = outcome.fetched_at !== undefined;
  const row = {
    provider_id: provider.id,
    issuer_url: provider.issuer_url,
    discovery: null,
    jwks: null,
    fetched_at: null,
    attempted_at: null,
    ...outcome,
    refresh_count: fresh ? 1 : 0,
    rejected_jws_count: 0,
  };
  const sameIssuer = sql`${oidcProviderState.issuer_url} = excluded.issuer_url`;
  const kept = (name: "discovery" | "jwks" | "fetched_at") =>
    sql`case when ${sameIssuer} then ${oidcProviderState[name]} else null end`;
  const documents = fresh
    ? outcome
    : { ...outcome, discovery: kept("discovery"), jwks: kept("jwks"), fetched_at: kept("fetched_at") };
  try {
    await ctx.db
      .insert(oidcProviderState)
      .values(row)
      .onConflictDoUpdate({
        target: oidcProviderState.provider_id,
        set: {
          ...documents,
          issuer_url: row.issuer_url,
          refresh_count: sql`${oidcProviderState.refresh_count} + ${row.refresh_count}`,
        },
      });
  } catch (error) {
    // The provider was deleted during the fetch.
    if (translateDatabaseError(error) instanceof ReferenceViolation) throw notFound("identity provider", provider.id);
    throw error;
  }
}
