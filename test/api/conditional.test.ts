import { runDurableObjectAlarm } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import type { Issuer } from "../../durable-objects/issuer.ts";
import type { Issued, Ledger } from "../../src/authority/ledger.ts";
import type { PublicContext } from "../../src/authority/local/public/context.ts";
import { answerPublicPki, type Edge } from "../../src/authority/local/public/respond.ts";
import { parseCrl } from "../../src/pki/crl.ts";
import { parseOcspResponse } from "../../src/pki/ocsp.ts";
import { consoleLog } from "../../src/platform/log.ts";
import { type Env, readEnv } from "../../worker/env.ts";
import { inside, issueOne, setClock } from "../ledger/support.ts";
import { administrator, type Client } from "../support/api.ts";
import { NO_INVENTORY } from "../support/inventory.ts";
import { ledgerOfCa } from "../support/ledgers.ts";

const { bindings, settings, sealer, db } = readEnv(env as unknown as Env);

/** Where the clock of those who answer stands, Unix milliseconds. */
let now = Date.now();
let api: Client;

beforeAll(async () => {
  api = await administrator();
});
const ctx: PublicContext = {
  bindings,
  settings,
  sealer,
  db,
  clock: { now: () => new Date(now) },
  log: consoleLog({}),
  defer: () => {},
};

const origin: Edge = (path) => answerPublicPki(ctx, new Request(`http://pki.test${path}`), path);

/** The answer by itself, and as it comes through the entrypoint in front of the edge cache. */
const WAYS: readonly [string, Edge][] = [
  ["at the origin", null],
  ["through the edge", origin],
];

function ask(edge: Edge, path: string, headers: Record<string, string> = {}): Promise<Response> {
  const full = `/.well-known/pki/${path}`;
  return answerPublicPki(ctx, new Request(`http://pki.test${full}`, { headers }), full, edge);
}

interface Ca {
  readonly id: string;
  readonly ledger: Ledger;
  readonly stub: DurableObjectStub<Issuer>;
  readonly leaf: Issued;
}

/** A CA with a leaf and its first, empty list. */
async function newCa(): Promise<Ca> {
  const { id } = await api.create<{ id: string }>("/api/v1/issuers", {
    name: `Conditional ${crypto.randomUUID()}`,
    type: "GenericCA",
  });
  const ledger = await ledgerOfCa(id);
  const leaf = await issueOne(ledger, "job-1");
  now = Date.now();
  const stub = ledger as unknown as DurableObjectStub<Issuer>;
  // No record stands behind its certificates: everything is settled at once.
  await inside(stub, (issuer) => {
    const real = issuer.core.inventory;
    issuer.core.inventory = {
      ...NO_INVENTORY,
      heard: (id) => real.heard(id),
    };
  });
  return { id, ledger, stub, leaf };
}

async function revokeAndPublish({ ledger, stub, leaf }: Ca): Promise<void> {
  expect(await ledger.revoke([leaf.serial], "superseded")).toMatchObject({ ok: true });
  await setClock(stub, Date.now() + 3_000);
  await runDurableObjectAlarm(stub);
}

const modifiedOf = (response: Response) => response.headers.get("Last-Modified");
const httpDate = (at: number) => new Date(at).toUTCString();

