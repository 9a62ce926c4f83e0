import type { ResponderMaterial } from "../../src/authority/ledger.ts";
import type { Bytes } from "../../src/pki/bytes.ts";
import { buildOcspResponderTbs, ocspResponderNames } from "../../src/pki/certificate.ts";
import { generateKeyPair } from "../../src/pki/keys.ts";
import { lintTbs } from "../../src/pki/lint/throw-away.ts";
import { randomId } from "../../src/platform/ids.ts";
import { type Core, caOf, certifiedCa, keyPurpose, nowOf, Refused, refuse, single } from "./core.ts";
import { iso } from "./entries.ts";
import { identify, issuerOf, once, ownChain, subjectKeyOf, validityOf } from "./issue.ts";
import { newSerial } from "./serials.ts";
import { type CaRow, first, insert } from "./storage.ts";

/**
 * The delegated OCSP responder (RFC 6960 section 4.2.2.2): a P-256 key for any type of CA key, and a certificate valid
 * for a week, renewed halfway, so that two are valid at any time. Its key is stored and handed out sealed; the
 * answering isolate unseals it in memory.
 */

const LIFETIME_SECONDS = 7 * 86_400;
/**
 * A responder that the lint refused will be refused again until the CA or this program changes; each attempt costs a
 * serial.
 */
const REFUSED_MS = 3_600_000;

type ResponderRow = {
  key_id: string;
  certificate: ArrayBuffer;
  sealed_key: string;
  not_before: number;
  not_after: number;
};

export async function responder(core: Core): Promise<ResponderMaterial> {
  const ca = certifiedCa(core);
  if (nowOf(core) >= ca.not_after) refuse("expired", "this CA has expired");
  if (!current(core)) await renewResponder(core);
  const row = current(core);
  if (!row) throw core.responderRefused?.refusal ?? new Refused("ca_absent", "this CA has no OCSP responder yet");
  return {
    ok: true,
    certificate: new Uint8Array(row.certificate),
    sealed_key: row.sealed_key,
    purpose: keyPurpose(ca.ledger_id, row.key_id, "ocsp"),
    // A minute after the alarm makes the successor; a minute from now if the successor is late.
    refresh_at: iso(Math.max(halfOf(row), nowOf(core)) + 60_000),
    not_after: iso(row.not_after),
  };
}

/** When the next responder is due; null if the CA cannot have one. */
export function nextResponderDue(core: Core): number | null {
  const ca = caOf(core);
  if (!ca || ca.state === "awaiting_certificate" || nowOf(core) >= ca.not_after) return null;
  const row = current(core);
  // A responder that lasts until the CA's own end needs no successor.
  if (row && row.not_after >= ca.not_after) return null;
  return Math.max(row ? halfOf(row) : nowOf(core), core.responderRefused?.until ?? 0);
}

/** Makes a successor once the present one is past half its life. Throws Refused if the lint refuses it. */
export function renewResponder(core: Core): Promise<void> {
  return single(core, "renewing", () => renew(core));
}

function halfOf(row: ResponderRow): number {
  return row.not_before + (row.not_after - row.not_before) / 2;
}

/** The newest valid one. */
function current(core: Core): ResponderRow | undefined {
  return first<ResponderRow>(
    core.sql,
    `select key_id, certificate, sealed_key, not_before, not_after from responders
      where certificate is not null and not_after > ? order by not_after desc, created_at desc limit 1`,
    nowOf(core),
  );
}

async function renew(core: Core): Promise<void> {
  const ca = caOf(core);
  const due = nextResponderDue(core);
  if (!ca || due === null || due > nowOf(core)) return;
  const key_id = randomId(core.random, "key-");
  const { pkcs8, spki } = await generateKeyPair("ECDSA-P256");
  const sealed_key = await core.sealer.seal(pkcs8, keyPurpose(ca.ledger_id, key_id, "ocsp"));
  pkcs8.fill(0);
  const request_id = `responder|${key_id}`;
  core.sql.exec("delete from responders where not_after < ? or certificate is null", nowOf(core));
  insert(core.sql, "responders", { key_id, request_id, spki, sealed_key, created_at: nowOf(core) });
  try {
    const made = await makeCertificate(core, ca, spki);
    const asked = await identify({ request_id, certificate_id: request_id, spki }, ["responder"]);
    const { der } = await once(core, asked, {}, () => ({ kind: "responder", shard: 0, ...made }));
    core.sql.exec(
      "update responders set certificate = ?, not_before = ?, not_after = ? where key_id = ?",
      der,
      made.notBefore.getTime(),
      made.notAfter.getTime(),
      key_id,
    );
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    const refusal = new Refused(error.code, `the OCSP responder was not certified: ${error.message}`);
    core.responderRefused = { refusal, until: nowOf(core) + REFUSED_MS };
    throw refusal;
  }
}

/** Uses the first name that passes the lint, or the first of all if none passes. */
async function makeCertificate(core: Core, ca: CaRow, spki: Bytes) {
  const chain = ownChain(core);
  const validity = validityOf(core, ca, LIFETIME_SECONDS, ca.not_after);
  const content = { ...issuerOf(core, ca), ...(await subjectKeyOf(spki)), ...validity, serial: newSerial(core) };
  const drafts = ocspResponderNames(chain, ca.ca_id).map((subject) => buildOcspResponderTbs({ ...content, subject }));
  for (const tbs of drafts) if ((await lintTbs(tbs, "responder", chain)) === null) return { ...content, tbs };
  const [tbs] = drafts;
  if (!tbs) throw new Error("no name for an OCSP responder");
  return { ...content, tbs };
}
