import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Bytes, concat, toBase64 } from "../../src/pki/bytes.ts";
import { parseCertificate } from "../../src/pki/certificate.ts";
import { crlChunks, crlEntryLength, parseCrl, planCrl, signCrl, writeCrlEntry } from "../../src/pki/crl.ts";
import { importStreamSigner } from "../../src/pki/stream-signer.ts";
import { bareCsr, bootstrap, type Fleet, makeFleet, requestCertificate, submitCsr } from "../support/client.ts";
import { type OutsideCa, outsideCa } from "../support/outside-ca.ts";
import { type RunningServer, startServer } from "../support/server.ts";
import { eventually, must, Scratch } from "./support/shell.ts";

const BEFORE = 200_000;
const LEAVES = 256;
const AT_ONCE = 8;
/** What docs/revocation.md promises. */
const PROMISED_SECONDS = 60;

const KEY_COMPROMISE = 1;
const HOLD = 6;

interface Leaf {
  readonly certificateId: string;
  readonly serial: string;
}

/** The last list of a CA that comes with 200,000 revocations. Serials of four octets keep it below the API's bound. */
async function longList(ca: OutsideCa): Promise<Bytes> {
  const own = parseCertificate(ca.der);
  const signer = importStreamSigner(ca.keys.pkcs8);
  const now = Math.floor(Date.now() / 1000) * 1000;
  const serialOf = (i: number) => new Uint8Array([0x10 + (i >> 24), (i >> 16) & 255, (i >> 8) & 255, i & 255]);
  const entries = new Uint8Array(BEFORE * crlEntryLength(serialOf(0), now, 0));
  for (let i = 0, at = 0; i < BEFORE; i++) at = writeCrlEntry(entries, at, serialOf(i), now - 86_400_000, 0);
  const plan = planCrl({
    issuer: own.subject.der,
    algorithmIdentifier: signer.algorithmIdentifier,
    thisUpdate: new Date(now - 3_600_000),
    nextUpdate: new Date(now + 86_400_000),
    number: 1_000,
    authorityKeyId: own.subjectKeyIdentifier ?? new Uint8Array(0),
    distributionPoint: null,
    entriesLength: entries.length,
  });
  const signature = await signCrl(plan, signer, [entries]);
  const chunks: Uint8Array[] = [];
  for await (const chunk of crlChunks(plan, signature, [entries])) chunks.push(chunk);
  return concat(...chunks);
}

/** Does `work` for each, a few at a time. */
async function forEach<T, R>(all: readonly T[], work: (one: T, i: number) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  const worker = async () => {
    for (let i = next++; i < all.length; i = next++) results[i] = await work(all[i] as T, i);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return results;
}

describe("a list of 200,000 while certificates are revoked and released all the time", () => {
  const scratch = new Scratch();
  let server: RunningServer;
  let fleet: Fleet;
  let leaves: Leaf[];
  let crlUrl: string;
  const ca = outsideCa({ name: "Loaded CA" });

  beforeAll(async () => {
    server = await startServer();
    const admin = await bootstrap(server.url, server.bootstrapToken);
    const { cert_pem, key_pem } = await ca;
    fleet = await makeFleet(admin, "loaded", {
      ca_common_name: undefined,
      key_algorithm: undefined,
      ca_cert_pem: cert_pem,
      ca_key_pem: key_pem,
      crl: toBase64(await longList(await ca)),
    });
    crlUrl = `${server.url}/.well-known/pki/crl/${fleet.issuerId}`;
    leaves = await forEach(Array.from({ length: LEAVES }), async (_, i) => {
      const job = await requestCertificate(fleet, `leaf-${i}.example.com`);
      await submitCsr(fleet, job, bareCsr());
      const { data } = await fleet.admin.call("GET", `/api/v1/certificates/${job.certificateId}/versions`);
      const [version] = data as { serial_number: string }[];
      return { certificateId: job.certificateId, serial: version?.serial_number ?? "" };
    });
  });

  afterAll(async () => {
    await server.stop();
    scratch.remove();
  });

  const hold = ({ certificateId }: Leaf) =>
    fleet.admin.call("POST", `/api/v1/certificates/${certificateId}/revoke`, { reason: "certificateHold" });
  const end = ({ certificateId }: Leaf) =>
    fleet.admin.call("POST", `/api/v1/certificates/${certificateId}/revoke`, { reason: "keyCompromise" });
  const release = ({ certificateId }: Leaf) =>
    fleet.admin.call("POST", `/api/v1/certificates/${certificateId}/release-hold`);

  const etagOfList = async () => (await fetch(crlUrl, { method: "HEAD" })).headers.get("ETag");

  async function fetchList() {
    const response = await fetch(crlUrl);
    expect(response.status).toBe(200);
    const der = new Uint8Array(await response.arrayBuffer());
    const { number, entries } = parseCrl(der);
    return { der, number: number ?? 0n, entries };
  }

  it("inv 4: comes out again within each promised minute, and the last one says what became of each", async () => {
    const first = await fetchList();
    expect(first.entries).toHaveLength(BEFORE);

    // At least 1,000 changes, and as many more as it takes until three lists have come out meanwhile.
    let changing = true;
    let changes = 0;
    const change = async () => {
      for (let round = 0; changing || round < 4 || round % 2 === 1; round++)
        await forEach(leaves, async (leaf) => {
          await (round % 2 === 0 ? hold(leaf) : release(leaf));
          changes++;
        });
      // Nothing is on hold after an even number of rounds. Now a half is held, of which a half is revoked for good.
      await forEach(leaves.slice(0, LEAVES / 2), hold);
      await forEach(leaves.slice(0, LEAVES / 4), end);
    };
    const began = Date.now();
    const done = change();
    const gaps: number[] = [];
    let last = first;
    for (let since = began; gaps.length < 3; ) {
      const before = await etagOfList();
      await eventually(async () => expect(await etagOfList()).not.toBe(before), PROMISED_SECONDS);
      gaps.push((Date.now() - since) / 1000);
      since = Date.now();
      const list = await fetchList();
      expect(list.number).toBeGreaterThan(last.number);
      expect(list.entries.length).toBeGreaterThanOrEqual(BEFORE);
      last = list;
    }
    const rate = changes / ((Date.now() - began) / 1000);
    changing = false;
    await done;
    expect(changes).toBeGreaterThanOrEqual(1_000);
    console.info(`${changes} changes, ${Math.round(rate * 60)} a minute; lists after ${gaps.join(", ")} s`);

    const expected = new Map(
      leaves.flatMap((leaf, i) =>
        i < LEAVES / 2 ? [[leaf.serial, i < LEAVES / 4 ? KEY_COMPROMISE : HOLD] as const] : [],
      ),
    );
    const final = await eventually(async () => {
      const list = await fetchList();
      const ours = list.entries.filter((entry) => entry.serial.length > 8);
      expect(new Map(ours.map((entry) => [entry.serial, entry.reason]))).toEqual(expected);
      expect(list.entries).toHaveLength(BEFORE + expected.size);
      return list;
    }, PROMISED_SECONDS);
    const path = scratch.write("final.crl", final.der);
    const pem = scratch.write("ca.pem", (await ca).cert_pem);
    const { text } = await must("openssl", ["crl", "-inform", "DER", "-in", path, "-CAfile", pem, "-noout", "-verify"]);
    expect(text).toContain("verify OK");
  }, 300_000);
});
