import type { CaDescription, CreateRoot, CreateSubordinate, ImportCa } from "../../src/authority/ledger.ts";
import { wholeSecond } from "../../src/authority/ledger-places.ts";
import { type Bytes, equal, sha256Hex, toBase64, toHex, utf8 } from "../../src/pki/bytes.ts";
import {
  buildRootTbs,
  buildSubordinateRequestInfo,
  type Certificate,
  checkCaChain,
  endOfChain,
  LEAF_EKUS,
  parseCertificate,
  signTbs,
} from "../../src/pki/certificate.ts";
import { HIGHEST_CRL_FLOOR, readCrlOf } from "../../src/pki/crl.ts";
import { PkiError } from "../../src/pki/errors.ts";
import { generateKeyPair, importSigner, isKeyPair } from "../../src/pki/keys.ts";
import { lintTbs } from "../../src/pki/lint/throw-away.ts";
import { encodeName } from "../../src/pki/names.ts";
import { randomId } from "../../src/platform/ids.ts";
import { describeError } from "../../src/platform/log.ts";
import { type Core, caOf, certifiedCa, forgetCa, keyPurpose, nowOf, refuse, refusing } from "./core.ts";
import { publishDue } from "./crl.ts";
import { addEntry, iso, markRow, nextSeq } from "./entries.ts";
import { entriesOfCrl, takeEntries } from "./imports.ts";
import { BACKDATE_SECONDS, chainOf, subjectKeyOf } from "./issue.ts";
import { currentShards, markDirty } from "./lists.ts";
import { renewResponder } from "./responder.ts";
import { completeSerialKey, newSerial } from "./serials.ts";
import { insert } from "./storage.ts";

/**
 * How a CA comes into its ledger, and how it is retired. Keys are sealed before they are stored, and stored in no other
 * form.
 */

const NO_BYTES = new Uint8Array(0);

export function describe(core: Core): CaDescription | null {
  const ca = caOf(core);
  if (!ca) return null;
  return {
    ok: true,
    mark: markRow(core),
    ledger_id: ca.ledger_id,
    ca_id: ca.ca_id,
    state: ca.state,
    algorithm: ca.algorithm,
    chain: chainOf(core),
    csr: ca.csr === null ? null : new Uint8Array(ca.csr),
    spki: new Uint8Array(ca.spki),
    crl_shards: ca.crl_shards,
    serial_key: completeSerialKey(core),
  };
}

function mustDescribe(core: Core): CaDescription {
  return describe(core) ?? refuse("ca_absent", "there is no CA here");
}

/** Creates a root here. The same request again returns the same root. */
export function createRoot(core: Core, request: CreateRoot): Promise<CaDescription> {
  return create(core, request, request, async (digest) => {
    const { signer, ...made } = await makeKey(request);
    const serial = newSerial(core);
    const now = wholeSecond(nowOf(core));
    const notBefore = now - BACKDATE_SECONDS * 1000;
    const notAfter = notBefore + request.ttl_seconds * 1000 - 1000;
    const tbs = buildRootTbs({
      ...made.subject,
      serial,
      notBefore: new Date(notBefore),
      notAfter: new Date(notAfter),
      pathLen: request.path_len,
      signatureAlgorithmIdentifier: signer.algorithmIdentifier,
    });
    const flaw = await lintTbs(tbs, "root", []);
    if (flaw !== null) refuse("lint_failed", flaw);
    const der = await signTbs(tbs, signer);
    const spki_sha256 = await sha256Hex(made.spki);
    // The root's own serial is used up too.
    const also = () =>
      addEntry(core, {
        serial: toHex(serial),
        request_id: "self",
        digest,
        kind: "ca",
        certificate_id: request.ca_id,
        not_before: notBefore,
        not_after: notAfter,
        created_at: now,
        spki_sha256,
        der,
        seq: nextSeq(core),
      });
    return { ...made, chain: [parseCertificate(der)], also };
  });
}

