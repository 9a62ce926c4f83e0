import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Bytes } from "../../src/pki/bytes.ts";
import { buildTrustStore } from "../../src/pki/pkcs12.ts";
import { isInstalled, type OpensslCa, opensslCa } from "../support/openssl.ts";

let ca: OpensslCa;
let chain: Bytes[];
beforeAll(() => {
  ca = opensslCa();
  chain = [ca.leafDer, ca.responderDer, ca.caDer];
});
afterAll(() => ca.files.remove());

/** The SHA-256 fingerprints of the certificates in PEM text. */
function fingerprints(text: string): string[] {
  const blocks = text.match(/-----BEGIN CERTIFICATE-----([^-]+)-----END/g) ?? [];
  return blocks.map((block) => fingerprint(Buffer.from(block.replace(/-----[A-Z ]+-----|-----END/g, ""), "base64")));
}

function fingerprint(der: Uint8Array): string {
  return createHash("sha256").update(der).digest("hex");
}

const PASSWORDS = ["changeit", "", "pass phrase with spaces", "pässwörd-Ω-漢", "x".repeat(200)];

describe("openssl pkcs12", () => {
  test.each(PASSWORDS)("shows every certificate, password %j", async (password) => {
    ca.files.write(
      "store.p12",
      await buildTrustStore(chain, password, { friendlyNames: ["leaf.example", "ocsp", "root"] }),
    );
    ca.files.write("password.txt", `${password}\n`);
    const ran = ca.files.run("pkcs12", "-in", "store.p12", "-passin", "file:password.txt", "-nokeys", "-info");
    expect(fingerprints(ran.text)).toEqual(chain.map(fingerprint));
    for (const name of ["leaf.example", "ocsp", "root"]) expect(ran.text).toContain(`friendlyName: ${name}`);
    expect(ran.text.match(/2\.16\.840\.1\.113894\.746875\.1\.1/g)).toHaveLength(3);
    expect(ran.stderr).toContain("MAC: sha256, Iteration 10000");
    expect(ran.stderr).toContain("PBES2, PBKDF2, AES-256-CBC, Iteration 10000, PRF hmacWithSHA256");
  });

  test("a wrong password and a changed octet are refused", async () => {
    const store = await buildTrustStore(chain, "right", { iterations: 100_000 });
    ca.files.write("store.p12", store);
    expect(ca.files.run("pkcs12", "-in", "store.p12", "-passin", "pass:right", "-nokeys").code).toBe(0);
    expect(ca.files.try("pkcs12", "-in", "store.p12", "-passin", "pass:wrong", "-nokeys").stderr).toContain(
      "invalid password",
    );
    const middle = store.length >> 1;
    store[middle] = (store[middle] as number) ^ 1;
    ca.files.write("store.p12", store);
    expect(ca.files.try("pkcs12", "-in", "store.p12", "-passin", "pass:right", "-nokeys").code).not.toBe(0);
  });
});

const keytool = isInstalled("keytool", "-help");
if (!keytool && process.env.CI !== "true") {
  console.warn("SKIPPED: keytool is not installed; that Java opens our PKCS#12 stores is not tested here.");
}

// Java itself opens PKCS#12 with ASCII passwords only.
describe.runIf(keytool || process.env.CI === "true")("keytool -list", () => {
  function list(password: string): string {
    const options = [
      "-list",
      "-v",
      "-storetype",
      "PKCS12",
      "-keystore",
      ca.files.file("store.p12"),
      "-storepass",
      password,
    ];
    return execFileSync("keytool", options, {
      encoding: "utf8",
      env: { ...process.env, LANG: "C.UTF-8", LC_ALL: "C.UTF-8" },
    });
  }

  test.each(["changeit", "pass phrase with spaces", "x".repeat(100)])(
    "shows every certificate as a trusted one, password %j",
    async (password) => {
      ca.files.write("store.p12", await buildTrustStore(chain, password, { friendlyNames: ["leaf.example"] }));
      const text = list(password);
      expect(text).toContain("Your keystore contains 3 entries");
      expect(text.match(/Entry type: trustedCertEntry/g)).toHaveLength(3);
      for (const alias of ["leaf.example", "certificate-2", "certificate-3"])
        expect(text).toContain(`Alias name: ${alias}`);
      for (const der of chain) {
        expect(text.replaceAll(":", "").toLowerCase()).toContain(fingerprint(der));
      }
    },
    60_000,
  );

  test("names that differ only in case, or not at all, hide no certificate", async () => {
    const friendlyNames = ["Same", "same", "SAME"];
    ca.files.write("store.p12", await buildTrustStore(chain, "changeit", { friendlyNames }));
    expect(list("changeit").match(/Entry type: trustedCertEntry/g)).toHaveLength(3);
  }, 60_000);
});

test("nothing to store, and rounds that Cloudflare does not run, are refused", async () => {
  await expect(buildTrustStore([], "x")).rejects.toThrow(RangeError);
  for (const iterations of [0, 1.5, 100_001]) {
    await expect(buildTrustStore(chain, "x", { iterations })).rejects.toThrow(RangeError);
  }
});
