/** The demo mode's border: whoever comes through it is the administrator, so only this machine's own users may. */

/** An acknowledgement is given at the time it names; clocks differ by so much at most. */
const CLOCK_SKEW_MS = 60_000;
export const DEMO_ACK_MS = 24 * 3_600_000;

/** Whether the demo mode may be reached from elsewhere now. An acknowledgement from the future would hold for longer than a day. */
export function demoAcknowledged(auth: { readonly demoAcknowledgedUntil: number | null }, now: number): boolean {
  const until = auth.demoAcknowledgedUntil;
  return until !== null && now < until && until - DEMO_ACK_MS <= now + CLOCK_SKEW_MS;
}

/** A URL's hostname (IPv6 in brackets) that no DNS answer can point elsewhere: `localhost`, 127.0.0.0/8, `[::1]`. */
export function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "[::1]" || /^127(?:\.[0-9]{1,3}){3}$/.test(hostname);
}
