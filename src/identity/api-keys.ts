import { and, asc, eq, isNull, ne, or, sql } from "drizzle-orm";
import { commit } from "../platform/commit.ts";
import { type ActorType, type Context, type ScopeType, timestamp } from "../platform/context.ts";
import { guard, rowExists } from "../platform/database.ts";
import { type AppError, conflict, forbidden, gone, invalid, notFound } from "../platform/errors.ts";
import type { PageRequest } from "../platform/paging.ts";
import { repeatedly } from "../platform/race.ts";
import { forgetActors } from "./actors.ts";
import { closeBootstrap } from "./bootstrap.ts";
import { DEMO_ACTOR } from "./demo.ts";
import { futureTime, stillThere } from "./grant-changes.ts";
import {
  type ActorRef,
  grantStatement,
  grantsOf,
  mustCover,
  permissionsOf,
  type RoleInScope,
  TENANT,
  unexpired,
} from "./grants.ts";
import { type ApiKey, mintKey, ownerOf } from "./keys.ts";
import { administratorComesIn, isAdminGrant } from "./last-admin.ts";
import { isActor, isReservedName, ofActorId } from "./names.ts";
import { existingScope, findRole, type ScopeInput } from "./roles.ts";
import { actorRoles, apiKeys } from "./table.ts";

/** Management of API keys. Authentication with them is in keys.ts. */

const DEFAULT_OVERLAP_SECONDS = 86_400;
export const MAX_OVERLAP_SECONDS = 30 * 86_400;

export interface NewApiKey {
  readonly name: string;
  readonly roles: readonly (ScopeInput & { readonly role_id: string })[];
  readonly expires_at?: string | null | undefined;
}

export interface ShownRole {
  readonly role_id: string;
  readonly scope_type: ScopeType;
  readonly scope_id?: string;
}

/** A new key, in the only answer that contains it. */
export interface CreatedKey {
  readonly id: string;
  readonly actor_id: string;
  readonly actor_type: ActorType;
  readonly tenant_id: string;
  readonly name: string;
  readonly prefix: string;
  /** Shown once; the server does not keep it. */
  readonly key_value: string;
  readonly roles: readonly ShownRole[];
  readonly created_by: string;
  readonly owner: ActorRef;
  readonly expires_at: string | null;
  readonly created_at: string;
}

export interface ShownKey {
  readonly id: string;
  readonly name: string;
  readonly prefix: string;
  readonly created_at: string;
  readonly created_by: string;
  readonly owner: ActorRef;
  readonly expires_at: string | null;
  readonly last_used_at: string | null;
  readonly revoked_at: string | null;
}

export interface KeyActor {
  readonly actor_id: string;
  readonly actor_type: ActorType;
  readonly tenant_id: string;
  readonly role_ids: readonly string[];
  readonly roles: readonly (ShownRole & { readonly expires_at: string | null })[];
  readonly keys: readonly ShownKey[];
}

/** All actors that have or had a key or hold a role, with their keys; never with a hash. */
export async function listKeyActors(
  ctx: Context,
  { page, per_page }: PageRequest,
): Promise<{ keys: KeyActor[]; total: number }> {
  const all = sql`select ${apiKeys.actor_type} as actor_type, ${apiKeys.actor_id} as actor_id from ${apiKeys}
    union select ${actorRoles.actor_type}, ${actorRoles.actor_id} from ${actorRoles} where ${unexpired(ctx)}`;
  const shown = sql`(select actor_type, actor_id from (${all}) order by actor_type, actor_id
    limit ${per_page} offset ${(page - 1) * per_page})`;
  const [keys, grants, [count]] = await Promise.all([
    ctx.db
      .select()
      .from(apiKeys)
      .where(sql`(${apiKeys.actor_type}, ${apiKeys.actor_id}) in ${shown}`)
      .orderBy(asc(apiKeys.created_at), asc(apiKeys.id)),
    ctx.db
      .select()
      .from(actorRoles)
      .where(and(unexpired(ctx), sql`(${actorRoles.actor_type}, ${actorRoles.actor_id}) in ${shown}`))
      .orderBy(asc(actorRoles.created_at), asc(actorRoles.id)),
    ctx.db.all<{ total: number }>(sql`select count(*) as total from (${all})`),
  ]);
  const nameOf = (row: { actor_type: string; actor_id: string }) => `${row.actor_type} ${row.actor_id}`;
  const keysOf = Map.groupBy(keys, nameOf);
  const rolesOf = Map.groupBy(grants, nameOf);
  const actors = new Map([...keys, ...grants].map((row) => [nameOf(row), row]));
  const found = [...actors]
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, { actor_id, actor_type }]) => {
      const held = rolesOf.get(name) ?? [];
      return {
        actor_id,
        actor_type,
        tenant_id: TENANT,
        role_ids: [...new Set(held.map(({ role_id }) => role_id))],
        roles: held.map((grant) => ({ ...shownRole(grant), expires_at: grant.expires_at })),
        keys: (keysOf.get(name) ?? []).map(shownKey),
      };
    });
  return { keys: found, total: count?.total ?? 0 };
}

