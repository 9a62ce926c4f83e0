import { digest } from "../../../pki/bytes.ts";
import { parseCertificate } from "../../../pki/certificate.ts";
import { importSigner, parseSpki, type Signer } from "../../../pki/keys.ts";
import { compileOcspTemplate, type OcspTemplate } from "../../../pki/ocsp.ts";
import { describeError } from "../../../platform/log.ts";
import { ledgerOf } from "../../ledger.ts";
import { BoundedMap, type PublicContext } from "./context.ts";

/** What signs OCSP responses for one CA in this isolate. The key is not extractable and lives in this memory only. */
export interface Responder {
  readonly template: OcspTemplate;
  readonly signer: Signer;
  /** End of its certificate, Unix milliseconds. */
  readonly notAfter: number;
}

/** The CA cannot answer: it has no certificate yet, or its own has ended. */
export class NoResponder extends Error {
  readonly code = "no_responder";
}

interface Known {
  readonly responder: Responder;
  /** The next request after this fetches the successor, Unix milliseconds. */
  refreshAt: number;
}

/** Values only: what fetches one belongs to a single request, and no other waits for it. */
const known = new BoundedMap<Known>(256);
/** So long after a request began to fetch the successor the next one may, whatever became of the first. */
const REFRESH_RETRY_MS = 10_000;
/** A responder that ends within this is not used any more where the ledger has a later one. */
const LAST_MOMENT_MS = 60_000;

/**
 * The responder of a CA. An isolate that has none, or one about to end, fetches it from the ledger; requests that come
 * meanwhile do the same. From `refresh_at` on one request fetches the successor beside its own answer, and the others sign
 * with the one that is still valid. Throws NoResponder.
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
