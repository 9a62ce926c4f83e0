import { grantStatement } from "../../src/identity/grants.ts";
import { users } from "../../src/identity/table.ts";
import { runBatch } from "../../src/platform/database.ts";
import type { InScope } from "./actors.ts";
import type { Client } from "./api.ts";
import { contextAhead } from "./context.ts";

export interface ProviderBody extends Record<string, unknown> {
  readonly id: string;
  readonly name: string;
  readonly updated_at: string;
}

/** The body of a provider that is in order. */
export function providerBody(more: Record<string, unknown> = {}) {
  return {
    name: `provider ${crypto.randomUUID()}`,
    issuer_url: `https://idp.test/${crypto.randomUUID()}`,
    client_id: "certctl",
    client_secret: "top-secret",
    redirect_uri: "https://pki.test/auth/oidc/callback",
    ...more,
  };
}

export function newProvider(admin: Client, more: Record<string, unknown> = {}): Promise<ProviderBody> {
  return admin.create<ProviderBody>("/api/v1/auth/oidc/providers", providerBody(more));
}

/** A user who has signed in once, with grants by hand or of a mapping. Written straight into the database. */
export async function newUser(
  provider_id: string,
  grants: readonly (InScope & { role_id: string; mapping_id?: string })[] = [],
): Promise<string> {
  const ctx = contextAhead();
  const id = `u-${crypto.randomUUID()}`;
  const now = ctx.clock.now().toISOString();
  const row = {
    id,
    tenant_id: "t-default",
    oidc_provider_id: provider_id,
    oidc_subject: id,
    email: `${id}@example.com`,
    display_name: id,
    created_at: now,
    updated_at: now,
  };
  await runBatch(ctx.db, [
    ctx.db.insert(users).values(row),
    ...grants.map((grant) => grantStatement(ctx, { id, type: "User" }, grant)),
  ]);
  return id;
}
