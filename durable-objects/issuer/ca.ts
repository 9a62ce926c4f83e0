import {
  type CaDescription,
  type CreateRoot,
  type CreateSubordinate,
  type ImportCa,
  type Refusal,
  wholeSecond,
} from "../../src/authority/ledger.ts";
import { type Bytes, equal, sha256Hex, toBase64 } from "../../src/pki/bytes.ts";
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
import { CrlError, HIGHEST_CRL_FLOOR } from "../../src/pki/crl.ts";
import { PkiError } from "../../src/pki/errors.ts";
import { generateKeyPair, importSigner, isKeyPair, keyIdentifier, parseSpki } from "../../src/pki/keys.ts";
import { encodeName } from "../../src/pki/names.ts";
import { randomId } from "../../src/platform/ids.ts";
import { describeError } from "../../src/platform/log.ts";
import { type Core, caOf, chainOf, forgetCa, keyPurpose, nowOf, refuse } from "./core.ts";
import { publishDue } from "./crl.ts";
import { entriesOfCrl, readOldCrl, takeEntries } from "./imports.ts";
import { BACKDATE_SECONDS } from "./issue.ts";
import { lintTbs } from "./lint.ts";
import { markRow, nextSeq } from "./mark.ts";
import { renewResponder } from "./responder.ts";
import { markDirty } from "./revocation.ts";
import { completeSerialKey, newSerial } from "./serials.ts";
import { currentShards } from "./shards.ts";
import { type CaRow, iso } from "./storage.ts";

/** How a CA comes into its ledger, and how it goes. Keys are sealed before they are stored and are never stored otherwise. */

type Answer = CaDescription | Refusal;

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

/** A root made inside. Repeated with the same request it answers the same root. */
export async function createRoot(core: Core, request: CreateRoot): Promise<Answer> {
  return creating(core, request, async (digest) => {
    const { pkcs8, spki } = await generateKeyPair(request.algorithm);
    const signer = await importSigner(pkcs8, { pss: request.pss });
    const now = wholeSecond(nowOf(core));
    const notBefore = now - BACKDATE_SECONDS * 1000;
    const notAfter = notBefore + request.ttl_seconds * 1000 - 1000;
    const publicKey = parseSpki(spki);
    const tbs = buildRootTbs({
      serial: newSerial(core),
      notBefore: new Date(notBefore),
      notAfter: new Date(notAfter),
      subject: encodeName(request.subject),
      publicKey,
      subjectKeyIdentifier: await keyIdentifier(publicKey),
      pathLen: request.path_len,
      signatureAlgorithmIdentifier: signer.algorithmIdentifier,
    });
    const flaw = await lintTbs(tbs, "root", []);
    if (flaw !== null) return refuse("lint_failed", flaw);
    const der = await signTbs(tbs, signer);
    const key = await sealKey(core, request.ledger_id, pkcs8);
    const certificate = parseCertificate(der);
    const fingerprint = await sha256Hex(spki);
    return store(
      core,
      request,
      digest,
      { ...key, algorithm: request.algorithm, spki, csr: null, chain: [certificate] },
      () => {
        // Its own serial is used too.
        core.sql.exec(
          `insert into entries (serial, request_id, digest, kind, certificate_id, state, shard, not_before, not_after, created_at,
           spki_sha256, der, settle, seq, acknowledged, tagged) values (?, 'self', ?, 'ca', ?, 1, 0, ?, ?, ?, ?, ?, '{}', ?, 1, 1)`,
          certificate.serial,
          digest,
          request.ca_id,
          notBefore,
          notAfter,
          now,
          fingerprint,
          der,
          nextSeq(core),
        );
      },
    );
  });
}

/** A CA brought in with its key. */
export async function importCa(core: Core, request: ImportCa): Promise<Answer> {
  return creating(core, { ...request, pkcs8: await sha256Hex(request.pkcs8) }, async (digest) => {
    const chain = await checkedChain(core, request.chain);
    if (!Array.isArray(chain)) return chain;
    const [own] = chain;
    if (!own) return refuse("ca_invalid", "ca_cert_pem: holds no certificate");
    if (!(await isKeyPair(own.publicKey, request.pkcs8))) {
      return refuse("ca_invalid", "ca_key_pem: is not the private key of the first certificate in ca_cert_pem");
    }
    const crl = request.crl && (await oldCrl(own, request.crl));
    const floor = [BigInt(request.crl_number_floor ?? 0), crl?.number ?? 0n].reduce((a, b) => (a > b ? a : b));
    if (floor > HIGHEST_CRL_FLOOR)
      return refuse("ca_invalid", "crl_number_floor: leaves no room for further CRL numbers of 20 octets");
    const entries = [...request.entries, ...(crl ? entriesOfCrl(crl, nowOf(core)) : [])];
    const key = await sealKey(core, request.ledger_id, request.pkcs8);
    const made = { ...key, algorithm: own.publicKey.name, spki: own.publicKey.spki, csr: null, chain };
    const above = { ...request, crl_number_floor: floor.toString() };
    return store(core, above, digest, made, () => {
      takeEntries(core, own.notAfter.getTime(), entries);
    });
  });
}

