import { runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { env, exports } from "cloudflare:workers";
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { Purge } from "../../durable-objects/purge.ts";
import { type Bytes, toBase64 } from "../../src/pki/bytes.ts";
import { parseCrl } from "../../src/pki/crl.ts";
import { buildOcspRequest, parseOcspResponse } from "../../src/pki/ocsp.ts";
import worker from "../../worker/index.ts";
import { type Fleet, issueFor, makeFleet } from "../support/fleet.ts";
import { ledgerIdOf } from "../support/ledgers.ts";
import { ledgerStub } from "../support/rewind.ts";

/**
 * The door in front of the cached entrypoint, as on Cloudflare: the entrypoint is the real one. In place of the cache stands
 * one that keeps every good answer of a test and writes down what it was asked.
 */

const PKI = "/.well-known/pki";
let fleet: Fleet;
let issuer: string;
let asked: Request[] = [];
const kept = new Map<string, Response>();
/** CertIDs of two serials. */
let first: Bytes;
let second: Bytes;

beforeAll(async () => {
  fleet = await makeFleet();
  issuer = fleet.issuerId;
  [first, second] = [await certIdOf("01"), await certIdOf("02")];
});

beforeEach(() => kept.clear());

const entrypoint = (exports as unknown as { PublicPki: Fetcher }).PublicPki;

async function visit(path: string, init: RequestInit = {}): Promise<Response> {
  asked = [];
  const PublicPki = {
    async fetch(request: Request) {
      asked.push(request);
      const answer = kept.get(request.url) ?? ((await entrypoint.fetch(request as never)) as unknown as Response);
      if (answer.status === 200) kept.set(request.url, answer);
      return answer.clone();
    },
  };
  const context = { waitUntil: () => undefined, exports: { PublicPki } } as unknown as ExecutionContext;
  const request = new Request(`https://pki.example.com${PKI}/${path}`, { ...init, cf: { colo: "TEST" } });
  return await worker.fetch(request as never, { ...env }, context);
}

async function certIdOf(serial: string): Promise<Bytes> {
  const { basic } = parseOcspResponse(await bytes(await visit(`ocsp/${issuer}/${serial}`)));
  const certId = basic?.responses[0]?.certId;
  if (!certId) throw new Error("no answer");
  return certId.der;
}

async function bytes(response: Response): Promise<Bytes> {
  return new Uint8Array(await response.arrayBuffer());
}

const post = (body: Bytes, headers: Record<string, string> = {}) =>
  visit(`ocsp/${issuer}`, {
    method: "POST",
    body,
    headers: { "Content-Type": "application/ocsp-request", ...headers },
  });

describe("what the cache is asked", () => {
  it("one question has one key, however it is asked, and nothing of the client comes along", async () => {
    const text = encodeURIComponent(toBase64(buildOcspRequest([first])));
    const headers = { "If-None-Match": '"x"', "Cache-Control": "no-cache", Range: "bytes=0-1", Cookie: "a=b" };
    const keys = new Set<string>();
    for (const ask of [
      () => visit(`ocsp/${issuer}/01`, { headers }),
      () => visit(`ocsp/${issuer}/0001/?now=1`, { headers }),
      () => visit(`ocsp/${issuer}/${text}`, { headers }),
      () => visit(`ocsp/${issuer}//${decodeURIComponent(text)}`, { headers }),
      () => visit(`ocsp/${issuer}/${text}`, { method: "HEAD", headers }),
      () => post(buildOcspRequest([first]), headers),
    ]) {
      const response = await ask();
      expect(response.status).toBe(200);
      expect(asked).toHaveLength(1);
      for (const { url, method, headers: sent } of asked) {
        expect([method, [...sent]]).toEqual(["GET", []]);
        keys.add(url);
      }
    }
    expect([...keys]).toEqual([expect.stringMatching(`^http://pki\\.invalid${PKI}/ocsp/${issuer}/certid/[0-9a-f]+$`)]);
  });

  it("lists and CA certificates by their path without a query", async () => {
    for (const path of [`crl/${issuer}`, `ca/${issuer}`]) {
      for (const method of ["GET", "HEAD"]) {
        await visit(`${path}?x=1`, { method, headers: { "If-None-Match": '"x"' } });
        expect(asked.map((request) => [request.method, request.url, [...request.headers]])).toEqual([
          ["GET", `http://pki.invalid${PKI}/${path}`, []],
        ]);
      }
    }
  });

  it("nothing where no answer may be repeated, and where there is no answer", async () => {
    const nonce = crypto.getRandomValues(new Uint8Array(16));
    for (const request of [buildOcspRequest([first], nonce), buildOcspRequest([first, second])]) {
      const response = await post(request);
      expect([response.status, response.headers.get("Cache-Control"), asked]).toEqual([
        200,
        expect.stringContaining("no-store"),
        [],
      ]);
    }
    expect([(await visit("ocsp/iss-nobody/01")).status, asked]).toEqual([404, []]);
    expect([(await visit(`ocsp/${issuer}/hello`)).status, asked]).toEqual([400, []]);
    expect([(await visit(`crl/${issuer}`, { method: "DELETE" })).status, asked]).toEqual([405, []]);
  });
});

describe("what the client gets of the cache's answer", () => {
  const paths = () => [`crl/${issuer}`, `ca/${issuer}`, `ocsp/${issuer}/01`];

  it("all of it, when it asks no more", async () => {
    expect(parseCrl(await bytes(await visit(`crl/${issuer}`))).entries).toEqual([]);
    for (const path of paths()) {
      const response = await visit(path);
      const straight = kept.get(asked[0]?.url ?? "");
      expect([path, response.status, straight?.status]).toEqual([path, 200, 200]);
      for (const name of ["Content-Type", "Cache-Control", "ETag", "Cache-Tag"])
        expect([path, name, response.headers.get(name)]).toEqual([path, name, straight?.headers.get(name)]);
      expect(await bytes(response)).toEqual(straight && (await bytes(straight)));
    }
  });

  it("304 without a body for the entity tag that it has, in any of its forms", async () => {
    for (const path of paths()) {
      const etag = (await visit(path)).headers.get("ETag") ?? "";
      expect(etag).toMatch(/^"[^"]+"$/);
      for (const method of ["GET", "HEAD"]) {
        for (const tags of [etag, `W/${etag}`, `"other", ${etag}`, "*"]) {
          const response = await visit(path, { method, headers: { "If-None-Match": tags } });
          expect([path, tags, response.status, response.headers.get("ETag")]).toEqual([path, tags, 304, etag]);
          expect(response.body).toBeNull();
        }
        const changed = await visit(path, { method, headers: { "If-None-Match": '"other"' } });
        expect([path, changed.status]).toEqual([path, 200]);
      }
    }
    const etag = (await post(buildOcspRequest([first]))).headers.get("ETag") ?? "";
    expect((await post(buildOcspRequest([first]), { "If-None-Match": etag })).status).toBe(200);
  });

  it("304 for a date since which a list has not changed, unless an entity tag decides", async () => {
    const path = `crl/${issuer}`;
    const fresh = async () => {
      kept.clear();
      return (await visit(path)).headers.get("Last-Modified");
    };
    await expect.poll(fresh, { timeout: 10_000 }).not.toBeNull();
    const { headers } = await visit(path);
    const modified = Date.parse(headers.get("Last-Modified") ?? "");
    const since = async (at: number | string, more: Record<string, string> = {}) =>
      visit(path, {
        headers: { "If-Modified-Since": typeof at === "string" ? at : new Date(at).toUTCString(), ...more },
      });
    expect((await since(modified)).status).toBe(304);
    expect((await since(modified - 1000)).status).toBe(200);
    expect((await since(Date.now() + 3_600_000)).status).toBe(200);
    expect((await since("yesterday")).status).toBe(200);
    expect((await since(modified, { "If-None-Match": '"other"' })).status).toBe(200);
    expect((await since(modified - 1000, { "If-None-Match": headers.get("ETag") ?? "" })).status).toBe(304);
    // Of OCSP answers a date tells nothing.
    const dated = await visit(`ocsp/${issuer}/01`);
    const date = dated.headers.get("Last-Modified") ?? "";
    const again = await visit(`ocsp/${issuer}/01`, { headers: { "If-Modified-Since": date } });
    expect([date !== "", again.status]).toEqual([true, 200]);
  });

  it("the headers alone for HEAD", async () => {
    for (const path of paths()) {
      const [get, head] = [await visit(path), await visit(path, { method: "HEAD" })];
      expect([path, head.status, head.body]).toEqual([path, 200, null]);
      expect(head.headers.get("ETag")).toBe(get.headers.get("ETag"));
      await get.body?.cancel();
    }
  });

  it("an error as it is, whatever the client has", async () => {
    for (const path of ["crl/iss-nobody", "ca/iss-nobody", `crl/${issuer}/7`]) {
      const response = await visit(path, { headers: { "If-None-Match": "*" } });
      expect([path, asked.length, response.status, response.headers.get("Cache-Control")]).toEqual([
        path,
        1,
        404,
        "no-store",
      ]);
      expect(await response.json()).toMatchObject({ error: "not_found" });
    }
  });

  it("an error of the cache itself, entity tag and all", async () => {
    const url = `http://pki.invalid${PKI}/ca/${issuer}`;
    kept.set(url, new Response("bad gateway", { status: 502, headers: { ETag: '"bad"' } }));
    const response = await visit(`ca/${issuer}`, { headers: { "If-None-Match": '"bad"' } });
    expect([response.status, await response.text()]).toEqual([502, "bad gateway"]);
  });
});

describe("a revocation", () => {
  const { PURGE } = env as unknown as { PURGE: DurableObjectNamespace<Purge> };
  const edge = PURGE.getByName("edge");

  /** Has the Purge object empty this file's cache by the tags of its answers; answers the tags, which come in later. */
  async function purgeHere(): Promise<Set<string>> {
    const tags = new Map([...kept].map(([url, { headers }]) => [url, headers.get("Cache-Tag")?.split(",") ?? []]));
    const purged = new Set<string>();
    await runInDurableObject(edge, (purge) => {
      purge.purge = async (gone) => {
        for (const tag of gone) purged.add(tag);
        for (const [url, its] of tags) if (its.some((tag) => gone.includes(tag))) kept.delete(url);
        return true;
      };
    });
    return purged;
  }

  const statusOf = async (serial: string) => {
    const { basic } = parseOcspResponse(await bytes(await visit(`ocsp/${issuer}/${serial}`)));
    return basic?.responses[0]?.status.type;
  };
  const listed = async () => parseCrl(await bytes(await visit(`crl/${issuer}`))).entries.map(({ serial }) => serial);

  it("inv 4: purges exactly the answers that became wrong: that certificate's, and the list", async () => {
    const [revoked, other] = [await issueFor(fleet, "edge-revoked"), await issueFor(fleet, "edge-other")];
    const ledgerId = await ledgerIdOf(issuer);
    expect([await statusOf(revoked.serial), await statusOf(other.serial), await listed()]).toEqual([
      "good",
      "good",
      [],
    ]);
    const ca = await visit(`ca/${issuer}`);
    await ca.body?.cancel();
    const [urls, purged] = [[...kept.keys()], await purgeHere()];
    expect(urls).toHaveLength(4);
    await fleet.admin.post(`/api/v1/certificates/${revoked.id}/revoke`, { reason: "superseded" });
    // The purge comes by itself, when no isolate can repeat the old answer any more. As long as it is cached, it is what everybody gets.
    expect(await statusOf(revoked.serial)).toBe("good");
    await expect
      .poll(
        async () => {
          await runDurableObjectAlarm(ledgerStub(ledgerId));
          return [...purged].sort();
        },
        { timeout: 30_000 },
      )
      .toEqual([`crl-${ledgerId}-0`, `ocsp-${ledgerId}-${revoked.serial}`]);
    expect(urls.filter((url) => !kept.has(url))).toHaveLength(2);
    expect([await statusOf(revoked.serial), await statusOf(other.serial)]).toEqual(["revoked", "good"]);
    expect(await listed()).toEqual([revoked.serial]);
  });
});
