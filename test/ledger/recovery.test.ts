import { abortAllDurableObjects, evictDurableObject, runDurableObjectAlarm } from "cloudflare:test";
import { describe, expect, it } from "vitest";
import { caOf, openCaKey } from "../../durable-objects/issuer/core.ts";
import type { Issued } from "../../src/authority/ledger.ts";
import { crlKey } from "../../src/authority/ledger-places.ts";
import { factOf } from "../../src/authority/local/marks.ts";
import { parseCertificate } from "../../src/pki/certificate.ts";
import { fromBase64url } from "../../src/platform/text.ts";
import { holds } from "../support/holds.ts";
import { BYTES, expectOk, inside, issueOne, leafRequest, ledgerById, newRoot, setClock } from "./support.ts";

interface Row extends Record<string, SqlStorageValue> {
  serial: string;
  state: number;
  acknowledged: number;
}

function rows(state: DurableObjectState): Row[] {
  return state.storage.sql
    .exec<Row>("select serial, state, acknowledged from entries where kind = 'leaf' order by cursor")
    .toArray();
}

/** Leaves the ledger as a crash between reserving and signing would: the octets are written, the certificate is not. */
function crashBeforeSigning(state: DurableObjectState): void {
  const { der } = state.storage.sql
    .exec<{ der: ArrayBuffer }>("select der from entries where kind = 'leaf' order by cursor desc limit 1")
    .one();
  const { tbs } = parseCertificate(new Uint8Array(der));
  state.storage.sql.exec(
    "update entries set state = 0, acknowledged = 0, der = null, tbs = ? where cursor = (select max(cursor) from entries)",
    tbs,
  );
}

describe("after a crash", () => {
  it("inv 2: a reservation that was never signed is signed with its own serial and octets when the request comes again", async () => {
    const { ledger, stub } = await newRoot();
    const first = await issueOne(ledger, "job-1");
    await inside(stub, (_, state) => crashBeforeSigning(state));
    await evictDurableObject(stub);
    expect(await ledger.status(first.serial)).toBe("unknown");
    const [a, b] = await Promise.all([issueOne(ledger, "job-1"), issueOne(ledger, "job-1")]);
    expect([a.serial, b.serial]).toEqual([first.serial, first.serial]);
    expect(parseCertificate(a.der).tbs).toEqual(parseCertificate(first.der).tbs);
    expect(a.der).toEqual(b.der);
  });

  it("inv 6: nobody asks again: the alarm signs it and hands it to the inventory, once", async () => {
    const { ledger, stub } = await newRoot();
    const first = await issueOne(ledger, "job-1", { settle: { job_id: "job-1" } });
    await inside(stub, (_, state) => crashBeforeSigning(state));
    const handed: Issued[][] = [];
    await inside(stub, async (issuer) => {
      issuer.clock = { now: () => new Date(Date.now() + 10_000) };
      issuer.core.inventory.settle = async (_, issued) => {
        handed.push([...issued]);
        return issued.map(factOf);
      };
      await issuer.alarm();
      await issuer.alarm();
    });
    expect(handed.map((batch) => batch.map((one) => one.serial))).toEqual([[first.serial]]);
    expect(handed[0]?.[0]).toMatchObject({ request_id: "job-1", settle: { job_id: "job-1" } });
    expect(await inside(stub, (_, state) => rows(state))).toEqual([
      { serial: first.serial, state: 1, acknowledged: 1 },
    ]);
  });

  it("inv 6: what the inventory does not take is handed over again, and a lost alarm is set again", async () => {
    const { ledger, stub } = await newRoot();
    await issueOne(ledger, "job-1");
    let tries = 0;
    let offset = 0;
    await inside(stub, async (issuer, state) => {
      issuer.clock = { now: () => new Date(Date.now() + offset) };
      issuer.core.inventory.settle = async (_, issued) => {
        tries++;
        if (tries < 3) throw new Error("the database is away");
        return issued.map(factOf);
      };
      for (let i = 0; i < 4; i++) {
        offset += 10_000;
        await issuer.alarm();
        expect(await state.storage.getAlarm()).not.toBeNull();
      }
    });
    expect(tries).toBe(3);
  });

  it("inv 6: a hundred entries that the inventory never takes hold up no other", async () => {
    const { ledger, stub } = await newRoot();
    const hopeless = Array.from({ length: 100 }, (_, i) => `lost-${i}`);
    for (const id of [...hopeless, "job-last"]) await issueOne(ledger, id);
    const settled: string[] = [];
    let offset = 0;
    await inside(stub, async (issuer) => {
      issuer.clock = { now: () => new Date(Date.now() + offset) };
      issuer.core.inventory.settle = async (_, issued) => {
        const taken = issued.filter((one) => !hopeless.includes(one.request_id));
        settled.push(...taken.map((one) => one.request_id));
        return taken.map(factOf);
      };
      for (let i = 0; i < 2; i++) {
        offset += 10_000;
        await issuer.alarm();
      }
    });
    expect(settled).toEqual(["job-last"]);
  });

  it("inv 1: every object is gone at once in the middle of the work, and what was answered is still there", async () => {
    const { id, ledger } = await newRoot();
    const issued = await Promise.all(Array.from({ length: 20 }, (_, i) => issueOne(ledger, `job-${i}`)));
    await abortAllDurableObjects();
    const statuses = await Promise.all(issued.map((one) => ledgerById(id).status(one.serial)));
    expect(statuses).toEqual(issued.map(() => "good"));
  });
});

