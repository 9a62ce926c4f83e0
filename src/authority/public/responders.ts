import { digest } from "../../pki/bytes.ts";
import { parseCertificate } from "../../pki/certificate.ts";
import { importSigner, parseSpki, type Signer } from "../../pki/keys.ts";
import { compileOcspTemplate, type OcspTemplate } from "../../pki/ocsp.ts";
import { ledgerOf } from "../ledger.ts";
import { BoundedMap, CROSSES_REQUESTS, type PublicContext } from "./context.ts";

/** What signs OCSP responses for one CA in this isolate. The key is not extractable and lives in this memory only. */
export interface Responder {
  readonly template: OcspTemplate;
  readonly signer: Signer;
  /** Ask the ledger again after this, Unix milliseconds. */
  readonly refreshAt: number;
  readonly notAfter: number;
}

/** The CA cannot answer: it has no certificate yet, or its own has ended. */
export class NoResponder extends Error {
  readonly code = "no_responder";
}

const known = new BoundedMap<Responder>(256);
const loading = new Map<string, { readonly responder: Promise<Responder>; readonly since: number }>();
/** What takes longer belongs to a request that may be gone, and then never ends: the next one loads for itself. */
const STALE_MS = 5_000;

/** The responder of a CA; fetched from its ledger once, and again before it ends. Throws NoResponder. */
export async function responderOf(ctx: PublicContext, ledgerId: string): Promise<Responder> {
  const now = ctx.clock.now().getTime();
  const before = known.get(ledgerId);
  if (before && before.refreshAt > now) return before;
  try {
    return await load(ctx, ledgerId);
  } catch (error) {
    // While its successor cannot be had, a responder that has not ended still serves.
    if (before && before.notAfter > now + 60_000) return before;
    throw error;
  }
}

function load(ctx: PublicContext, ledgerId: string): Promise<Responder> {
  const now = Date.now();
  const underWay = loading.get(ledgerId);
  if (underWay && CROSSES_REQUESTS && now - underWay.since < STALE_MS) return underWay.responder;
  const fresh = fetchResponder(ctx, ledgerId)
    .then((responder) => {
      known.set(ledgerId, responder);
      return responder;
    })
    .finally(() => {
      if (loading.get(ledgerId)?.responder === fresh) loading.delete(ledgerId);
    });
  loading.set(ledgerId, { responder: fresh, since: now });
  ctx.defer(fresh.catch(() => undefined));
  return fresh;
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
  return {
    template,
    signer,
    refreshAt: Date.parse(material.refresh_at),
    notAfter: Date.parse(material.not_after),
  };
}
