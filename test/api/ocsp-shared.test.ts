import { env } from "cloudflare:workers";
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type Ledger, ledgerOf, type ResponderMaterial } from "../../src/authority/ledger.ts";
import type { PublicContext } from "../../src/authority/local/public/context.ts";
import { answerPublicPki } from "../../src/authority/local/public/respond.ts";
import { fromHex } from "../../src/pki/bytes.ts";
import { buildCertId, buildOcspRequest, parseOcspResponse } from "../../src/pki/ocsp.ts";
import type { Bindings } from "../../src/platform/context.ts";
import type { LogFields } from "../../src/platform/log.ts";
import { makeContext } from "../../worker/context.ts";
import { administrator, type Client } from "../support/api.ts";
import { issueLeaf } from "../support/ledgers.ts";

/** What OCSP requests of one isolate share are values: none waits for what another one asked its ledger. */

const bindings = env as unknown as Bindings;
type Call = "status" | "responder";

let api: Client;
/** Milliseconds that the clock is ahead. */
let ahead = 0;
let issuer: string;
let serial: string;
let certId: Uint8Array<ArrayBuffer>;
let ledger: Ledger;
/** The calls of requests to the ledger, in order; each goes on when the test says so. */
let calls: { readonly call: Call; go(error?: Error): void }[] = [];
/** The calls that wait for the test. */
let held: ReadonlySet<Call> = new Set();
let deferred: Promise<unknown>[] = [];
let errors: LogFields[] = [];

beforeAll(async () => {
  api = await administrator();
});

beforeEach(async () => {
  [ahead, calls, held, deferred, errors] = [0, [], new Set(), [], []];
  issuer = (await api.create<{ id: string }>("/api/v1/issuers", { name: crypto.randomUUID(), type: "GenericCA" })).id;
  const ca = await bindings.DB.prepare("select * from certificate_authorities where ca_id = ?")
    .bind(issuer)
    .first<{ ledger_id: string; name_hash_sha1: string; key_hash_sha1: string }>();
  if (!ca) throw new Error("no CA");
  ledger = ledgerOf({ bindings }, ca.ledger_id);
  const issued = await issueLeaf(ledger, "1", { ttl_seconds: 30 * 86_400 });
  serial = issued.serial;
  certId = buildCertId("sha1", fromHex(ca.name_hash_sha1), fromHex(ca.key_hash_sha1), serial);
});

/** A ledger's answer is what it was when it was asked, however long it takes to arrive. */
function slow<T>(call: Call, answer: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const go = (error?: Error) => (error ? reject(error) : answer.then(resolve, reject));
    calls.push({ call, go });
    if (!held.has(call)) go();
  });
}

/** As a ledger would hand it out whose clock is as far ahead. */
async function responderAhead(): Promise<ResponderMaterial> {
  const material = await ledger.responder();
  if (!material.ok) throw new Error(material.message);
  const later = (time: string) => new Date(Date.parse(time) + ahead).toISOString();
  return { ...material, refresh_at: later(material.refresh_at), not_after: later(material.not_after) };
}

function context(): PublicContext {
  const real = makeContext({ ...env }, { waitUntil: (work) => deferred.push(work) });
  const slowLedger: Pick<Ledger, Call> = {
    status: (of) => slow("status", ledger.status(of)),
    responder: () => slow("responder", responderAhead()),
  };
  return {
    ...real,
    clock: { now: () => new Date(Date.now() + ahead) },
    bindings: { ...bindings, ISSUER: { getByName: () => slowLedger } as unknown as Bindings["ISSUER"] },
    log: { ...real.log, error: (event, fields = {}) => errors.push({ event, ...fields }), warn: () => undefined },
  };
}

async function statusOf(response: Promise<Response>): Promise<string | undefined> {
  const parsed = parseOcspResponse(new Uint8Array(await (await response).arrayBuffer()));
  return parsed.basic?.responses[0]?.status.type ?? parsed.status;
}

const FORMS: Readonly<Record<string, () => Promise<string | undefined>>> = {
  POST: () => {
    const path = `/.well-known/pki/ocsp/${issuer}`;
    const body = buildOcspRequest([certId]);
    const headers = { "Content-Type": "application/ocsp-request" };
    const request = new Request(`http://localhost${path}`, { method: "POST", body, headers });
    return statusOf(answerPublicPki(context(), request, path));
  },
  "GET by serial": () => {
    const path = `/.well-known/pki/ocsp/${issuer}/${serial}`;
    return statusOf(answerPublicPki(context(), new Request(`http://localhost${path}`), path));
  },
};

