import { eq } from "drizzle-orm";
import { forgetActors } from "../../src/identity/actors.ts";
import { grantStatement } from "../../src/identity/grants.ts";
import { mintKey } from "../../src/identity/keys.ts";
import { actorRoles, rolePermissions, roles } from "../../src/identity/table.ts";
import type { ScopeType } from "../../src/platform/context.ts";
import { runBatch } from "../../src/platform/database.ts";
import { randomId } from "../../src/platform/ids.ts";
import { Client } from "./api.ts";
import { contextAhead } from "./context.ts";

/** A permission or a grant in a scope: everywhere where none is told. */
export interface InScope {
  readonly scope_type?: ScopeType;
  readonly scope_id?: string;
  readonly expires_at?: string | null;
}

export interface TestGrant extends InScope {
  readonly role_id: string;
}

/** What an object of a profile or an issuer is reached by. */
export const ofProfile = (scope_id: string): InScope => ({ scope_type: "profile", scope_id });
export const ofIssuer = (scope_id: string): InScope => ({ scope_type: "issuer", scope_id });

/** A client with an API key of a new actor who has these grants. Written straight into the database: no route is needed for it. */
export async function actorWith(grants: readonly TestGrant[], name?: string): Promise<Client> {
  return (await newActor(grants, name)).client;
}

/** The same, with the ids of actor and key. */
export async function newActor(
  grants: readonly TestGrant[],
  name?: string,
): Promise<{ client: Client; actorId: string; keyId: string }> {
  const ctx = contextAhead();
  const actorId = name ?? randomId(ctx.random, "actor-").toLowerCase();
  const key = await mintKey(ctx, { actor_id: actorId, actor_type: "APIKey", name: actorId });
  const given = grants.map((grant) => grantStatement(ctx, { id: actorId, type: "APIKey" }, grant));
  await runBatch(ctx.db, [...key.statements, ...given]);
  forgetActors();
  return { client: new Client(key.value), actorId, keyId: key.id };
}

/** A custom role with these permissions, each everywhere or in a scope; answers its id. */
export async function roleWith(permissions: readonly (string | ({ permission: string } & InScope))[]): Promise<string> {
  const ctx = contextAhead();
  const id = randomId(ctx.random, "r-");
  const created_at = ctx.clock.now().toISOString();
  const role = { id, tenant_id: "t-default", name: id, description: "", created_at, updated_at: created_at };
  const held = permissions.map((one) => {
    const { permission, scope_type = "global", scope_id = "" } = typeof one === "string" ? { permission: one } : one;
    return { role_id: id, permission, scope_type, scope_id, granted_by: "test", created_at };
  });
  await runBatch(ctx.db, [
    ctx.db.insert(roles).values(role),
    ...held.map((row) => ctx.db.insert(rolePermissions).values(row)),
  ]);
  forgetActors();
  return id;
}

/** Takes every grant from an API key's actor; the next request of this isolate sees it. */
export async function ungrant(actorId: string): Promise<void> {
  const ctx = contextAhead();
  await ctx.db.delete(actorRoles).where(eq(actorRoles.actor_id, actorId));
  forgetActors();
}
