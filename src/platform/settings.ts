import ipaddr from "ipaddr.js";
import { DEMO_ACK_MS } from "./demo.ts";

/** Deployment settings, parsed once (wire.md "Settings"). */
export interface Settings {
  readonly version: string;
  readonly commit: string;
  readonly buildTime: string;
  /** Base of every URL that we hand out; no trailing slash. Never taken from a Host header. */
  readonly publicUrl: string;
  readonly bootstrapToken: string | null;
  /** The first seals, all open. */
  readonly sealingKeys: readonly SealingKey[];
  readonly trustedProxySecret: string | null;
  /**
   * On one machine, as `npm start` and `npm run dev` say: nothing that Cloudflare would add to a request is true. Listening on
   * loopback addresses alone, or on the network too. Null elsewhere.
   */
  readonly local: "loopback" | "network" | null;
  /** `npm start` alone: the runtime hands over each request target as it was sent, and makes no URL of it. */
  readonly targetsAsSent: boolean;
  readonly outboundAllow: readonly IpRange[];
  readonly auth: AuthSettings;
  /** Tests only: every JSON answer is checked against its declared schema before it leaves. */
  readonly checkAnswers: boolean;
}

/** How people and programs prove who they are. Times are milliseconds. */
export interface AuthSettings {
  /** `none` is the demo mode; the other two take API keys and sign-in alike. */
  readonly type: "api-key" | "oidc" | "none";
  /** Until when the demo mode may be reached from elsewhere than this machine; null without acknowledgement. */
  readonly demoAcknowledgedUntil: number | null;
  /** Members of one of these groups become administrators while there is none. */
  readonly bootstrapAdminGroups: readonly string[];
  /** The one provider whose groups count for that; null: any. */
  readonly bootstrapProviderId: string | null;
  /** The provider that is made while there is no administrator, who could make one; null without these settings. */
  readonly bootstrapProvider: BootstrapProvider | null;
  readonly sessionIdleMs: number;
  readonly sessionAbsoluteMs: number;
  /** A signing key is used for new sessions for so long; it verifies for an absolute session's length beyond that. */
  readonly sessionKeyRotationMs: number;
  readonly sessionSameSite: "Lax" | "Strict";
  readonly backChannelMaxAgeMs: number;
  readonly corsOrigins: readonly string[];
  readonly rateLimits: boolean;
  readonly breakglass: {
    readonly enabled: boolean;
    readonly threshold: number;
    readonly lockMs: number;
  };
  /** Where loud events (break-glass) are posted as JSON; null: nowhere but the audit log. */
  readonly alertWebhook: string | null;
}

/** As the API's fields of a provider have them; checked when it is made. */
export interface BootstrapProvider {
  readonly issuer_url: string;
  readonly client_id: string;
  readonly client_secret: string;
  readonly redirect_uri: string;
  readonly groups_claim_path: string;
  /** Absent: those that every provider gets. */
  readonly scopes?: readonly string[];
  readonly fetch_userinfo: boolean;
}

