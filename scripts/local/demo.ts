import { demoAcknowledged, isLoopback } from "../../src/platform/demo.ts";
import type { AuthSettings } from "../../src/platform/settings.ts";

/**
 * The reason why a server must not start in demo mode on these addresses; null if it may. On an address other than
 * loopback everybody on the network would be an administrator: that needs an acknowledgement, which holds for a day.
 */
export function demoRefusal(auth: AuthSettings, addresses: readonly string[], now: number): string | null {
  if (auth.type !== "none" || demoAcknowledged(auth, now)) return null;
  const open = openAddresses(addresses);
  if (open.length === 0) return null;
  const why =
    auth.demoAcknowledgedUntil === null
      ? "there is no acknowledgement"
      : "the acknowledgement has run out, or is from the future: it holds for 24 hours from CERTCTL_DEMO_MODE_ACK_TS";
  return `CERTCTL_AUTH_TYPE=none makes everybody who reaches ${open.join(", ")} an administrator, and ${why}. Leave HOST \
on loopback, or set CERTCTL_DEMO_MODE_ACK=true and CERTCTL_DEMO_MODE_ACK_TS=$(date +%s)`;
}

/** The addresses that are reachable from other machines. */
export function openAddresses(addresses: readonly string[]): string[] {
  return addresses.filter((address) => !isLoopback(address.includes(":") ? `[${address}]` : address));
}

/** The warning to print at each start in demo mode; null in any other mode. */
export function demoWarning(auth: AuthSettings, now: number): string | null {
  if (auth.type !== "none") return null;
  const reach =
    auth.demoAcknowledgedUntil !== null && demoAcknowledged(auth, now)
      ? `from everywhere until ${new Date(auth.demoAcknowledgedUntil).toISOString()}`
      : "from this machine";
  return `WARNING: DEMO MODE (CERTCTL_AUTH_TYPE=none): no credential is asked for. Whoever reaches this server ${reach} is an \
administrator: it can issue and revoke every certificate. API keys that it makes go on when the mode is off: start anew with \
another database. Never use it for anything that others trust`;
}
