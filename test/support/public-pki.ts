import { exports } from "cloudflare:workers";
import { parseCrl } from "../../src/pki/crl.ts";
import { parseOcspResponse } from "../../src/pki/ocsp.ts";

/** What relying parties are told, asked in workerd. */

async function fetched(path: string): Promise<Uint8Array<ArrayBuffer>> {
  const response = await exports.default.fetch(new Request(`http://localhost/.well-known/pki/${path}`));
  return new Uint8Array(await response.arrayBuffer());
}

/** `good`, `unknown`, or `revoked` with the reason's number. */
export async function ocspStatus(caId: string, serial: string): Promise<string> {
  const status = parseOcspResponse(await fetched(`ocsp/${caId}/${serial}`)).basic?.responses[0]?.status;
  return status?.type === "revoked" ? `revoked ${status.reason ?? 0}` : String(status?.type);
}

/** The complete list of a CA. */
export async function publishedCrl(caId: string) {
  return parseCrl(await fetched(`crl/${caId}`));
}
