import type { Refusal, ResponderMaterial } from "../../src/authority/ledger.ts";
import type { Bytes } from "../../src/pki/bytes.ts";
import { buildOcspResponderTbs, type Certificate } from "../../src/pki/certificate.ts";
import { generateKeyPair, keyIdentifier, parseSpki } from "../../src/pki/keys.ts";
import { encodeName, nameBelow, organizationOf } from "../../src/pki/names.ts";
import { randomId } from "../../src/platform/ids.ts";
import { type Core, caOf, keyPurpose, nowOf, refuse } from "./core.ts";
import { issuePrepared, ownCertificate, ownChain, validityOf } from "./issue.ts";
import { lintTbs } from "./lint.ts";
import { newSerial } from "./serials.ts";
import { type CaRow, iso } from "./storage.ts";

/**
 * The delegated OCSP responder (RFC 6960 section 4.2.2.2): a P-256 key whatever the CA's own, a certificate of a week, renewed
 * at half of that, so that two are valid at any time. Its key is stored and handed out sealed; the isolate that answers
 * unseals it in its memory.
 */

const LIFETIME_SECONDS = 7 * 86_400;
/** What the lint refused once it refuses again, until the CA or this program changes; each attempt costs a serial. */
const REFUSED_MS = 3_600_000;

type ResponderRow = {
  key_id: string;
  certificate: ArrayBuffer;
  sealed_key: string;
  not_before: number;
  not_after: number;
};

export async function responder(core: Core): Promise<ResponderMaterial | Refusal> {
  const ca = caOf(core);
  if (!ca || ca.state === "awaiting_certificate") return refuse("ca_absent", "this CA has no certificate yet");
  if (nowOf(core) >= ca.not_after) return refuse("expired", "this CA has expired");
  if (!current(core)) await renewResponder(core);
  const row = current(core);
  if (!row) return core.responderRefused?.refusal ?? refuse("ca_absent", "this CA has no OCSP responder yet");
  return {
    ok: true,
    certificate: new Uint8Array(row.certificate),
    sealed_key: row.sealed_key,
    purpose: keyPurpose(ca.ledger_id, row.key_id, "ocsp"),
    // A minute after the alarm makes its successor, and never again and again when that is late.
    refresh_at: iso(Math.max(halfOf(row) + 60_000, nowOf(core) + 60_000)),
    not_after: iso(row.not_after),
  };
}

/** When the next responder is due; null while there is no CA that could have one. */
export function nextResponderDue(core: Core): number | null {
  const ca = caOf(core);
  if (!ca || ca.state === "awaiting_certificate" || nowOf(core) >= ca.not_after) return null;
  const row = current(core);
  // The last one before the CA's own end needs no successor.
  if (row && row.not_after >= ca.not_after) return null;
  return Math.max(row ? halfOf(row) : nowOf(core), core.responderRefused?.until ?? 0);
}

/** Makes a successor when the present one is past its half. One at a time. */
export function renewResponder(core: Core): Promise<void> {
  core.renewing ??= renew(core).finally(() => {
    core.renewing = null;
  });
  return core.renewing;
}

function halfOf(row: { not_before: number; not_after: number }): number {
  return row.not_before + (row.not_after - row.not_before) / 2;
}

/** The newest that is valid. */
function current(core: Core): ResponderRow | null {
  return (
    core.sql
      .exec<ResponderRow>(
        `select key_id, certificate, sealed_key, not_before, not_after from responders
         where certificate is not null and not_after > ? order by not_after desc, created_at desc limit 1`,
        nowOf(core),
      )
      .toArray()[0] ?? null
  );
}

async function renew(core: Core): Promise<void> {
  const ca = caOf(core);
  const due = nextResponderDue(core);
  if (!ca || due === null || due > nowOf(core)) return;
  const keyId = randomId(core.random, "key-");
  const pair = await generateKeyPair("ECDSA-P256");
  const sealed = await core.sealer.seal(pair.pkcs8, keyPurpose(ca.ledger_id, keyId, "ocsp"));
  pair.pkcs8.fill(0);
  const requestId = `responder|${keyId}`;
  core.sql.exec("delete from responders where not_after < ? or certificate is null", nowOf(core));
  core.sql.exec(
    "insert into responders (key_id, request_id, spki, sealed_key, created_at) values (?, ?, ?, ?, ?)",
    keyId,
    requestId,
    pair.spki,
    sealed,
    nowOf(core),
  );
  const validity = validityOf(core, ca, LIFETIME_SECONDS, ca.not_after);
  const serial = newSerial(core);
  const tbs = await lintedTbs(core, ca, { ...validity, serial, spki: pair.spki });
  const result = await issuePrepared(core, ca, {
    request_id: requestId,
    certificate_id: requestId,
    kind: "responder",
    spki: pair.spki,
    serial,
    ...validity,
    tbs,
  });
  if (!result.ok) {
    const refusal = refuse(result.code, `the OCSP responder was not certified: ${result.message}`);
    core.responderRefused = { refusal, until: nowOf(core) + REFUSED_MS };
    return;
  }
  core.sql.exec(
    "update responders set certificate = ?, not_before = ?, not_after = ? where key_id = ?",
    result.der,
    validity.notBefore,
    validity.notAfter,
    keyId,
  );
}

interface Content {
  readonly serial: Bytes;
  readonly spki: Bytes;
  readonly notBefore: number;
  readonly notAfter: number;
}

/** With the first name that the lint has nothing against; with the first of all where there is none such. */
async function lintedTbs(core: Core, ca: CaRow, content: Content): Promise<Bytes> {
  const chain = ownChain(core);
  const publicKey = parseSpki(content.spki);
  const responder = {
    serial: content.serial,
    notBefore: new Date(content.notBefore),
    notAfter: new Date(content.notAfter),
    publicKey,
    subjectKeyIdentifier: await keyIdentifier(publicKey),
    issuerCertificate: ownCertificate(core),
    signatureAlgorithmIdentifier: new Uint8Array(ca.signature_algorithm),
  };
  let first: Bytes | null = null;
  for (const subject of subjectsOf(chain, ca.ca_id)) {
    const tbs = buildOcspResponderTbs({ ...responder, subject });
    if ((await lintTbs(tbs, "responder", chain)) === null) return tbs;
    first ??= tbs;
  }
  if (first === null) throw new Error("no name for an OCSP responder");
  return first;
}

/**
 * Names that a responder may have, the best first: below the CA's own place and organization, below each dirName that the CAs
 * above permit (a CA's own name need not be inside what it permits), and alone.
 */
function subjectsOf(chain: readonly Certificate[], caId: string): Bytes[] {
  const own = chain[0]?.subject;
  const commonName = `OCSP Responder of ${own?.commonName ?? caId}`.slice(0, 64).trim();
  const permitted = chain.flatMap(({ nameConstraints }) => nameConstraints?.permitted ?? []);
  const bases = permitted.flatMap((subtree) => (subtree.type === "directory" ? [subtree.name] : []));
  return [
    ...(own ? [nameBelow(organizationOf(own), commonName)] : []),
    ...bases.map(({ der }) => nameBelow(der, commonName)),
    encodeName({ common_name: commonName }),
  ];
}