describe.each(WAYS)("a list asked for on a condition, %s", (_, edge) => {
  it("inv 4: is sent to whoever fetched the one before it, however shortly before its publication", async () => {
    const ca = await newCa();
    const before = await ask(edge, `crl/${ca.id}`);
    const first = modifiedOf(before) ?? "";
    expect(Date.parse(first)).toBeLessThanOrEqual(now);
    expect((await ask(edge, `crl/${ca.id}`, { "If-Modified-Since": first })).status).toBe(304);
    await before.arrayBuffer();
    const fetchedAt = now;
    await revokeAndPublish(ca);
    for (const since of [first, httpDate(fetchedAt), httpDate(now + 86_400_000)]) {
      const after = await ask(edge, `crl/${ca.id}`, { "If-Modified-Since": since });
      expect(after.status).toBe(200);
      const { entries } = parseCrl(new Uint8Array(await after.arrayBuffer()));
      expect(entries.map((entry) => entry.serial)).toEqual([ca.leaf.serial]);
      // Its second has not come: what it would say now, its predecessor might have been fetched at.
      expect(modifiedOf(after)).toBeNull();
    }
    now = Date.now() + 3_000;
    const later = await ask(edge, `crl/${ca.id}`, { "If-Modified-Since": httpDate(fetchedAt) });
    expect(later.status).toBe(200);
    await later.arrayBuffer();
    const second = modifiedOf(later) ?? "";
    expect(Date.parse(second)).toBeGreaterThan(Math.max(Date.parse(first), fetchedAt));
    const known = await ask(edge, `crl/${ca.id}`, { "If-Modified-Since": second });
    expect(known.status).toBe(304);
    expect(known.headers.get("ETag")).toBe(later.headers.get("ETag"));
  });

  it("two that are published within a second have dates that differ, and If-None-Match decides before any date", async () => {
    const ca = await newCa();
    await revokeAndPublish(ca);
    const { serial } = await issueOne(ca.ledger, "job-2", { certificate_id: "mc-second" });
    now = Date.now() + 30_000;
    const first = await ask(edge, `crl/${ca.id}`);
    await ca.ledger.revoke([serial], null);
    await setClock(ca.stub, Date.now() + 6_000);
    await runDurableObjectAlarm(ca.stub);
    const second = await ask(edge, `crl/${ca.id}`);
    await Promise.all([first, second].map((response) => response.arrayBuffer()));
    expect(Date.parse(modifiedOf(second) ?? "")).toBeGreaterThan(Date.parse(modifiedOf(first) ?? ""));
    const conditions = {
      "If-None-Match": first.headers.get("ETag") ?? "",
      "If-Modified-Since": modifiedOf(second) ?? "",
    };
    const third = await ask(edge, `crl/${ca.id}`, conditions);
    expect(third.status).toBe(200);
    await third.arrayBuffer();
    const known = await ask(edge, `crl/${ca.id}`, { ...conditions, "If-None-Match": second.headers.get("ETag") ?? "" });
    expect(known.status).toBe(304);
    expect(known.headers.get("ETag")).toBe(second.headers.get("ETag"));
  });
});

describe.each(WAYS)("an OCSP answer asked for on a condition, %s", (_, edge) => {
  it("inv 4: is sent again after a revocation, whatever date the asker has", async () => {
    const ca = await newCa();
    const path = `ocsp/${ca.id}/${ca.leaf.serial}`;
    const good = await ask(edge, path);
    const { basic } = parseOcspResponse(new Uint8Array(await good.arrayBuffer()));
    const single = basic?.responses[0];
    expect(single?.status.type).toBe("good");
    // RFC 9919 sections 5 and 6.2: one time, three names.
    expect(modifiedOf(good)).toBe(single?.thisUpdate.toUTCString());
    expect(modifiedOf(good)).toBe(basic?.producedAt.toUTCString());
    expect(good.headers.get("Expires")).toBe(single?.nextUpdate?.toUTCString());
    const etag = good.headers.get("ETag") ?? "";
    expect((await ask(edge, path, { "If-None-Match": etag })).status).toBe(304);
    await ca.ledger.revoke([ca.leaf.serial], null);
    // What the isolate repeats is over after two seconds.
    now = Date.now() + 2_500;
    for (const headers of [
      { "If-Modified-Since": modifiedOf(good) ?? "" },
      { "If-Modified-Since": httpDate(now) },
      { "If-None-Match": etag, "If-Modified-Since": httpDate(now) },
    ]) {
      const revoked = await ask(edge, path, headers);
      expect(revoked.status).toBe(200);
      const parsed = parseOcspResponse(new Uint8Array(await revoked.arrayBuffer()));
      expect(parsed.basic?.responses[0]?.status.type).toBe("revoked");
    }
  });
});
