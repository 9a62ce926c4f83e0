import { demoAcknowledged, isLoopback } from "../../src/platform/demo.ts";
import type { AuthSettings } from "../../src/platform/settings.ts";

/**
 * Why a server must not start in the demo mode on these addresses; null where it may. Elsewhere than on loopback everybody on
 * the network would be an administrator: that takes an acknowledgement, which holds for a day.
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

/** Those of the addresses that others than this machine's own users can reach. */
export function openAddresses(addresses: readonly string[]): string[] {
  return addresses.filter((address) => !isLoopback(address.includes(":") ? `[${address}]` : address));
}

/** What the operator is told, loudly, at each start in the demo mode; null in any other. */
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
