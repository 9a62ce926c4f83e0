import ipaddr from "ipaddr.js";

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
  readonly outboundAllow: readonly IpRange[];
  /** Tests only: every JSON answer is checked against its declared schema before it leaves. */
  readonly checkAnswers: boolean;
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
    outboundAllow: parseRanges(text("OUTBOUND_ALLOW") ?? ""),
    checkAnswers: text("CERTCTL_CHECK_ANSWERS") === "1",
  };
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
