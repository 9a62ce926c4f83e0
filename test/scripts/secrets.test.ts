import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { checkSealingKeys, readSecrets, writeFirstSecrets } from "../../scripts/local/secrets.ts";
import { localSettings, placesOf } from "../../scripts/local/settings.ts";
import { checkValue } from "../../src/platform/sealing.ts";
import { parseSealingKeys } from "../../src/platform/settings.ts";

const K1 = `k1:${Buffer.alloc(32, 1).toString("base64")}`;
const K2 = `k2:${Buffer.alloc(32, 2).toString("base64")}`;

let directory: string;
let file: string;

beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), "certctl-edge-secrets-"));
  file = path.join(directory, "state/.dev.vars");
});

afterEach(() => rmSync(directory, { recursive: true, force: true }));

async function rowOf(key: string) {
  const [parsed] = parseSealingKeys(key);
  if (!parsed) throw new Error("no key");
  return { id: parsed.id, check_value: await checkValue(parsed) };
}

describe("first secrets", () => {
  test("are made where there is nothing, for the owner alone, and differ each time", () => {
    expect(writeFirstSecrets(file, {}, false)).toBe(true);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    const made = readSecrets(file);
    expect(Buffer.from(made.CERTCTL_BOOTSTRAP_TOKEN ?? "", "base64url")).toHaveLength(32);
    expect(parseSealingKeys(made.CERTCTL_SEALING_KEYS ?? "")).toMatchObject([{ id: "k1" }]);
    const other = path.join(directory, "other/.dev.vars");
    writeFirstSecrets(other, {}, false);
    expect(readSecrets(other).CERTCTL_SEALING_KEYS).not.toBe(made.CERTCTL_SEALING_KEYS);
  });

  test("are never made beside a state, nor over what is there", () => {
    expect(writeFirstSecrets(file, {}, true)).toBe(false);
    expect(existsSync(file)).toBe(false);
    writeFirstSecrets(file, {}, false);
    const before = readFileSync(file, "utf8");
    expect(writeFirstSecrets(file, {}, false)).toBe(false);
    expect(readFileSync(file, "utf8")).toBe(before);
  });

  test("leave out what the environment gives, and fill a copied example", () => {
    writeFirstSecrets(file, { CERTCTL_SEALING_KEYS: K1 }, false);
    expect(Object.keys(readSecrets(file))).toEqual(["CERTCTL_BOOTSTRAP_TOKEN"]);
    writeFileSync(file, "# mine\nCERTCTL_SEALING_KEYS=\nPORT=9\nCERTCTL_BOOTSTRAP_TOKEN=chosen\n");
    expect(writeFirstSecrets(file, {}, false)).toBe(true);
    expect(readSecrets(file)).toMatchObject({ PORT: "9", CERTCTL_BOOTSTRAP_TOKEN: "chosen" });
    expect(readSecrets(file).CERTCTL_SEALING_KEYS).toMatch(/^k1:/);
    expect(readFileSync(file, "utf8")).toMatch(/^# mine\n/);
  });
});

describe("sealing keys against what they sealed", () => {
  test("every key on record must be configured: a missing one is named, with where it belongs", async () => {
    await expect(checkSealingKeys(K2, [await rowOf(K1)], file)).rejects.toThrow(
      /sealing key k1 is missing.*restore it in/,
    );
    await expect(checkSealingKeys(K2, [await rowOf(K1)], file)).rejects.toThrow(file);
    await expect(checkSealingKeys(`${K2},${K1}`, [await rowOf(K1)], file)).resolves.toBeUndefined();
  });

  test("another key under the same id is told apart", async () => {
    const other = `k1:${Buffer.alloc(32, 9).toString("base64")}`;
    await expect(checkSealingKeys(other, [await rowOf(K1)], file)).rejects.toThrow(/sealing key k1 is not the one/);
  });

  test("no key at all is refused", async () => {
    await expect(checkSealingKeys("", [await rowOf(K1)], file)).rejects.toThrow(/sealing key k1 is missing/);
    await expect(checkSealingKeys("", [], file)).rejects.toThrow(/no sealing key is configured/);
  });
});

describe("settings", () => {
  test("only the .dev.vars of the state in use is named", () => {
    expect(placesOf({}, "/project").secretsFile).toBe("/project/.dev.vars");
    expect(placesOf({ STATE_DIR: ".state" }, "/project").secretsFile).toBe("/project/.dev.vars");
    expect(placesOf({ STATE_DIR: "/elsewhere" }, "/project")).toEqual({
      stateDir: "/elsewhere",
      secretsFile: "/elsewhere/.dev.vars",
      persistDir: "/elsewhere/v3",
    });
  });

  test("the environment overrides .dev.vars, which overrides wrangler.toml; foreign variables stay out", () => {
    const { port, vars } = localSettings(
      { CERTCTL_VERSION: "1", CERTCTL_COMMIT: "toml" },
      { PORT: "1234", OWN: "file", CERTCTL_COMMIT: "file" },
      { PORT: "0", OWN: "env", CERTCTL_PUBLIC_URL: "http://pki.test", HOME: "/root" },
    );
    expect(port).toBe(0);
    expect(vars).toEqual({
      CERTCTL_VERSION: "1",
      CERTCTL_COMMIT: "file",
      PORT: "0",
      OWN: "env",
      CERTCTL_PUBLIC_URL: "http://pki.test",
      // Whatever else is set: on this machine nothing that Cloudflare would say is true.
      CERTCTL_LOCAL: "loopback",
    });
  });

  test.each([
    [{ PORT: "http" }, /PORT must be/],
    [{ PORT: "65536" }, /PORT must be/],
    [{ CERTCTL_SEALING_KEYS: "k1:short" }, /CERTCTL_SEALING_KEYS must be/],
    [{ OUTBOUND_ALLOW: "everything" }, /OUTBOUND_ALLOW/],
  ])("%j is refused by name", (env, message) => {
    expect(() => localSettings({}, {}, env)).toThrow(message);
  });

  test("HOST: both loopback addresses unless set", () => {
    const hosts = (HOST?: string) => localSettings({}, {}, { HOST }).hosts.map(({ address }) => address);
    expect(hosts()).toEqual(["127.0.0.1", "::1"]);
    expect(hosts("localhost")).toEqual(["127.0.0.1", "::1"]);
    expect(hosts("0.0.0.0")).toEqual(["0.0.0.0"]);
    expect(hosts("[::1], 10.0.0.1")).toEqual(["::1", "10.0.0.1"]);
  });
});