async function oldCrl(own: Certificate, der: Bytes) {
  try {
    return await readOldCrl(own, der);
  } catch (error) {
    throw error instanceof PkiError ? new CrlError(`crl: ${error.message}`) : error;
  }
}

/** A subordinate that waits for its certificate. */
export async function createSubordinate(core: Core, request: CreateSubordinate): Promise<Answer> {
  return creating(core, request, async (digest) => {
    const { pkcs8, spki } = await generateKeyPair(request.algorithm);
    const signer = await importSigner(pkcs8, { pss: request.pss });
    const publicKey = parseSpki(spki);
    const info = buildSubordinateRequestInfo({
      subject: encodeName(request.subject),
      publicKey,
      subjectKeyIdentifier: await keyIdentifier(publicKey),
      pathLen: request.path_len,
    });
    const csr = await signTbs(info, signer);
    const key = await sealKey(core, request.ledger_id, pkcs8);
    return store(
      core,
      request,
      digest,
      { ...key, algorithm: request.algorithm, spki, csr, chain: [] },
      () => undefined,
    );
  });
}

/** The certificate for a subordinate; later also a new one for the same key, name and key identifier. */
export async function install(core: Core, ders: readonly Bytes[], force: boolean): Promise<Answer> {
  const before = describe(core);
  if (!before) return refuse("ca_absent", "there is no CA here");
  if (before.chain.length === ders.length && before.chain.every((der, i) => equal(der, ders[i] ?? NO_BYTES))) {
    return before;
  }
  const chain = await guarded(() => checkedChain(core, ders));
  if (!Array.isArray(chain)) return chain;
  const [own] = chain;
  if (!own || !equal(own.publicKey.spki, before.spki)) {
    return refuse("ca_invalid", "ca_cert_pem: the first certificate is not for the key of this CA's request");
  }
  const present = before.chain[0] ? parseCertificate(before.chain[0]) : null;
  const flaw = present && successorFlaw(core, present, chain, force);
  if (flaw) return refuse("ca_invalid", `ca_cert_pem: ${flaw}`);
  core.storage.transactionSync(() => {
    core.sql.exec(
      "update ca set state = case state when 'awaiting_certificate' then 'active' else state end, csr = null, not_before = ?, not_after = ?, path_len = ?",
      own.notBefore.getTime(),
      own.notAfter.getTime(),
      own.basicConstraints?.pathLen ?? null,
    );
    writeChain(core, chain);
    forgetCa(core);
    currentShards(core);
    markDirty(core, new Set([0]), nowOf(core));
  });
  await firstProducts(core);
  return describe(core) ?? refuse("ca_absent", "there is no CA here");
}