function shownKey(key: ApiKey): ShownKey {
  const { id, name, prefix, created_at, created_by, expires_at, last_used_at, revoked_at } = key;
  const owner = { type: key.owner_type, id: key.owner_id };
  return { id, name, prefix, created_at, created_by, owner, expires_at, last_used_at, revoked_at };
}

function shownRole({ role_id, scope_type, scope_id }: RoleInScope): ShownRole {
  return scope_id === "" ? { role_id, scope_type } : { role_id, scope_type, scope_id };
}

/**
 * Creates an actor and its first key. Throws 403 if the caller lacks any right given; 400 for a role, profile or issuer
 * that does not exist; 409 if an actor of that name has or ever had a key or a role: names are never reused.
 */
export async function createKey(ctx: Context, body: NewApiKey): Promise<CreatedKey> {
  if (isReservedName(body.name)) throw invalid("name", `${JSON.stringify(body.name)} cannot be the name of a key`);
  return repeatedly(async () => {
    const given = await givenRoles(ctx, body.roles);
    const expires_at = futureTime(ctx, body.expires_at);
    await mustCover(ctx, await permissionsOf(ctx, given), `the key ${JSON.stringify(body.name)}`);
    await mustBeNew(ctx, body.name);
    const actor: ActorRef = { id: body.name, type: "APIKey" };
    const { answer, statements } = await newKey(ctx, actor, { name: body.name, expires_at }, given);
    const all = [
      guard(sql`not ${isActor(body.name)}`),
      ...stillThere(ctx, given),
      ...statements,
      ...given.map((grant) => grantStatement(ctx, actor, grant)),
      ...(given.some(isAdminGrant) ? [closeBootstrap(ctx)] : []),
      ctx.audit("auth.key.create", answer.id, { actor_id: actor.id, roles: answer.roles, expires_at }),
    ];
    await commit(ctx, all, { answer: { status: 201, body: answer } });
    forgetActors();
    return answer;
  });
}

async function givenRoles(ctx: Context, asked: NewApiKey["roles"]): Promise<RoleInScope[]> {
  const given = new Map<string, RoleInScope>();
  for (const [index, { role_id, ...scope }] of asked.entries()) {
    if (!(await findRole(ctx, role_id)))
      throw invalid(`roles.${index}.role_id`, `role ${JSON.stringify(role_id)} does not exist`, "reference_not_found");
    const grant = { role_id, ...(await existingScope(ctx, scope, `roles.${index}.`)) };
    given.set(JSON.stringify(grant), grant);
  }
  return [...given.values()];
}

async function mustBeNew(ctx: Context, name: string): Promise<void> {
  const [row] = await ctx.db.all<{ known: number }>(sql`select ${isActor(name)} as known`);
  if (row?.known === 1)
    throw conflict("already_exists", `name: ${JSON.stringify(name)} is, or once was, an actor: choose another name`);
}