const arrived = (n: number) => expect.poll(() => calls.length, { timeout: 20_000 }).toBe(n);

describe.each(Object.entries(FORMS))("OCSP by %s, from the memory of an isolate", (_, ask) => {
  it("inv 4: a status that was read before a revocation does not hide the one that was read after it", async () => {
    await ask();
    ahead = 10_000;
    held = new Set<Call>(["status"]);
    calls = [];
    const before = ask();
    await arrived(1);
    await ledger.revoke([serial], "superseded");
    const after = ask();
    await arrived(2);
    calls[1]?.go();
    expect(await after).toBe("revoked");
    calls[0]?.go();
    expect(await before).toBe("good");
    held = new Set();
    expect(await ask()).toBe("revoked");
  });

  it("inv 4: an answer is repeated for two seconds from when the ledger was asked, however long signing took", async () => {
    await ask();
    ahead = 10_000;
    held = new Set<Call>(["status"]);
    calls = [];
    const late = ask();
    await arrived(1);
    await ledger.revoke([serial], "superseded");
    ahead += 2_500;
    calls[0]?.go();
    expect(await late).toBe("good");
    held = new Set();
    expect(await ask()).toBe("revoked");
  });

  it("each request without an answer in memory asks the ledger once, by itself", async () => {
    await ask();
    ahead = 10_000;
    held = new Set<Call>(["status"]);
    calls = [];
    const asked = [ask(), ask(), ask()];
    await arrived(3);
    // The first ones' calls never come back, as when their clients have gone.
    calls[2]?.go();
    expect(await Promise.any(asked)).toBe("good");
    for (const call of calls) call.go();
    expect(await Promise.all(asked)).toEqual(["good", "good", "good"]);
  });

  it("a ledger that is overloaded or restarts gives tryLater, and no error in the log", async () => {
    held = new Set<Call>(["status"]);
    const asked = ask();
    await arrived(1);
    calls[0]?.go(Object.assign(new Error("too many requests queued"), { overloaded: true }));
    expect(await asked).toBe("tryLater");
    expect(errors).toEqual([]);
  });
});

describe("the OCSP responder in the memory of an isolate", () => {
  const ask = () => (FORMS.POST as () => Promise<string | undefined>)();
  const fetches = () => calls.filter(({ call }) => call === "responder");

  it("is fetched by each request on a cold start", async () => {
    held = new Set<Call>(["responder"]);
    const asked = [ask(), ask()];
    await expect.poll(() => fetches().length, { timeout: 20_000 }).toBe(2);
    fetches()[1]?.go();
    expect(await Promise.any(asked)).toBe("good");
    fetches()[0]?.go();
    expect(await Promise.all(asked)).toEqual(["good", "good"]);
  });

  it("is refreshed by one request beside its answer, while all are answered with the one that is valid", async () => {
    await ask();
    // Past the half of its week.
    ahead = 4 * 86_400_000;
    held = new Set<Call>(["responder"]);
    calls = [];
    expect(await Promise.all([ask(), ask(), ask()])).toEqual(["good", "good", "good"]);
    expect(fetches()).toHaveLength(1);
    // That request was cut off: a later one tries again, and nobody waits.
    ahead += 11_000;
    expect(await ask()).toBe("good");
    expect(fetches()).toHaveLength(2);
    fetches()[1]?.go();
    await Promise.all(deferred.slice(-1));
    ahead += 3_000;
    expect(await ask()).toBe("good");
    expect(fetches()).toHaveLength(2);
  });

  it("is used on when its successor cannot be had, and not beyond its end", async () => {
    await ask();
    ahead = 4 * 86_400_000;
    held = new Set<Call>(["responder"]);
    calls = [];
    expect(await ask()).toBe("good");
    fetches()[0]?.go(new Error("down"));
    ahead = 7 * 86_400_000;
    const asked = ask();
    await expect.poll(() => fetches().length, { timeout: 20_000 }).toBe(2);
    fetches()[1]?.go(new Error("still down"));
    expect(await asked).toBe("tryLater");
    expect(errors).toHaveLength(1);
  });
});