/** Imports a CA with its key. */
export async function importCa(core: Core, request: ImportCa): Promise<CaDescription> {
  const { pkcs8 } = request;
  return create(core, request, { ...request, pkcs8: await sha256Hex(pkcs8) }, async () => {
    const chain = await checkedChain(core, request.chain);
    const [own] = chain;
    if (!own) refuse("ca_invalid", "ca_cert_pem: holds no certificate");
    const { publicKey } = own;
    if (!(await isKeyPair(publicKey, pkcs8)))
      refuse("ca_invalid", "ca_key_pem: is not the private key of the first certificate in ca_cert_pem");
    const crl = request.crl && (await named("crl", readCrlOf(own, request.crl)));
    const floors = [BigInt(request.crl_number_floor ?? 0), crl?.number ?? 0n];
    const floor = floors.reduce((a, b) => (a > b ? a : b));
    if (floor > HIGHEST_CRL_FLOOR)
      refuse("ca_invalid", "crl_number_floor: leaves no room for further CRL numbers of 20 octets");
    const entries = [...request.entries, ...(crl ? entriesOfCrl(crl, nowOf(core)) : [])];
    const also = () => takeEntries(core, own.notAfter.getTime(), entries);
    return { pkcs8, algorithm: publicKey.name, spki: publicKey.spki, chain, floor, also };
  });
}

/** Creates a subordinate that waits for its certificate. */
export function createSubordinate(core: Core, request: CreateSubordinate): Promise<CaDescription> {
  return create(core, request, request, async () => {
    const { signer, ...made } = await makeKey(request);
    const info = buildSubordinateRequestInfo({ ...made.subject, pathLen: request.path_len });
    return { ...made, csr: await signTbs(info, signer), chain: [] };
  });
}

/** Installs a subordinate's certificate; later also a new one for the same key, name and key identifier. */
export async function install(
  core: Core,
  ders: readonly Bytes[],
  { force = false }: { readonly force?: boolean } = {},
): Promise<CaDescription> {
  const before = mustDescribe(core);
  if (before.chain.length === ders.length && before.chain.every((der, i) => equal(der, ders[i] ?? NO_BYTES)))
    return before;
  const chain = await refusing("ca_invalid", () => checkedChain(core, ders));
  const [own] = chain;
  if (!own || !equal(own.publicKey.spki, before.spki))
    refuse("ca_invalid", "ca_cert_pem: the first certificate is not for the key of this CA's request");
  const present = before.chain[0] ? parseCertificate(before.chain[0]) : null;
  const flaw = present && successorFlaw(core, present, own, endOfChain(chain), force);
  if (flaw) refuse("ca_invalid", `ca_cert_pem: ${flaw}`);
  core.storage.transactionSync(() => {
    core.sql.exec(
      "update ca set state = case state when 'awaiting_certificate' then 'active' else state end, csr = null, not_before = ?, not_after = ?, path_len = ?",
      own.notBefore.getTime(),
      own.notAfter.getTime(),
      own.basicConstraints?.pathLen ?? null,
    );
    writeChain(core, chain);
    markDirty(core);
  });
  await firstProducts(core);
  return mustDescribe(core);
}

/** Why a certificate may not replace the present one; null if it may. `end`: of its chain. */
function successorFlaw(core: Core, present: Certificate, own: Certificate, end: number, force: boolean): string | null {
  if (!equal(present.subject.der, own.subject.der))
    return "another subject than that of the certificates that were issued";
  if (!equal(present.subjectKeyIdentifier ?? NO_BYTES, own.subjectKeyIdentifier ?? NO_BYTES))
    return "another subjectKeyIdentifier than that of the present certificate: what was issued names it as its issuer's key";
  const { outliving, last } = core.sql
    .exec<{ outliving: number; last: number | null }>(
      `select count(*) as outliving, max(not_after) as last from entries
       where not_after > ? and state = 1 and kind <> 'responder' and request_id <> 'self' and revoked_at is null`,
      end,
    )
    .one();
  if (outliving === 0 || force) return null;
  return `ends on ${iso(end)}, before ${outliving} certificates that this CA issued, the last of them on ${iso(last ?? end)}; "force": true takes it all the same`;
}

export function configure(core: Core, settings: { crl_shards: number }): CaDescription {
  mustDescribe(core);
  if (!Number.isInteger(settings.crl_shards) || settings.crl_shards < 1 || settings.crl_shards > 128)
    refuse("out_of_bounds", "crl_shards: must be 1 to 128");
  core.sql.exec("update ca set crl_shards = ?", settings.crl_shards);
  forgetCa(core);
  currentShards(core);
  return mustDescribe(core);
}

/** Forward only. A retiring or retired CA signs no certificate; lists and OCSP continue. */
export function retire(core: Core, to: "retiring" | "retired"): CaDescription {
  certifiedCa(core);
  core.sql.exec("update ca set state = ? where state <> 'retired'", to);
  core.ca = undefined;
  return mustDescribe(core);
}

// -------------------------------------------------------------------------------------------------------------- internal