async function newKey(
  ctx: Context,
  actor: ActorRef,
  key: { readonly name: string; readonly expires_at: string | null },
  given: readonly RoleInScope[],
) {
  const owner = ownerOf(ctx.actor);
  const { id, value, prefix, statements } = await mintKey(ctx, {
    actor_id: actor.id,
    actor_type: actor.type,
    ...key,
    owner,
  });
  const answer: CreatedKey = {
    id,
    actor_id: actor.id,
    actor_type: actor.type,
    tenant_id: TENANT,
    name: key.name,
    prefix,
    key_value: value,
    roles: given.map(shownRole),
    created_by: ctx.actor.id,
    owner,
    expires_at: key.expires_at,
    created_at: timestamp(ctx),
  };
  return { answer, statements };
}

/**
 * Finds the actor for an id under auth/keys: the id of one of its keys (`ak-`), or its own id, where API keys' actors
 * win over agents and users. Includes actors that hold roles but have no key. Throws 404 if there is none, 409 for the
 * demo actor.
 */
export async function keyActor(ctx: Context, id: string): Promise<ActorRef> {
  if (id === DEMO_ACTOR.id)
    throw conflict(
      "demo_actor",
      `${DEMO_ACTOR.id} stands for everybody in demo mode and can be given and denied nothing`,
    );
  const found = await ctx.db.all<ActorRef>(sql`
    select actor_id as id, actor_type as type from ${apiKeys} where ${or(eq(apiKeys.id, id), ofActorId(apiKeys, id))}
    union select actor_id, actor_type from ${actorRoles} where ${ofActorId(actorRoles, id)}`);
  const actor = found.find(({ type }) => type === "APIKey") ?? found[0];
  if (!actor) throw notFound("API key", id);
  return actor;
}

/**
 * Creates another key for the actor. All its other keys end after the overlap, immediately if that is 0. The caller
 * needs all rights of the actor (403), because the answer contains the key. By default the new key gets the lifetime of
 * the old one. Throws 409 if no key is left to rotate, or if the last administrator's key would end.
 */
export async function rotateKey(
  ctx: Context,
  id: string,
  body: { readonly overlap_seconds?: number | undefined; readonly expires_at?: string | null | undefined },
): Promise<CreatedKey & { readonly overlap_ends_at: string }> {
  const actor = await keyActor(ctx, id);
  const rotated = await rotatable(ctx, actor, id);
  const grants = await grantsOf(ctx, actor);
  await mustHaveToRotate(ctx, actor, grants);
  const expires_at = rotatedUntil(ctx, actor, rotated, body.expires_at);
  const { answer, statements } = await newKey(ctx, actor, { name: rotated.name, expires_at }, grants);
  const overlap = body.overlap_seconds ?? DEFAULT_OVERLAP_SECONDS;
  const overlap_ends_at = new Date(ctx.clock.now().getTime() + overlap * 1000).toISOString();
  const shown = { ...answer, overlap_ends_at };
  const others = and(ofActor(actor), isNull(apiKeys.revoked_at), ne(apiKeys.id, answer.id));
  const end =
    overlap === 0
      ? { revoked_at: overlap_ends_at }
      : { expires_at: sql`min(coalesce(${apiKeys.expires_at}, ${overlap_ends_at}), ${overlap_ends_at})` };
  const all = [
    // A key being revoked concurrently must not yield a new one.
    guard(rowExists(apiKeys, and(ofActor(actor), isNull(apiKeys.revoked_at))), () => keyRevoked(id)),
    ...statements,
    ctx.db.update(apiKeys).set(end).where(others),
    ctx.audit("auth.key.rotate", answer.id, { actor_id: actor.id, expires_at, overlap_seconds: overlap }),
  ];
  await commit(ctx, [...all, administratorComesIn(ctx)], { answer: { status: 201, body: shown } });
  forgetActors();
  return shown;
}

/**
 * Rotating reveals the key, so the caller must hold everything it may do: for an agent's key that includes having
 * certificates signed. Throws 403 for missing rights, 401 if the caller was revoked meanwhile, 410 for a retired
 * agent's key.
 */
async function mustHaveToRotate(ctx: Context, actor: ActorRef, grants: readonly RoleInScope[]): Promise<void> {
  await mustBeAtWork(ctx, actor);
  const held = isOwn(ctx, actor) ? [] : await permissionsOf(ctx, grants);
  const signs = actor.type === "Agent" ? [{ permission: "cert.issue", scope_type: "global" as const }] : [];
  await mustCover(ctx, [...held, ...signs], `the key of ${JSON.stringify(actor.id)}`);
}

