import type { Context } from "../../platform/context.ts";

/** Where the browser goes to end the provider's session too (OpenID Connect RP-Initiated Logout 1.0); null when there is no such place. */
export async function endSessionUrl(_ctx: Context, _session_id: string): Promise<string | null> {
  return null;
}
