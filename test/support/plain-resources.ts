/**
 * The plain resources, each with all that the tests need to know of it: who may call its routes (test/support/matrix.ts says how
 * the letters are read) and what its bodies are.
 */
export interface PlainResource {
  readonly path: string;
  /** The namespace of its permissions. */
  readonly permission: string;
  readonly may: { readonly read: string; readonly edit: string; readonly delete: string };
  readonly uniqueName: boolean;
  readonly id: RegExp;
  /** What names begin with, so that ids match. */
  readonly base: string;
  /** What a create body must have besides a name. */
  readonly body: Record<string, unknown>;
  /** What an answer has beyond the body. */
  readonly defaults: Record<string, unknown>;
  readonly change: Record<string, unknown>;
  /** A field that a client must not be able to set. */
  readonly managed: Record<string, unknown>;
  readonly audit: string;
  /** Bodies that are refused, with what the message must name. */
  readonly refused: readonly [Record<string, unknown>, string][];
}

/** The agent that bodies of targets name. */
export const RESOURCES_AGENT = "agent-resources-host";

export const PLAIN_RESOURCES: Readonly<Record<string, PlainResource>> = {
  team: {
    path: "/api/v1/teams",
    permission: "team",
    may: { read: "AOV..MC.", edit: "AO....C.", delete: "AO......" },
    uniqueName: true,
    id: /^t-platform-\d+$/,
    base: "Platform",
    body: {},
    defaults: { description: "" },
    change: { description: "those who run it" },
    managed: { created_at: "2001-01-01T00:00:00Z" },
    audit: "team",
    refused: [
      [{}, "name"],
      [{ name: "" }, "name"],
      [{ name: "a\u0000b" }, "name"],
      [{ name: 5 }, "name"],
      [{ name: "x", colour: "red" }, "colour"],
      [{ name: "x", id: "Not An Id" }, "id"],
    ],
  },
  owner: {
    path: "/api/v1/owners",
    permission: "owner",
    may: { read: "AOV..MC.", edit: "AO....C.", delete: "AO......" },
    uniqueName: false,
    id: /^o-alice-\d+$/,
    base: "Alice",
    body: { email: "alice@example.com" },
    defaults: { team_id: null },
    change: { email: "a@example.org" },
    managed: { updated_at: "2001-01-01T00:00:00Z" },
    audit: "owner",
    refused: [
      [{ name: "x", email: "nobody" }, "email"],
      [{ name: "x", team_id: "t-none" }, "team_id"],
    ],
  },
  profile: {
    path: "/api/v1/profiles",
    permission: "profile",
    may: { read: "AOV..MC.", edit: "AO...MC.", delete: "A......." },
    uniqueName: true,
    id: /^prof-web-\d+$/,
    base: "Web",
    body: {},
    defaults: {
      description: "",
      allowed_key_algorithms: [
        { algorithm: "ECDSA", min_size: 256 },
        { algorithm: "RSA", min_size: 2048 },
      ],
      max_ttl_seconds: 0,
      allowed_ekus: ["serverAuth"],
      required_san_patterns: [],
      spiffe_uri_pattern: "",
      allow_short_lived: false,
      must_staple: false,
      enabled: true,
    },
    change: { max_ttl_seconds: 86_400, allowed_ekus: ["serverAuth", "clientAuth"] },
    managed: { created_at: "2001-01-01T00:00:00Z" },
    audit: "profile",
    refused: [
      [
        { name: "x", allowed_key_algorithms: [{ algorithm: "RSA", min_size: 1024 }] },
        "allowed_key_algorithms.0.min_size",
      ],
      [
        { name: "x", allowed_key_algorithms: [{ algorithm: "ECDSA", min_size: 224 }] },
        "allowed_key_algorithms.0.min_size",
      ],
      [
        { name: "x", allowed_key_algorithms: [{ algorithm: "DSA", min_size: 2048 }] },
        "allowed_key_algorithms.0.algorithm",
      ],
      [{ name: "x", allow_short_lived: true, max_ttl_seconds: 3600 }, "allow_short_lived"],
      [{ name: "x", allowed_ekus: ["anyExtendedKeyUsage"] }, "allowed_ekus.0"],
      [{ name: "x", allowed_ekus: ["serverAuth", "timeStamping"] }, "allowed_ekus"],
      [{ name: "x", allowed_ekus: ["OCSPSigning", "serverAuth"] }, "allowed_ekus.0"],
      [{ name: "x", allowed_ekus: ["serverAuth", "serverAuth"] }, "allowed_ekus"],
      [{ name: "x", max_ttl_seconds: -1 }, "max_ttl_seconds"],
      [{ name: "x", max_ttl_seconds: 1 }, "max_ttl_seconds"],
      [{ name: "x", subject: { organization: "a\u0000b" } }, "subject.organization"],
      [{ name: "x", required_san_patterns: ["(a+)+b"] }, "required_san_patterns.0"],
      [{ name: "x", required_san_patterns: ["a?a?a?a?aaaa"] }, "required_san_patterns.0"],
      [{ name: "x", required_san_patterns: ["[unclosed"] }, "required_san_patterns.0"],
      [{ name: "x", spiffe_uri_pattern: "spiffe://example.org/*" }, "spiffe_uri_pattern"],
    ],
  },
  "renewal policy": {
    path: "/api/v1/renewal-policies",
    permission: "policy",
    may: { read: "AOV..MC.", edit: "AO....C.", delete: "AO....C." },
    uniqueName: true,
    id: /^rp-standard-\d+$/,
    base: "Standard",
    body: {},
    defaults: {
      renewal_window_days: 30,
      auto_renew: true,
      max_retries: 3,
      retry_interval_seconds: 3600,
      alert_thresholds_days: [30, 14, 7, 0],
      certificate_profile_id: null,
    },
    change: { renewal_window_days: 10, auto_renew: false },
    managed: { created_at: "2001-01-01T00:00:00Z" },
    audit: "renewal_policy",
    refused: [
      [{ name: "x", renewal_window_days: 0 }, "renewal_window_days"],
      [{ name: "x", renewal_window_days: 366 }, "renewal_window_days"],
      [{ name: "x", max_retries: 11 }, "max_retries"],
      [{ name: "x", retry_interval_seconds: 59 }, "retry_interval_seconds"],
      [{ name: "x", alert_thresholds_days: [400] }, "alert_thresholds_days.0"],
      [{ name: "x", auto_renew: "yes" }, "auto_renew"],
    ],
  },
  target: {
    path: "/api/v1/targets",
    permission: "target",
    may: { read: "AOV..MC.", edit: "AO...MC.", delete: "AO....C." },
    uniqueName: true,
    id: /^tgt-edge-\d+$/,
    base: "Edge",
    body: { type: "NGINX", agent_id: RESOURCES_AGENT },
    defaults: { config: {}, enabled: true, retired_at: null },
    change: { enabled: false, config: { cert_path: "/etc/nginx/site.pem", reload_command: "systemctl reload nginx" } },
    managed: { retired_at: "2001-01-01T00:00:00Z" },
    audit: "target",
    refused: [
      [{ name: "x", type: "Toaster", agent_id: RESOURCES_AGENT }, "type"],
      [{ name: "x", type: "NGINX", agent_id: "agent-none" }, "agent_id"],
      [{ name: "x", type: "NGINX" }, "agent_id"],
      [{ name: "x", type: "NGINX", agent_id: RESOURCES_AGENT, config: { toast: 1 } }, "config.toast"],
      [
        { name: "x", type: "NGINX", agent_id: RESOURCES_AGENT, config: { cert_path: "/etc/a\u0000b" } },
        "config.cert_path",
      ],
      [{ name: "x", type: "Envoy", agent_id: RESOURCES_AGENT, config: { cert_dir: "/etc\n/x" } }, "config.cert_dir"],
      [
        { name: "x", type: "NGINX", agent_id: RESOURCES_AGENT, config: { reload_command: "nginx; rm -rf /" } },
        "config.reload_command",
      ],
      [{ name: "x", type: "F5", agent_id: RESOURCES_AGENT, config: { password: "********" } }, "config.password"],
    ],
  },
};
