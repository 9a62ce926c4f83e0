import { and, asc, eq, gt, sql } from "drizzle-orm";
import type { z } from "zod";
import { commit } from "../../platform/commit.ts";
import { type Context, timestamp } from "../../platform/context.ts";
import { guard, ReferenceViolation, type Statement, UniqueViolation, unchanged } from "../../platform/database.ts";
import { ChangedMeanwhile, conflict, invalid, notFound } from "../../platform/errors.ts";
import { randomId } from "../../platform/ids.ts";
import { checkIfMatch, cleared, nextUpdatedAt, uniqueConflict, writable } from "../../platform/rows.ts";
import { utf8 } from "../../platform/text.ts";
import { enqueue, type Payload, type Rest, type WorkKinds } from "../../platform/work/work.ts";
import { forgetActors } from "../actors.ts";
import { mustCover, TENANT } from "../grants.ts";
import { administratorComesIn } from "../last-admin.ts";
import { endSessionsOf } from "../sessions/sessions.ts";
import { oidcGroupMappings, oidcProviderState, oidcProviders, users } from "../table.ts";
import type { Provider } from "./discovery.ts";
import {
  checkGroupsClaim,
  checkIssuerUrl,
  type providerCreate,
  providerFields,
  secretChange,
} from "./provider-fields.ts";
import { reachOf } from "./reach.ts";

/** Management of identity providers. */

const KIND = "identity provider";

const SIGN_OUT = "oidc.provider.sign_out";
const USERS_AT_ONCE = 50;
/** A sign-in in progress when the provider was disabled has ended after this long. */
const STRAGGLERS_SECONDS = 60;

/** A provider as shown: without its secret, not even sealed. */
export type ShownProvider = Omit<Provider, "sealed_client_secret">;

export function shownProvider({ sealed_client_secret: _, ...shown }: Provider): ShownProvider {
  return shown;
}

export function listProviders(ctx: Context): Promise<Provider[]> {
  return ctx.db.select().from(oidcProviders).orderBy(asc(oidcProviders.created_at), asc(oidcProviders.id));
}

/** The provider; throws 404 if it does not exist. */
export async function mustFindProvider(ctx: Context, id: string): Promise<Provider> {
  const [row] = await ctx.db.select().from(oidcProviders).where(eq(oidcProviders.id, id));
  if (!row) throw notFound(KIND, id);
  return row;
}

/** Creates a provider, enabled by default. It gives no rights until it has a mapping. Throws 409 for a name in use. */
export async function createProvider(ctx: Context, body: z.output<typeof providerCreate>): Promise<Provider> {
  checkIssuerUrl(ctx.settings, body.issuer_url);
  checkGroupsClaim(body);
  const id = randomId(ctx.random, "op-");
  const now = timestamp(ctx);
  const row: Provider = {
    ...providerFields.parse(writable(providerFields, body)),
    id,
    tenant_id: TENANT,
    sealed_client_secret: await seal(ctx, id, body.client_secret),
    created_at: now,
    updated_at: now,
  };
  const audit = ctx.audit("auth.oidc_provider.create", id, { name: row.name, issuer_url: row.issuer_url });
  try {
    await commit(ctx, [ctx.db.insert(oidcProviders).values(row), audit], {
      answer: { status: 201, body: shownProvider(row) },
    });
  } catch (error) {
    if (error instanceof UniqueViolation) throw uniqueConflict(KIND, oidcProviders, row, error);
    throw error;
  }
  return row;
}

/** Seals the client secret for this provider only; empty for a public client. */
export async function seal(ctx: Context, id: string, secret: string | null): Promise<string> {
  if (secret === null || secret === "") return "";
  await ctx.sealer.register(ctx.db, ctx.clock.now());
  return ctx.sealer.seal(utf8(secret), `oidc|${id}`);
}

/**
 * Updates a provider; absent fields keep their values. Disabling it ends its users' sessions. Throws 403 if the actor
 * lacks any right the provider can give; 409 for a name in use, for the last administrator's way to sign in, and for a
 * concurrent change.
 */
export async function updateProvider(
  ctx: Context,
  id: string,
  body: Record<string, unknown>,
  ifMatch: string | null,
): Promise<Provider> {
  const before = await mustFindProvider(ctx, id);
  checkIfMatch(before, ifMatch);
  const closes = body.enabled === false && Object.keys(body).length === 1;
  const reach = await reachOf(ctx, id);
  const what = "this identity provider, by its mappings and users,";
  await mustCover(ctx, reach.permissions, what, { until: closes ? "now" : null });
  const row = await changed(ctx, before, body);
  const fields = Object.keys(row).filter(
    (name) => name !== "updated_at" && differs(row[name as keyof Provider], before[name as keyof Provider]),
  );
  const disabled = before.enabled && !row.enabled;
  const signOuts = disabled ? signOutEntries(ctx, id) : [];
  try {
    await commit(
      ctx,
      [
        guard(unchanged(oidcProviders, before), changedMeanwhile),
        guard(reach.isUnchanged, changedMeanwhile),
        ctx.db.update(oidcProviders).set(row).where(eq(oidcProviders.id, id)),
        ctx.audit("auth.oidc_provider.update", id, { fields: fields.map((name) => name.replace(/^sealed_/, "")) }),
        ...signOuts.map(({ statement }) => statement),
        ...(disabled ? [administratorComesIn(ctx)] : []),
      ],
      { wakeups: signOuts.map((entry) => entry.id) },
    );
  } catch (error) {
    if (error instanceof UniqueViolation) throw uniqueConflict(KIND, oidcProviders, row, error);
    throw error;
  }
  forgetActors();
  return row;
}

