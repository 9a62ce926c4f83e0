import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type RunningServer, startServer } from "../support/server.ts";
import { Api, bootstrap } from "./support/api.ts";
import { ocspBy, ocspVerdict, WAYS } from "./support/ocsp.ts";
import { createIssuer, fetchCa, type Issued, issue, revoke, type Scene, setScene } from "./support/scene.ts";
import { eventually, must, run, Scratch } from "./support/shell.ts";

const scratch = new Scratch();
const running: RunningServer[] = [];
const start = async (options?: Parameters<typeof startServer>[0]): Promise<RunningServer> => {
  const server = await startServer(options);
  running.push(server);
  return server;
};
afterAll(async () => {
  for (const server of running) await server.stop();
  scratch.remove();
});

describe("kill -9 and a start on the same state", () => {
  let server: RunningServer;
  let scene: Scene;
  let kept: Issued;
  let gone: Issued;
  let root: string;

  beforeAll(async () => {
    server = await start();
    scene = await setScene(await bootstrap(server.url, server.bootstrapToken), scratch);
    await createIssuer(scene, "iss-kept", { ca_common_name: "Kept Root", key_algorithm: "ECDSA-P256" });
    root = await fetchCa(scene, "iss-kept");
    kept = await issue(scene, "iss-kept", "kept");
    gone = await issue(scene, "iss-kept", "gone");
    await revoke(scene, gone, "superseded");
  });

  it("invariants 1, 2 and 4: same root, same statuses, another serial, and it issues on", async () => {
    const before = scratch.read("iss-kept.pem");
    await server.killParent();
    const again = await start({ stateDir: server.stateDir, port: server.port });
    expect(again.url).toBe(server.url);
    const survived: Scene = {
      ...scene,
      admin: new Api(again.url, scene.admin.key),
      agent: new Api(again.url, scene.agent.key),
    };
    expect(scratch.read((await fetchCa(survived, "iss-kept")).replace(`${scratch.path}/`, ""))).toBe(before);
    for (const way of WAYS) {
      expect(ocspVerdict(await ocspBy(way, again.url, "iss-kept", kept, scratch)).status, way).toBe("good");
      const verdict = ocspVerdict(await ocspBy(way, again.url, "iss-kept", gone, scratch));
      expect(verdict, way).toEqual({ verified: true, status: "revoked", reason: "superseded" });
    }
    const fresh = await issue(survived, "iss-kept", "fresh");
    expect([kept.serial, gone.serial]).not.toContain(fresh.serial);
    const { text } = await must("openssl", ["verify", "-CAfile", root, "-untrusted", fresh.chain, fresh.leaf]);
    expect(text).toContain(": OK");
    for (const issued of [kept, gone, fresh]) {
      const versions = await survived.admin.get(`/api/v1/certificates/${issued.certificateId}/versions`);
      expect(JSON.stringify(versions)).toContain(issued.serial);
    }
    await eventually(async () => {
      const { bytes } = await survived.admin.send("GET", "/.well-known/pki/crl/iss-kept");
      const crl = await must("openssl", ["crl", "-inform", "DER", "-noout", "-text"], { input: bytes });
      expect(crl.text.toLowerCase()).toContain(gone.serial);
    });
    // One shot: the restart did not open the bootstrap again.
    const second = await survived.admin.ask("POST", "/api/v1/auth/bootstrap", { token: "any", actor_name: "second" });
    expect(second.status).toBe(410);
  });

  it("inv 1 and 4: kill -9 of the runtime alone, and the same process answers again, with all it answered before", async () => {
    const server = await start();
    const scene = await setScene(await bootstrap(server.url, server.bootstrapToken), scratch);
    await createIssuer(scene, "iss-back", { ca_common_name: "Back Root", key_algorithm: "ECDSA-P256" });
    await fetchCa(scene, "iss-back");
    const before = scratch.read("iss-back.pem");
    const good = await issue(scene, "iss-back", "stays");
    const bad = await issue(scene, "iss-back", "goes");
    await revoke(scene, bad, "superseded");
    for (let death = 1; death <= 3; death++) {
      await server.killWorkerd();
      expect(server.log()).toContain(`starting it again in ${0.1 * 2 ** death} s (failure ${death} of 10 in a row)`);
      await fetchCa(scene, "iss-back");
      expect(scratch.read("iss-back.pem")).toBe(before);
      expect(ocspVerdict(await ocspBy("post", server.url, "iss-back", good, scratch)).status).toBe("good");
      expect(ocspVerdict(await ocspBy("post", server.url, "iss-back", bad, scratch)).status).toBe("revoked");
      await issue(scene, "iss-back", `fresh-${death}`);
    }
    expect(server.output()).toBe(`${server.readyLine}\n`);
  });

  it("inv 5: a new sealing key goes in front of the old one; without the old one it does not start and names it", async () => {
    const server = await start({ stateDir: scratch.file("rotated") });
    const scene = await setScene(await bootstrap(server.url, server.bootstrapToken), scratch);
    await createIssuer(scene, "iss-rotated", { ca_common_name: "Rotated Root", key_algorithm: "ECDSA-P256" });
    await server.stop();
    const secrets = scratch.read("rotated/.dev.vars");
    const old = /^CERTCTL_SEALING_KEYS=(.+)$/m.exec(secrets)?.[1] ?? "";
    const name = old.split(":")[0] ?? "";
    const fresh = `k-next:${randomBytes(32).toString("base64")}`;
    const withKeys = (keys: string) => scratch.write("rotated/.dev.vars", secrets.replace(old, keys));

    withKeys(`${fresh},${old}`);
    const both = await start({ stateDir: server.stateDir });
    const after: Scene = {
      ...scene,
      admin: new Api(both.url, scene.admin.key),
      agent: new Api(both.url, scene.agent.key),
    };
    const issued = await issue(after, "iss-rotated", "rotated");
    expect(ocspVerdict(await ocspBy("post", both.url, "iss-rotated", issued, scratch)).status).toBe("good");
    await createIssuer(after, "iss-sealed-anew", { ca_common_name: "Another", key_algorithm: "Ed25519" });
    await both.stop();

    withKeys(fresh);
    await expect(start({ stateDir: server.stateDir })).rejects.toThrow(new RegExp(`sealing key ${name} is missing`));
    withKeys(`k-other:${randomBytes(32).toString("base64")}`);
    await expect(start({ stateDir: server.stateDir })).rejects.toThrow(/k-next.*missing|missing.*k-next/);
  });

  it("a second start on a state in use refuses and names the holder", async () => {
    const server = await start();
    const second = await run("npm", ["start"], {
      cwd: new URL("../..", import.meta.url).pathname,
      env: { STATE_DIR: server.stateDir, PORT: "0" },
    });
    expect(second.code).not.toBe(0);
    expect(second.text).toMatch(/in use by .*process \d+/);
    expect(second.text).toContain(server.url);
    expect((await new Api(server.url).ask("GET", "/health")).status).toBe(200);
  });

  it("two servers side by side, each with its own state, know nothing of each other", async () => {
    const [one, two] = await Promise.all([start(), start()]);
    expect(one.url).not.toBe(two.url);
    const admin = await bootstrap(one.url, one.bootstrapToken);
    expect((await admin.ask("GET", "/api/v1/teams")).status).toBe(200);
    expect((await new Api(two.url, admin.key).ask("GET", "/api/v1/teams")).status).toBe(401);
    await bootstrap(two.url, two.bootstrapToken);
  });
});
