import { describe, expect, it } from "vitest";
import { checkValue, makeSealer } from "../../src/platform/sealing.ts";
import { parseSealingKeys, parseSettings } from "../../src/platform/settings.ts";
import { sha256Hex, utf8 } from "../../src/platform/text.ts";

const key = (fill: number) => Buffer.alloc(32, fill).toString("base64");
const secret = utf8("a private key");

describe("inv 5: sealing", () => {
  it("opens what it sealed, for the same purpose only", async () => {
    const sealer = makeSealer(parseSealingKeys(`k1:${key(1)}`));
    const envelope = await sealer.seal(secret, "ledger-1|ca");
    expect(envelope).toMatch(/^v1\.k1\./);
    expect(envelope).not.toContain(Buffer.from(secret).toString("base64url"));
    expect(await sealer.open(envelope, "ledger-1|ca")).toEqual(secret);
    await expect(sealer.open(envelope, "ledger-2|ca")).rejects.toThrow(/does not open/);
  });

  it("seals two times differently, and notices each changed character", async () => {
    const sealer = makeSealer(parseSealingKeys(`k1:${key(1)}`));
    const envelope = await sealer.seal(secret, "p");
    expect(await sealer.seal(secret, "p")).not.toBe(envelope);
    for (const [part, index] of [
      ["iv", 2],
      ["ciphertext", 3],
    ] as const) {
      const parts = envelope.split(".");
      const text = parts[index] ?? "";
      parts[index] = (text[0] === "A" ? "B" : "A") + text.slice(1);
      await expect(sealer.open(parts.join("."), "p"), part).rejects.toThrow(/does not open/);
    }
  });

  it("a keyed digest is known for its purpose alone, under every configured key, and by nobody without one", async () => {
    const sealer = makeSealer(parseSealingKeys(`k1:${key(1)}`));
    const mac = await sealer.mac(secret, "p");
    expect(mac).toMatch(/^k1\.[A-Za-z0-9_-]{43}$/);
    expect(await sealer.isMac(mac, secret, "p")).toBe(true);
    const both = makeSealer(parseSealingKeys(`k2:${key(2)},k1:${key(1)}`));
    expect(await both.isMac(mac, secret, "p")).toBe(true);
    expect(await both.mac(secret, "p")).toMatch(/^k2\./);
    expect(await sealer.isMac(mac, secret, "q")).toBe(false);
    expect(await sealer.isMac(mac, utf8("another"), "p")).toBe(false);
    for (const other of ["", "k1.", `${mac}x`, `${mac}.x`, await sha256Hex("a private key")])
      expect(await sealer.isMac(other, secret, "p")).toBe(false);
    expect(await makeSealer(parseSealingKeys(`k1:${key(3)}`)).isMac(mac, secret, "p")).toBe(false);
    await expect(makeSealer(parseSealingKeys(`k2:${key(2)}`)).isMac(mac, secret, "p")).rejects.toThrow(/"k1"/);
    await expect(makeSealer([]).mac(secret, "p")).rejects.toThrow(/CERTCTL_SEALING_KEYS is not set/);
  });

  it("rotates: the first key seals, all configured keys open, a missing one is named", async () => {
    const old = await makeSealer(parseSealingKeys(`k1:${key(1)}`)).seal(secret, "p");
    const both = makeSealer(parseSealingKeys(`k2:${key(2)},k1:${key(1)}`));
    expect(await both.open(old, "p")).toEqual(secret);
    expect(await both.seal(secret, "p")).toMatch(/^v1\.k2\./);
    await expect(makeSealer(parseSealingKeys(`k2:${key(2)}`)).open(old, "p")).rejects.toThrow(/"k1"/);
    await expect(makeSealer(parseSealingKeys(`k1:${key(3)}`)).open(old, "p")).rejects.toThrow(/does not open/);
    await expect(makeSealer([]).seal(secret, "p")).rejects.toThrow(/not set/);
  });

  it("tells two keys of one id apart by their check value", async () => {
    const [a] = parseSealingKeys(`k1:${key(1)}`);
    const [b] = parseSealingKeys(`k1:${key(2)}`);
    if (!a || !b) throw new Error("no key");
    expect(await checkValue(a)).toMatch(/^[0-9a-f]{32}$/);
    expect(await checkValue(a)).not.toBe(await checkValue(b));
  });
});

describe("settings", () => {
  it.each([
    [{ CERTCTL_SEALING_KEYS: "k1:short" }, /CERTCTL_SEALING_KEYS/],
    [{ CERTCTL_SEALING_KEYS: `k1:${key(1)},k1:${key(2)}` }, /twice/],
    [{ CERTCTL_PUBLIC_URL: "ftp://x" }, /CERTCTL_PUBLIC_URL/],
    [{ CERTCTL_PUBLIC_URL: "https://a:b@x" }, /CERTCTL_PUBLIC_URL/],
    [{ OUTBOUND_ALLOW: "10.0.0.0/99" }, /OUTBOUND_ALLOW/],
  ])("names what is wrong in %j", (env, message) => {
    expect(() => parseSettings(env)).toThrow(message);
  });

  it("takes the trailing slash off the public URL", () => {
    expect(parseSettings({ CERTCTL_PUBLIC_URL: "https://pki.example/base/" }).publicUrl).toBe(
      "https://pki.example/base",
    );
  });
});
