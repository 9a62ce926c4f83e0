import { digest } from "../../../pki/bytes.ts";
import { parseCertificate } from "../../../pki/certificate.ts";
import { importSigner, parseSpki, type Signer } from "../../../pki/keys.ts";
import { compileOcspTemplate, type OcspTemplate } from "../../../pki/ocsp.ts";
import { describeError } from "../../../platform/log.ts";
import { ledgerOf } from "../../ledger.ts";
import { BoundedMap, type PublicContext } from "./context.ts";

/** Signs OCSP responses for one CA in this isolate. The key is not extractable and only in this isolate's memory. */
export interface Responder {
  readonly template: OcspTemplate;
  readonly signer: Signer;
  /** notAfter of its certificate, Unix milliseconds. */
  readonly notAfter: number;
}

/** The CA cannot answer: it has no certificate yet, or its certificate has expired. */
export class NoResponder extends Error {
  readonly code = "no_responder";
}

interface Known {
  readonly responder: Responder;
  /** Unix milliseconds; the next request after this fetches the successor. */
  refreshAt: number;
}

/** Values only: a fetch belongs to a single request, and no other request waits for it. */
const known = new BoundedMap<Known>(256);
/** Minimum time from the start of one fetch of the successor to the next, whatever its result. */
const REFRESH_RETRY_MS = 10_000;
/** A responder that ends within this time is replaced if the ledger has a later one. */
const LAST_MOMENT_MS = 60_000;

/**
 * The responder of a CA. If the isolate has none, or one about to end, the request fetches it from the ledger;
 * concurrent requests do the same. From `refresh_at` on one request fetches the successor in addition to its own
 * answer, while the others sign with the present, still valid one. Throws NoResponder.
 */
export async function responderOf(ctx: PublicContext, ledgerId: string): Promise<Responder> {
  const now = ctx.clock.now().getTime();
  const before = known.get(ledgerId);
  if (!before || before.responder.notAfter <= now + LAST_MOMENT_MS) return fetchResponder(ctx, ledgerId);
  if (before.refreshAt <= now) {
    before.refreshAt = now + REFRESH_RETRY_MS;
    const refresh = fetchResponder(ctx, ledgerId);
    ctx.defer(refresh.catch((error) => ctx.log.warn("ocsp.responder_refresh_failed", { error: describeError(error) })));
  }
  return before.responder;
}

async function fetchResponder(ctx: PublicContext, ledgerId: string): Promise<Responder> {
  const material = await ledgerOf(ctx, ledgerId).responder();
  if (!material.ok) throw new NoResponder(material.message);
  const certificate = parseCertificate(material.certificate);
  const pkcs8 = await ctx.sealer.open(material.sealed_key, material.purpose);
  const signer = await importSigner(pkcs8);
  pkcs8.fill(0);
  const key = parseSpki(certificate.publicKey.spki);
  const template = compileOcspTemplate({
    id: { byKey: await digest("SHA-1", key.keyBits) },
    algorithmIdentifier: signer.algorithmIdentifier,
    certificates: [material.certificate],
  });
  const responder = { template, signer, notAfter: Date.parse(material.not_after) };
  known.set(ledgerId, { responder, refreshAt: Date.parse(material.refresh_at) });
  return responder;
}
