import { afterAll, beforeAll, expect, it } from "vitest";
import { parseCrl } from "../../src/pki/crl.ts";
import { buildOcspRequest, parseOcspResponse } from "../../src/pki/ocsp.ts";
import { type RunningServer, startServer } from "../support/server.ts";
import { bootstrap } from "./support/api.ts";
import { createIssuer, type Issued, issue, revoke, type Scene, setScene } from "./support/scene.ts";
import { describeWith, eventually, Scratch } from "./support/shell.ts";
import { startVarnish, type Varnish } from "./support/varnish.ts";

/** The public answers behind a real HTTP cache: what its rules make of our headers, without Cloudflare. */
describeWith("Varnish", ["varnishd", "openssl"], () => {
  const scratch = new Scratch();
  let server: RunningServer;
  let scene: Scene;
  let cache: Varnish;

  beforeAll(async () => {
    server = await startServer();
    scene = await setScene(await bootstrap(server.url, server.bootstrapToken), scratch);
    await createIssuer(scene, "iss-cache", { ca_common_name: "Cached Root", key_algorithm: "ECDSA-P256" });
    cache = await startVarnish(scratch, server.port);
  });
  afterAll(async () => {
    await cache?.stop();
    await server?.stop();
    scratch.remove();
  });

  const CRL = "crl/iss-cache";
  const ocsp = (issued: Issued) => `ocsp/iss-cache/${issued.serial}`;

  interface Got {
    readonly status: number;
    readonly headers: Headers;
    readonly body: Uint8Array<ArrayBuffer>;
    /** It came from the cache. */
    readonly hit: boolean;
  }

  async function get(path: string, init: RequestInit = {}, base = cache.url): Promise<Got> {
    const response = await fetch(`${base}/.well-known/pki/${path}`, init);
    const { status, headers } = response;
    const body = new Uint8Array(await response.arrayBuffer());
    return { status, headers, body, hit: Number(headers.get("X-Cache-Hits")) > 0 };
  }

  const statusIn = ({ body }: Got) => parseOcspResponse(body).basic?.responses[0]?.status.type;
  const serialsIn = ({ body }: Got) => parseCrl(body).entries.map(({ serial }) => serial);
  const tagsOf = ({ headers }: Got) => headers.get("Cache-Tag")?.split(",") ?? [];
  const straight = (path: string) => get(path, {}, server.url);

  it("keeps OCSP answers, lists and CA certificates, and serves GET, HEAD and any query from one copy", async () => {
    const issued = await issue(scene, "iss-cache", "cache-kept");
    for (const path of [ocsp(issued), CRL, "ca/iss-cache"]) {
      const first = await get(path);
      expect([path, first.status, first.hit]).toEqual([path, 200, false]);
      const [again, queried, head] = [await get(path), await get(`${path}?x=1`), await get(path, { method: "HEAD" })];
      for (const one of [again, queried, head]) {
        expect([path, one.status, one.hit, one.headers.get("ETag")]).toEqual([
          path,
          200,
          true,
          first.headers.get("ETag"),
        ]);
      }
      expect(again.body).toEqual(first.body);
      expect(Number(again.headers.get("Age"))).toBeGreaterThanOrEqual(0);
    }
  });

  it("keeps nothing that must not be kept: POST, nonces, errors", async () => {
    const issued = await issue(scene, "iss-cache", "cache-none");
    const certId = parseOcspResponse((await straight(ocsp(issued))).body).basic?.responses[0]?.certId.der;
    if (!certId) throw new Error("no CertID");
    const form = (nonce: boolean) =>
      buildOcspRequest([certId], nonce ? crypto.getRandomValues(new Uint8Array(16)) : null);
    const headers = { "Content-Type": "application/ocsp-request" };
    for (let i = 0; i < 2; i++) {
      const posted = await get("ocsp/iss-cache", { method: "POST", body: form(false), headers });
      expect([posted.status, posted.hit, statusIn(posted)]).toEqual([200, false, "good"]);
    }
    const nonced = `ocsp/iss-cache/${encodeURIComponent(Buffer.from(form(true)).toString("base64"))}`;
    const bad = [`${CRL}/7`, "crl/iss-nobody", "ca/iss-nobody", "ocsp/iss-cache/hello", "ocsp/iss-cache/MAMA"];
    for (const path of [nonced, ...bad]) {
      for (let i = 0; i < 2; i++) {
        const { hit, headers: got } = await get(path);
        expect([path, hit, got.get("X-Cache-Uncacheable")]).toEqual([path, false, "true"]);
      }
    }
  });

  it("answers 304 itself, by entity tag and by date", async () => {
    const issued = await issue(scene, "iss-cache", "cache-304");
    await eventually(async () => expect((await straight(CRL)).headers.get("Last-Modified")).not.toBeNull());
    await cache.purge(tagsOf(await straight(CRL))[0] ?? "");
    for (const path of [ocsp(issued), CRL]) {
      const { headers } = await get(path);
      const etag = headers.get("ETag") ?? "";
      const modified = headers.get("Last-Modified") ?? "";
      for (const condition of [{ "If-None-Match": etag }, { "If-Modified-Since": modified }]) {
        const response = await get(path, { headers: condition });
        expect([path, condition, response.status, response.hit, response.body.length]).toEqual([
          path,
          condition,
          304,
          true,
          0,
        ]);
      }
      const before = new Date(Date.parse(modified) - 1000).toUTCString();
      for (const condition of [{ "If-None-Match": '"other"' }, { "If-Modified-Since": before }])
        expect([path, (await get(path, { headers: condition })).status]).toEqual([path, 200]);
    }
  });

  it("keeps nothing longer than max-age allows, and never beyond nextUpdate", async () => {
    const issued = await issue(scene, "iss-cache", "cache-age");
    for (const [path, most] of [
      [ocsp(issued), 300],
      [CRL, 300],
      ["ca/iss-cache", 3_600],
    ] as const) {
      const got = await get(path);
      const left = Number(got.headers.get("X-Cache-TTL"));
      expect([path, left > 0 && left <= most]).toEqual([path, true]);
      if (most > 300) continue;
      const end =
        path === CRL ? parseCrl(got.body).nextUpdate : parseOcspResponse(got.body).basic?.responses[0]?.nextUpdate;
      expect(Date.now() + left * 1000).toBeLessThanOrEqual(end?.getTime() ?? 0);
      expect(Date.parse(got.headers.get("Expires") ?? "")).toBe(end?.getTime());
      expect(got.headers.get("Cache-Control")).toContain("must-revalidate");
    }
  });

  it("inv 4: shows a revocation when the copy has expired, without a purge; what has not changed is revalidated", async () => {
    const [kept, revoked] = [
      await issue(scene, "iss-cache", "cache-same"),
      await issue(scene, "iss-cache", "cache-over"),
    ];
    const fast = { headers: { "X-Minutes-Are-Seconds": "1" } };
    expect([statusIn(await get(ocsp(revoked), fast)), statusIn(await get(ocsp(kept), fast))]).toEqual(["good", "good"]);
    await get(CRL, fast);
    await revoke(scene, revoked, "superseded");
    await eventually(async () => expect(statusIn(await get(ocsp(revoked), fast))).toBe("revoked"));
    await eventually(async () => expect(serialsIn(await get(CRL, fast))).toContain(revoked.serial));
    expect(statusIn(await get(ocsp(kept), fast))).toBe("good");
    await eventually(async () => expect((await get(CRL, fast)).headers.get("X-Revalidated")).toBe("true"));
  });

  it("inv 4: forgets by tag exactly what a revocation made wrong", async () => {
    const [kept, revoked] = [
      await issue(scene, "iss-cache", "cache-left"),
      await issue(scene, "iss-cache", "cache-gone"),
    ];
    const [answer, other, list] = [await get(ocsp(revoked)), await get(ocsp(kept)), await get(CRL)];
    expect([statusIn(answer), statusIn(other)]).toEqual(["good", "good"]);
    await revoke(scene, revoked, "keyCompromise");
    await eventually(async () => expect(statusIn(await straight(ocsp(revoked)))).toBe("revoked"));
    await eventually(async () => expect(serialsIn(await straight(CRL))).toContain(revoked.serial));
    const [whole, own] = tagsOf(answer);
    expect([whole, own]).toEqual([expect.stringMatching(/^ledger-/), `ocsp-${whole?.slice(7)}-${revoked.serial}`]);
    // Only what is purged changes: test/api/edge.test.ts shows that a revocation purges these two tags.
    await cache.purge(own ?? "");
    expect(statusIn(await get(ocsp(revoked)))).toBe("revoked");
    expect((await get(ocsp(kept))).hit).toBe(true);
    expect((await get(CRL)).body).toEqual(list.body);
    expect(tagsOf(list)).toEqual([whole, `crl-${whole?.slice(7)}-0`]);
    await cache.purge(tagsOf(list)[1] ?? "");
    // Who comes back with the date of the earlier fetch gets the new list.
    const since = await get(CRL, { headers: { "If-Modified-Since": list.headers.get("Last-Modified") ?? "" } });
    expect([since.status, serialsIn(since).includes(revoked.serial)]).toEqual([200, true]);
    await cache.purge(whole ?? "");
    for (const path of [ocsp(kept), CRL, "ca/iss-cache"]) expect([path, (await get(path)).hit]).toEqual([path, false]);
  });
});