export interface SealingKey {
  readonly id: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

export type IpRange = readonly [ipaddr.IPv4 | ipaddr.IPv6, number];

export class SettingsError extends Error {
  readonly code = "settings_invalid";
}

/** Reads the settings from environment values; a value that cannot be used is an error that names it. */
export function parseSettings(env: Readonly<Record<string, unknown>>): Settings {
  const text = (name: string) => {
    const value = env[name];
    return typeof value === "string" && value !== "" ? value : null;
  };
  return {
    version: text("CERTCTL_VERSION") ?? "0.0.0",
    commit: text("CERTCTL_COMMIT") ?? "unknown",
    buildTime: text("CERTCTL_BUILD_TIME") ?? "unknown",
    publicUrl: parsePublicUrl(text("CERTCTL_PUBLIC_URL") ?? "http://localhost:8787"),
    bootstrapToken: text("CERTCTL_BOOTSTRAP_TOKEN"),
    sealingKeys: parseSealingKeys(text("CERTCTL_SEALING_KEYS") ?? ""),
    trustedProxySecret: text("TRUSTED_PROXY_SECRET"),
    local: parseLocal(text),
    targetsAsSent: text("CERTCTL_TARGETS_AS_SENT") === "1",
    outboundAllow: parseRanges(text("OUTBOUND_ALLOW") ?? ""),
    auth: parseAuth(text),
    checkAnswers: text("CERTCTL_CHECK_ANSWERS") === "1",
  };
}

type Text = (name: string) => string | null;

function parseAuth(text: Text): AuthSettings {
  return {
    type: choice(text, "CERTCTL_AUTH_TYPE", ["api-key", "oidc", "none"], "api-key"),
    demoAcknowledgedUntil: demoAcknowledgement(text),
    bootstrapAdminGroups: list(text("CERTCTL_BOOTSTRAP_ADMIN_GROUPS")),
    bootstrapProviderId: text("CERTCTL_BOOTSTRAP_OIDC_PROVIDER_ID"),
    bootstrapProvider: bootstrapProvider(text),
    sessionIdleMs: duration(text, "CERTCTL_SESSION_IDLE_TIMEOUT", "1h"),
    sessionAbsoluteMs: duration(text, "CERTCTL_SESSION_ABSOLUTE_TIMEOUT", "8h"),
    sessionKeyRotationMs: duration(text, "CERTCTL_SESSION_KEY_ROTATION", "168h"),
    sessionSameSite: choice(text, "CERTCTL_SESSION_SAMESITE", ["Lax", "Strict"], "Lax"),
    backChannelMaxAgeMs: duration(text, "CERTCTL_OIDC_BCL_MAX_AGE_SECONDS", "60"),
    corsOrigins: list(text("CERTCTL_CORS_ORIGINS")).map(parseOrigin),
    rateLimits: flag(text, "CERTCTL_RATE_LIMIT_ENABLED", true),
    breakglass: {
      enabled: flag(text, "CERTCTL_BREAKGLASS_ENABLED", false),
      threshold: count(text, "CERTCTL_BREAKGLASS_LOCKOUT_THRESHOLD", 5),
      lockMs: duration(text, "CERTCTL_BREAKGLASS_LOCKOUT_DURATION", "15m"),
    },
    alertWebhook: webhook(text, "CERTCTL_ALERT_WEBHOOK_URL"),
  };
}

function bootstrapProvider(text: Text): BootstrapProvider | null {
  const [issuer_url, client_id, redirect_uri] = ["ISSUER_URL", "CLIENT_ID", "REDIRECT_URI"].map((name) =>
    text(`CERTCTL_BOOTSTRAP_OIDC_${name}`),
  );
  if (!issuer_url && !client_id && !redirect_uri) return null;
  if (!issuer_url || !client_id || !redirect_uri)
    throw new SettingsError(
      "CERTCTL_BOOTSTRAP_OIDC_ISSUER_URL, _CLIENT_ID and _REDIRECT_URI make a provider together: set all three or none",
    );
  const scopes = (text("CERTCTL_BOOTSTRAP_OIDC_SCOPES") ?? "").split(/[\s,]+/).filter((scope) => scope !== "");
  return {
    issuer_url,
    client_id,
    client_secret: text("CERTCTL_BOOTSTRAP_OIDC_CLIENT_SECRET") ?? "",
    redirect_uri,
    groups_claim_path: text("CERTCTL_BOOTSTRAP_OIDC_GROUPS_CLAIM") ?? "groups",
    ...(scopes.length > 0 ? { scopes } : {}),
    fetch_userinfo: flag(text, "CERTCTL_BOOTSTRAP_OIDC_FETCH_USERINFO", false),
  };
}

function choice<const T extends string>(text: Text, name: string, among: readonly T[], standard: T): T {
  const value = text(name);
  if (value === null) return standard;
  const found = among.find((one) => one.toLowerCase() === value.toLowerCase());
  if (found === undefined) throw new SettingsError(`${name} must be one of ${among.join(", ")}`);
  return found;
}

function parseLocal(text: Text): Settings["local"] {
  const local = choice(text, "CERTCTL_LOCAL", ["loopback", "network", "no"], "no");
  return local === "no" ? null : local;
}

function flag(text: Text, name: string, standard: boolean): boolean {
  return choice(text, name, ["true", "false"], standard ? "true" : "false") === "true";
}

const UNIT_MS: Readonly<Record<string, number>> = { "": 1000, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** `90s`, `15m`, `8h`, `7d`; a bare number is seconds. Milliseconds. */
function duration(text: Text, name: string, standard: string): number {
  const match = /^([1-9][0-9]{0,8})([smhd]?)$/.exec(text(name) ?? standard);
  if (!match) throw new SettingsError(`${name} must be a whole number with s, m, h or d, such as ${standard}`);
  return Number(match[1]) * (UNIT_MS[match[2] ?? ""] ?? 1000);
}

/** A whole number from 1 to 999,999. */
function count(text: Text, name: string, standard: number): number {
  const value = text(name) ?? String(standard);
  if (!/^[1-9][0-9]{0,5}$/.test(value)) throw new SettingsError(`${name} must be a whole number such as ${standard}`);
  return Number(value);
}

/** An address to post to. It may be a secret: the error does not repeat it. */
function webhook(text: Text, name: string): string | null {
  const value = text(name);
  if (value !== null && !/^https?:$/.test(URL.parse(value)?.protocol ?? ""))
    throw new SettingsError(`${name} must be an http or https URL`);
  return value;
}

function list(value: string | null): string[] {
  return (value ?? "")
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
}

function parseOrigin(value: string): string {
  const url = URL.parse(value);
  if (!url || !/^https?:$/.test(url.protocol) || url.origin !== value || value.includes("*"))
    throw new SettingsError(
      `CERTCTL_CORS_ORIGINS: ${value} is not an exact origin such as https://console.example.com; there is no wildcard`,
    );
  return value;
}

/** `CERTCTL_DEMO_MODE_ACK=true` holds for a day after `CERTCTL_DEMO_MODE_ACK_TS` (Unix seconds). */
function demoAcknowledgement(text: Text): number | null {
  if (!flag(text, "CERTCTL_DEMO_MODE_ACK", false)) return null;
  const at = text("CERTCTL_DEMO_MODE_ACK_TS");
  if (at === null || !/^[0-9]{9,11}$/.test(at))
    throw new SettingsError(
      "CERTCTL_DEMO_MODE_ACK=true needs CERTCTL_DEMO_MODE_ACK_TS, the present time in Unix seconds",
    );
  return Number(at) * 1000 + DEMO_ACK_MS;
}

function parsePublicUrl(value: string): string {
  const url = URL.parse(value);
  if (!url || !/^https?:$/.test(url.protocol) || url.username || url.search || url.hash) {
    throw new SettingsError("CERTCTL_PUBLIC_URL must be an http or https URL without credentials, query or fragment");
  }
  return url.href.replace(/\/+$/, "");
}

/** `id:base64,id:base64`: AES-256 keys of 32 bytes. */
export function parseSealingKeys(value: string): SealingKey[] {
  const keys = value
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "")
    .map((part) => {
      const match = /^([a-z0-9][a-z0-9_-]{0,31}):([A-Za-z0-9+/_-]{43}=?)$/.exec(part);
      if (!match?.[1] || !match[2])
        throw new SettingsError("CERTCTL_SEALING_KEYS must be id:base64 of 32 bytes, separated by commas");
      const binary = atob(match[2].replaceAll("-", "+").replaceAll("_", "/").replace(/=$/, ""));
      return { id: match[1], bytes: Uint8Array.from(binary, (c) => c.charCodeAt(0)) };
    });
  if (new Set(keys.map((key) => key.id)).size !== keys.length)
    throw new SettingsError("CERTCTL_SEALING_KEYS names one id twice");
  return keys;
}

/** Comma-separated CIDR ranges or single addresses. */
export function parseRanges(value: string): IpRange[] {
  return value
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "")
    .map((part) => {
      try {
        if (part.includes("/")) return ipaddr.parseCIDR(part);
        const address = ipaddr.parse(part);
        return [address, address.kind() === "ipv4" ? 32 : 128] as const;
      } catch (cause) {
        throw new SettingsError(`OUTBOUND_ALLOW: ${part} is not an address range such as 10.0.0.0/8`, { cause });
      }
    });
}
