import type { oidcProviders } from "../../src/identity/table.ts";

type Row = typeof oidcProviders.$inferSelect;

/** An enabled provider as the API would make it, for tests and benchmarks that write rows themselves; `over` what matters to them. */
export function providerRow(id: string, now: string, over: Partial<Row> = {}): Row {
  return {
    id,
    tenant_id: "t-default",
    name: id,
    issuer_url: `https://${id}.test`,
    client_id: "certctl",
    sealed_client_secret: "",
    redirect_uri: "https://console.test/auth/oidc/callback",
    groups_claim_path: "groups",
    groups_claim_format: "string-array",
    fetch_userinfo: false,
    scopes: ["openid"],
    allowed_email_domains: [],
    iat_window_seconds: 300,
    jwks_cache_ttl_seconds: 3600,
    enabled: true,
    created_at: now,
    updated_at: now,
    ...over,
  };
}