const differs = (a: unknown, b: unknown) => JSON.stringify(a) !== JSON.stringify(b);

/** The row after applying the body. */
async function changed(ctx: Context, before: Provider, body: Record<string, unknown>): Promise<Provider> {
  const values = cleared(oidcProviders, providerFields, writable(providerFields, body));
  const row: Provider = { ...before, ...values, updated_at: nextUpdatedAt(ctx, before) };
  if (row.issuer_url !== before.issuer_url) checkIssuerUrl(ctx.settings, row.issuer_url);
  checkGroupsClaim(row);
  const secret = secretChange(body.client_secret);
  if (secret !== "keep") return { ...row, sealed_client_secret: await seal(ctx, row.id, secret.value) };
  // Changing the issuer must not send the stored secret to another tenant or realm on the same host.
  if (row.issuer_url !== before.issuer_url && before.sealed_client_secret !== "")
    throw invalid("client_secret", "must be sent along when issuer_url changes");
  return row;
}

function changedMeanwhile(): ChangedMeanwhile {
  return new ChangedMeanwhile(`the ${KIND} was changed by another request: read again and repeat`);
}

/** Deletes a provider. Throws 409 if it has users or mappings, saying which. */
export async function deleteProvider(ctx: Context, id: string, ifMatch: string | null): Promise<void> {
  const row = await mustFindProvider(ctx, id);
  checkIfMatch(row, ifMatch);
  await mustBeUnused(ctx, id);
  try {
    await commit(ctx, [
      guard(
        unchanged(oidcProviders, row),
        () => new ChangedMeanwhile(`the ${KIND} was changed or deleted by another request`),
      ),
      ctx.db.delete(oidcProviderState).where(eq(oidcProviderState.provider_id, id)),
      ctx.db.delete(oidcProviders).where(eq(oidcProviders.id, id)),
      ctx.audit("auth.oidc_provider.delete", id, { name: row.name }),
    ]);
  } catch (error) {
    if (error instanceof ReferenceViolation) {
      await mustBeUnused(ctx, id);
      throw conflict("in_use", `the ${KIND} is in use`);
    }
    throw error;
  }
}

async function mustBeUnused(ctx: Context, id: string): Promise<void> {
  const counts = await ctx.db.get<{ people: number; mappings: number }>(sql`select
    (select count(*) from ${users} where ${eq(users.oidc_provider_id, id)}) as people,
    (select count(*) from ${oidcGroupMappings} where ${eq(oidcGroupMappings.provider_id, id)}) as mappings`);
  const uses = [
    ...(counts.people > 0 ? [counts.people === 1 ? "1 user" : `${counts.people} users`] : []),
    ...(counts.mappings > 0 ? [counts.mappings === 1 ? "1 group mapping" : `${counts.mappings} group mappings`] : []),
  ];
  if (uses.length === 0) return;
  const advice = counts.people > 0 ? "; disable it instead" : "; remove them first";
  throw conflict("in_use", `the ${KIND} is in use by ${uses.join(" and ")}; nothing was deleted${advice}`);
}

/** Work that ends the sessions of a provider's users: immediately, and again for sign-ins that were in progress. */
function signOutEntries(ctx: Context, provider_id: string): { statement: Statement; id: string }[] {
  return [
    enqueue(ctx, SIGN_OUT, { provider_id, after: "" }),
    enqueue(ctx, SIGN_OUT, { provider_id, after: "" }, STRAGGLERS_SECONDS),
  ];
}

/** Handles one slice of a disabled provider's users. */
async function signOutSlice(ctx: Context, payload: Payload): Promise<Rest | undefined> {
  const provider_id = String(payload.provider_id);
  const slice = await ctx.db
    .select({ id: users.id })
    .from(users)
    .innerJoin(oidcProviders, and(eq(oidcProviders.id, users.oidc_provider_id), eq(oidcProviders.enabled, false)))
    .where(and(eq(users.oidc_provider_id, provider_id), gt(users.id, String(payload.after))))
    .orderBy(asc(users.id))
    .limit(USERS_AT_ONCE);
  for (const { id } of slice) await endSessionsOf(ctx, { id, type: "User" });
  const last = slice.at(-1);
  if (!last || slice.length < USERS_AT_ONCE) return undefined;
  return { payload: { provider_id, after: last.id }, inSeconds: 0 };
}

export const providerWork: WorkKinds = { [SIGN_OUT]: { run: signOutSlice } };