/** What forbids that a chain takes the place of the present one; null where nothing does. */
function successorFlaw(core: Core, present: Certificate, chain: readonly Certificate[], force: boolean): string | null {
  const [own] = chain;
  if (!own || !equal(present.subject.der, own.subject.der))
    return "another subject than that of the certificates that were issued";
  if (!equal(present.subjectKeyIdentifier ?? NO_BYTES, own.subjectKeyIdentifier ?? NO_BYTES))
    return "another subjectKeyIdentifier than that of the present certificate: what was issued names it as its issuer's key";
  const end = endOfChain(chain);
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

export function configure(core: Core, settings: { crl_shards: number }): Answer {
  if (!caOf(core)) return refuse("ca_absent", "there is no CA here");
  if (!Number.isInteger(settings.crl_shards) || settings.crl_shards < 1 || settings.crl_shards > 128) {
    return refuse("out_of_bounds", "crl_shards: must be 1 to 128");
  }
  core.sql.exec("update ca set crl_shards = ?", settings.crl_shards);
  forgetCa(core);
  currentShards(core);
  return describe(core) ?? refuse("ca_absent", "there is no CA here");
}

/** Only forward. A retiring or retired CA signs no certificate; lists and OCSP go on. */
export function retire(core: Core, to: "retiring" | "retired"): Answer {
  const ca = caOf(core);
  if (!ca || ca.state === "awaiting_certificate") return refuse("ca_absent", "this CA has no certificate yet");
  if (ca.state !== "retired") {
    core.sql.exec("update ca set state = ?", to);
    core.ca = undefined;
  }
  return describe(core) ?? refuse("ca_absent", "there is no CA here");
}

// -------------------------------------------------------------------------------------------------------------- internal

interface Made {
  readonly key_id: string;
  readonly sealed_key: string;
  readonly signature_algorithm: Bytes;
  readonly algorithm: string;
  readonly spki: Bytes;
  readonly csr: Bytes | null;
  readonly chain: readonly Certificate[];
}

interface Common {
  readonly ledger_id: string;
  readonly ca_id: string;
  readonly crl_shards: number;
  readonly crl_number_floor?: string;
  readonly pss: boolean;
}

/** The same request answers what it made; another one is refused; what our parsers refuse is the request's fault. */
async function creating(core: Core, request: object, make: (digest: string) => Promise<Answer>): Promise<Answer> {
  const text = JSON.stringify(request, (_, value) => (value instanceof Uint8Array ? toBase64(value) : value));
  const digest = await sha256Hex(new TextEncoder().encode(text) as Bytes);
  const ca = caOf(core);
  if (ca) return again(core, ca, digest);
  const answer = await guarded(() => make(digest));
  if (answer.ok && answer.state !== "awaiting_certificate") await firstProducts(core);
  return answer;
}

function again(core: Core, ca: CaRow, digest: string): Answer {
  if (ca.request_digest !== digest) return refuse("ca_exists", "this ledger holds another CA already");
  return describe(core) ?? refuse("ca_absent", "there is no CA here");
}

async function guarded<T>(work: () => Promise<T>): Promise<T | Refusal> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof PkiError || error instanceof RangeError) return refuse("ca_invalid", error.message);
    throw error;
  }
}

async function sealKey(core: Core, ledgerId: string, pkcs8: Bytes) {
  const key_id = randomId(core.random, "key-");
  return { key_id, sealed_key: await core.sealer.seal(pkcs8, keyPurpose(ledgerId, key_id, "ca")), pkcs8 };
}

/** Writes the CA in one step; who came second gets the refusal. */
async function store(
  core: Core,
  request: Common,
  digest: string,
  made: Omit<Made, "signature_algorithm"> & { pkcs8: Bytes },
  also: () => void,
): Promise<Answer> {
  const { algorithmIdentifier } = await importSigner(made.pkcs8, { pss: request.pss });
  made.pkcs8.fill(0);
  const raced = caOf(core);
  if (raced) return again(core, raced, digest);
  const [own] = made.chain;
  const floor = BigInt(request.crl_number_floor ?? 0);
  const small = floor <= BigInt(Number.MAX_SAFE_INTEGER);
  core.storage.transactionSync(() => {
    core.sql.exec(
      `insert into ca (id, ledger_id, ca_id, state, algorithm, key_id, sealed_key, pss, signature_algorithm, spki, csr,
         request_digest, path_len, not_before, not_after, crl_shards, crl_number,
         crl_base)
       values (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      request.ledger_id,
      request.ca_id,
      own ? "active" : "awaiting_certificate",
      made.algorithm,
      made.key_id,
      made.sealed_key,
      request.pss ? 1 : 0,
      algorithmIdentifier,
      made.spki,
      made.csr,
      digest,
      own?.basicConstraints?.pathLen ?? null,
      own?.notBefore.getTime() ?? 0,
      own?.notAfter.getTime() ?? 0,
      request.crl_shards,
      small ? Number(floor) : 0,
      small ? "0" : floor.toString(),
    );
    writeChain(core, made.chain);
    forgetCa(core);
    if (own) currentShards(core);
    nextSeq(core);
    also();
  });
  return describe(core) ?? refuse("ca_absent", "there is no CA here");
}

function writeChain(core: Core, chain: readonly Certificate[]): void {
  core.sql.exec("delete from ca_chain");
  chain.forEach((certificate, position) => {
    core.sql.exec("insert into ca_chain (position, der) values (?, ?)", position, certificate.der);
  });
}

/** The complete list and the OCSP responder; partitions, and what fails here, are made by the alarm. */
async function firstProducts(core: Core): Promise<void> {
  try {
    await Promise.all([publishDue(core, 1), renewResponder(core)]);
  } catch (error) {
    core.log.error("ledger.first_products", { error: describeError(error) });
  }
}

/** A CA's chain that may be used here. */
async function checkedChain(core: Core, ders: readonly Bytes[]): Promise<Certificate[] | Refusal> {
  try {
    const chain = ders.map((der) => parseCertificate(der));
    await checkCaChain(chain, nowOf(core), LEAF_EKUS);
    return chain;
  } catch (error) {
    if (error instanceof PkiError) return refuse("ca_invalid", `ca_cert_pem: ${error.message}`);
    throw error;
  }
}
