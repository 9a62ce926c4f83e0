/** Demo mode gives every caller administrator rights, so it is limited to users of this machine. */

/** Maximum clock skew between the machine that sets the acknowledgement time and this one. */
const CLOCK_SKEW_MS = 60_000;
export const DEMO_ACK_MS = 24 * 3_600_000;

/**
 * Whether demo mode may currently be reached from other machines. An acknowledgement dated in the future is rejected:
 * it would last longer than a day.
 */
export function demoAcknowledged(auth: { readonly demoAcknowledgedUntil: number | null }, now: number): boolean {
  const until = auth.demoAcknowledgedUntil;
  return until !== null && now < until && until - DEMO_ACK_MS <= now + CLOCK_SKEW_MS;
}

/** Whether a URL hostname (IPv6 in brackets) is loopback whatever DNS answers: `localhost`, 127.0.0.0/8, `[::1]`. */
export function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "[::1]" || /^127(?:\.[0-9]{1,3}){3}$/.test(hostname);
}