describe("the OCSP responder", () => {
  it("is renewed at half of its week, and its predecessor stays valid", async () => {
    const { ledger, stub } = await newRoot();
    const first = expectOk(await ledger.responder());
    expect(expectOk(await ledger.responder()).certificate).toEqual(first.certificate);
    await setClock(stub, Date.now() + 4 * 86_400_000);
    await runDurableObjectAlarm(stub);
    const second = expectOk(await ledger.responder());
    expect(second.certificate).not.toEqual(first.certificate);
    expect(second.purpose).not.toBe(first.purpose);
    expect(Date.parse(first.not_after)).toBeGreaterThan(Date.now() + 4 * 86_400_000);
    expect(parseCertificate(second.certificate)).toMatchObject({
      extendedKeyUsage: ["OCSPSigning"],
      ocspNoCheck: true,
    });
  });

  it("is P-256 whatever the CA's own key is", async () => {
    for (const algorithm of ["Ed25519", "RSA-2048"] as const) {
      const { ledger, id } = await newRoot({ algorithm });
      const { certificate } = expectOk(await ledger.responder());
      expect(parseCertificate(certificate).publicKey.name).toBe("ECDSA-P256");
      expect(await BYTES.head(crlKey(id, 0))).not.toBeNull();
      expect((await issueOne(ledger, "job-1")).serial).toHaveLength(34);
    }
  });
});

/** The private number of a P-256 key. */
async function scalarOf(pkcs8: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
  const key = await crypto.subtle.importKey("pkcs8", pkcs8, { name: "ECDSA", namedCurve: "P-256" }, true, ["sign"]);
  const { d } = (await crypto.subtle.exportKey("jwk", key)) as JsonWebKey;
  return fromBase64url(d ?? "");
}

describe("keys", () => {
  it("inv 5: are sealed wherever they are stored, and no answer holds one", async () => {
    const { ledger, stub } = await newRoot();
    const issued = await issueOne(ledger, "job-1");
    const responder = expectOk(await ledger.responder());
    const stored = await inside(stub, async ({ core }, state) => {
      const ca = caOf(core);
      if (!ca) throw new Error("no CA");
      const { sql } = state.storage;
      const rowsOf = (table: string) => sql.exec(`select * from "${table}"`).toArray();
      const tables = sql.exec<{ name: string }>(
        "select name from sqlite_master where type = 'table' and name not like '\\_%' escape '\\'",
      );
      return {
        everything: tables.toArray().map(({ name }) => rowsOf(name)),
        sealed: sql.exec<{ sealed_key: string }>("select sealed_key from ca").one().sealed_key,
        ca: await scalarOf(await openCaKey(core, ca)),
        ocsp: await scalarOf(await core.sealer.open(responder.sealed_key, responder.purpose)),
      };
    });
    const answers = [issued, responder, await ledger.describe(), await ledger.status(issued.serial)];
    // The search finds what is there: the CA's public key in its certificate, and the sealed key where it is stored.
    const [root] = (await ledger.describe())?.chain ?? [];
    expect(root && holds(answers, parseCertificate(root).publicKey.keyBits)).toBe(true);
    expect(JSON.stringify(stored.everything)).toContain(stored.sealed);
    expect(stored.sealed).toMatch(/^v1\.test\./);
    expect(responder.sealed_key).toMatch(/^v1\.test\./);
    for (const secret of [stored.ca, stored.ocsp]) {
      expect(holds(stored.everything, secret)).toBe(false);
      expect(holds(answers, secret)).toBe(false);
    }
    expect(JSON.stringify(answers)).not.toContain(stored.sealed);
  });
});

describe("a retiring CA", () => {
  it("signs nothing more and goes on answering for what it signed", async () => {
    const { ledger } = await newRoot();
    const issued = await issueOne(ledger, "job-1");
    expectOk(await ledger.retire("retiring"));
    const [refused] = await ledger.issue([await leafRequest("job-2")]);
    expect(refused).toMatchObject({ ok: false, code: "ca_not_active" });
    expect(await issueOne(ledger, "job-1")).toMatchObject({ serial: issued.serial });
    expect(await ledger.status(issued.serial)).toBe("good");
    expectOk(await ledger.responder());
    expectOk(await ledger.revoke([issued.serial], null));
  });
});