interface Made {
  readonly pkcs8: Bytes;
  readonly algorithm: string;
  readonly spki: Bytes;
  readonly csr?: Bytes;
  readonly chain: readonly Certificate[];
  /** The first CRL number is higher. */
  readonly floor?: bigint;
  /** Further writes in the transaction that writes the CA. */
  readonly also?: () => unknown;
}

async function makeKey({ algorithm, pss, subject }: CreateRoot | CreateSubordinate) {
  const { pkcs8, spki } = await generateKeyPair(algorithm);
  const signer = await importSigner(pkcs8, { pss });
  return { algorithm, pkcs8, spki, signer, subject: { subject: encodeName(subject), ...(await subjectKeyOf(spki)) } };
}

/**
 * The same request (`told`, its secrets hashed) returns the CA it created; a different one is refused, also if it lost
 * a race.
 */
async function create(
  core: Core,
  request: CreateRoot | CreateSubordinate | ImportCa,
  told: object,
  make: (digest: string) => Promise<Made>,
): Promise<CaDescription> {
  const text = JSON.stringify(told, (_, value) => (value instanceof Uint8Array ? toBase64(value) : value));
  const digest = await sha256Hex(utf8(text));
  const known = again(core, digest);
  if (known) return known;
  await refusing("ca_invalid", async () => store(core, request, digest, await make(digest)));
  if (caOf(core)?.state !== "awaiting_certificate") await firstProducts(core);
  return mustDescribe(core);
}

function again(core: Core, digest: string): CaDescription | null {
  const ca = caOf(core);
  if (ca && ca.request_digest !== digest) refuse("ca_exists", "this ledger holds another CA already");
  return describe(core);
}

async function store(
  core: Core,
  request: CreateRoot | CreateSubordinate | ImportCa,
  request_digest: string,
  { pkcs8, algorithm, spki, csr, chain, also, ...made }: Made,
): Promise<void> {
  const { ledger_id, ca_id, crl_shards, pss } = request;
  const key_id = randomId(core.random, "key-");
  const sealed_key = await core.sealer.seal(pkcs8, keyPurpose(ledger_id, key_id, "ca"));
  const { algorithmIdentifier: signature_algorithm } = await importSigner(pkcs8, { pss });
  pkcs8.fill(0);
  if (again(core, request_digest)) return;
  const [own] = chain;
  const floor = made.floor ?? BigInt(request.crl_number_floor ?? 0);
  const small = floor <= BigInt(Number.MAX_SAFE_INTEGER);
  core.storage.transactionSync(() => {
    insert(core.sql, "ca", {
      id: 1,
      ledger_id,
      ca_id,
      state: own ? "active" : "awaiting_certificate",
      algorithm,
      key_id,
      sealed_key,
      pss: pss ? 1 : 0,
      signature_algorithm,
      spki,
      csr: csr ?? null,
      request_digest,
      path_len: own?.basicConstraints?.pathLen ?? null,
      not_before: own?.notBefore.getTime() ?? 0,
      not_after: own?.notAfter.getTime() ?? 0,
      crl_shards,
      crl_number: small ? Number(floor) : 0,
      crl_base: small ? "0" : floor.toString(),
    });
    writeChain(core, chain);
    nextSeq(core);
    also?.();
  });
}

function writeChain(core: Core, chain: readonly Certificate[]): void {
  core.sql.exec("delete from ca_chain");
  chain.forEach(({ der }, position) => {
    insert(core.sql, "ca_chain", { position, der });
  });
  forgetCa(core);
  if (chain.length > 0) currentShards(core);
}

/** Makes the complete list and the OCSP responder; the alarm makes partitions and retries failures. */
async function firstProducts(core: Core): Promise<void> {
  try {
    await Promise.all([publishDue(core, 1), renewResponder(core)]);
  } catch (error) {
    core.log.error("ledger.first_products", { error: describeError(error) });
  }
}

/** Parses a CA's chain and checks that it may be used here. */
function checkedChain(core: Core, ders: readonly Bytes[]): Promise<Certificate[]> {
  const checked = async () => {
    const chain = ders.map((der) => parseCertificate(der));
    await checkCaChain(chain, nowOf(core), LEAF_EKUS);
    return chain;
  };
  return named("ca_cert_pem", checked());
}

/** Adds the name of the field at fault to a refusal. */
async function named<T>(field: string, reading: Promise<T>): Promise<T> {
  try {
    return await reading;
  } catch (error) {
    throw error instanceof PkiError ? new PkiError(`${field}: ${error.message}`) : error;
  }
}
