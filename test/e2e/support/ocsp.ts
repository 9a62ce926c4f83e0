import type { Issued } from "./scene.ts";
import { must, run, type Scratch } from "./shell.ts";

/** The three ways to ask: RFC 6960 A.1 POST and GET, and the contract's GET of a serial in hex. */
export const WAYS = ["post", "get", "serial"] as const;
export type Way = (typeof WAYS)[number];

/** The address before the base64 request or the serial. */
export const getPath = (url: string, caId: string): string => `${url}/.well-known/pki/ocsp/${caId}/`;

/** Asks with openssl (and curl for GET) and gives what openssl says about the answer. */
export async function ocspBy(way: Way, url: string, caId: string, issued: Issued, scratch: Scratch): Promise<string> {
  const about = ["ocsp", "-issuer", issued.issuer, "-cert", issued.leaf];
  const judge = [...about, "-no_nonce", "-CAfile", issued.root, "-verify_other", issued.chain];
  if (way === "post") return (await run("openssl", [...judge, "-url", `${url}/.well-known/pki/ocsp/${caId}`])).text;
  let tail = issued.serial;
  if (way === "get") {
    const request = scratch.file("request.der");
    await must("openssl", [...about, "-no_nonce", "-reqout", request]);
    tail = encodeURIComponent((await must("openssl", ["base64", "-A", "-in", request])).stdout.toString().trim());
  }
  const { stdout } = await must("curl", ["-sf", `${getPath(url, caId)}${tail}`]);
  return (await run("openssl", [...judge, "-respin", scratch.write("response.der", stdout)])).text;
}

/** What openssl printed, read. */
export function ocspVerdict(text: string): { verified: boolean; status: string | null; reason: string | null } {
  return {
    verified: /^Response verify OK/m.test(text),
    status: /\.pem: (good|revoked|unknown)$/m.exec(text)?.[1] ?? null,
    reason: /Reason: (\w+)/.exec(text)?.[1] ?? null,
  };
}
