import ipaddr from "ipaddr.js";
import { DEMO_ACK_MS } from "./demo.ts";

/** Deployment settings, parsed once (wire.md "Settings"). */
export interface Settings {
  readonly version: string;
  readonly commit: string;
  readonly buildTime: string;
  /** Base of every URL the server publishes; no trailing slash. Never taken from a Host header. */
  readonly publicUrl: string;
  readonly bootstrapToken: string | null;
  /** The first key seals; all of them open. */
  readonly sealingKeys: readonly SealingKey[];
  readonly trustedProxySecret: string | null;
  /**
   * Running on a single machine (`npm start`, `npm run dev`): headers that Cloudflare would set are not trusted. Says
   * whether the server listens on loopback addresses only or on the network. Null on Cloudflare.
   */
  readonly local: "loopback" | "network" | null;
  /** Only under `npm start`: the runtime passes each request target as sent instead of parsing it into a URL. */
  readonly targetsAsSent: boolean;
  readonly outboundAllow: readonly IpRange[];
  readonly auth: AuthSettings;
  /** Tests only: checks every JSON answer against its declared schema before it is sent. */
  readonly checkAnswers: boolean;
}

/** Authentication settings. Times are in milliseconds. */
export interface AuthSettings {
  /** `none` is demo mode; the other two both accept API keys and sign-in. */
  readonly type: "api-key" | "oidc" | "none";
  /** Until when demo mode may be reached from other machines (Unix milliseconds); null without acknowledgement. */
  readonly demoAcknowledgedUntil: number | null;
  /** Members of these groups become administrators while there is no administrator. */
  readonly bootstrapAdminGroups: readonly string[];
  /** The only provider whose groups count for bootstrapping; null: any. */
  readonly bootstrapProviderId: string | null;
  /** Provider to create while there is no administrator to create one; null without these settings. */
  readonly bootstrapProvider: BootstrapProvider | null;
  readonly sessionIdleMs: number;
  readonly sessionAbsoluteMs: number;
  /** How long a key signs new sessions; afterwards it verifies for one absolute session lifetime. */
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
  /** URL to which security alerts (break-glass) are posted as JSON; null: audit log only. */
  readonly alertWebhook: string | null;
}

/** Same fields as a provider in the API; validated when the provider is created. */
export interface BootstrapProvider {
  readonly issuer_url: string;
  readonly client_id: string;
  readonly client_secret: string;
  readonly redirect_uri: string;
  readonly groups_claim_path: string;
  /** Defaults to those of any provider. */
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

/** Parses the settings from environment values. Throws SettingsError naming an invalid value. */
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

/** Parses `90s`, `15m`, `8h`, `7d` or a bare number of seconds into milliseconds. */
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

/** A webhook URL. It may contain a secret, so the error does not repeat it. */
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

/**
 * `CERTCTL_DEMO_MODE_ACK=true` is valid for one day after `CERTCTL_DEMO_MODE_ACK_TS` (Unix seconds). Returns the end in
 * Unix milliseconds.
 */
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

/** Parses `id:base64,id:base64`: AES-256 keys of 32 bytes. */
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

/** Parses comma-separated CIDR ranges and single addresses. */
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