function isOwn({ actor }: Context, { id, type }: ActorRef): boolean {
  return actor.id === id && actor.type === type;
}

/** Throws 410 for a retired agent: its key serves only to receive that answer. */
export async function mustBeAtWork(ctx: Context, { id, type }: ActorRef): Promise<void> {
  if (type !== "Agent") return;
  const [row] = await ctx.db.all<{ retired_at: string | null }>(
    sql`select ${ctx.wiring.agents.retiredAt(id)} as retired_at`,
  );
  if (row?.retired_at) throw gone("agent_retired", `agent ${JSON.stringify(id)} was retired at ${row.retired_at}`);
}

/** Expiry of the new key. Rotating one's own key cannot extend the lifetime it was created with (403). */
function rotatedUntil(ctx: Context, actor: ActorRef, rotated: ApiKey, asked: string | null | undefined): string | null {
  const same = sameLifeFromNow(ctx, rotated);
  if (asked === undefined) return same;
  const expires_at = futureTime(ctx, asked);
  if (isOwn(ctx, actor) && same !== null && (expires_at === null || expires_at > same))
    throw forbidden(
      `expires_at: a key rotates itself until ${same} at most, as long as it was made for`,
      "privilege_exceeded",
    );
  return expires_at;
}

/**
 * The actor's newest key that is not revoked. Throws 404 if there are no keys, 409 if none is left or `id` names a
 * revoked one.
 */
async function rotatable(ctx: Context, actor: ActorRef, id: string): Promise<ApiKey> {
  const keys = await keysOf(ctx, actor);
  if (keys.length === 0) throw notFound("API key", id);
  const key = keys.findLast(({ revoked_at }) => revoked_at === null);
  if (!key || keys.some((one) => one.id === id && one.revoked_at !== null)) throw keyRevoked(id);
  return key;
}

function keyRevoked(id: string): AppError {
  return conflict("key_revoked", `${JSON.stringify(id)} was revoked: there is nothing to rotate`);
}

function keysOf(ctx: Context, actor: ActorRef): Promise<ApiKey[]> {
  return ctx.db.select().from(apiKeys).where(ofActor(actor)).orderBy(asc(apiKeys.created_at), asc(apiKeys.id));
}

function ofActor(actor: ActorRef) {
  return and(eq(apiKeys.actor_type, actor.type), eq(apiKeys.actor_id, actor.id));
}

function sameLifeFromNow(ctx: Context, { created_at, expires_at }: ApiKey): string | null {
  if (expires_at === null) return null;
  return new Date(ctx.clock.now().getTime() + Date.parse(expires_at) - Date.parse(created_at)).toISOString();
}

/**
 * Revokes one key (`ak-`) or all keys of an actor immediately. Idempotent. For another actor's key the caller needs all
 * rights of that actor (403): nobody can lock out a more privileged actor. Throws 404 for an unknown id, 409 for the
 * last administrator's key.
 */
export async function deleteKeys(ctx: Context, id: string): Promise<void> {
  const actor = await keyActor(ctx, id);
  const keys = await keysOf(ctx, actor);
  if (keys.length === 0) throw notFound("API key", id);
  const named = keys.filter((key) => key.id === id);
  const ending = (named.length > 0 ? named : keys).filter(({ revoked_at }) => revoked_at === null);
  if (ending.length === 0) return;
  if (!isOwn(ctx, actor)) {
    const held = await permissionsOf(ctx, await grantsOf(ctx, actor));
    await mustCover(ctx, held, `the key of ${JSON.stringify(actor.id)}`, { until: "now", does: "holds" });
  }
  const which = named.length > 0 ? eq(apiKeys.id, id) : ofActor(actor);
  await commit(ctx, [
    ctx.db
      .update(apiKeys)
      .set({ revoked_at: timestamp(ctx) })
      .where(and(which, isNull(apiKeys.revoked_at))),
    ...ending.map((key) => ctx.audit("auth.key.delete", key.id, { actor_id: actor.id, actor_type: actor.type })),
    administratorComesIn(ctx),
  ]);
  forgetActors();
}
