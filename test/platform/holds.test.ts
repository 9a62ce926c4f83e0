import { expect, it } from "vitest";
import { toBase64, toHex } from "../../src/pki/bytes.ts";
import { holds } from "../support/holds.ts";

it("a secret is found in octets and in text, wherever it begins", () => {
  const secret = new Uint8Array(32).map((_, i) => (i * 37 + 200) & 255);
  for (let before = 0; before < 7; before++) {
    const around = new Uint8Array(before + 32 + 5).fill(7);
    around.set(secret, before);
    const pem = toBase64(around).replaceAll(/.{16}/g, "$&\n");
    const url = toBase64(around).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
    for (const text of [toHex(around), toHex(around).toUpperCase(), pem, url])
      for (const value of [text, [{ deep: new Map([["x", text]]) }], new TextEncoder().encode(text)])
        expect([before, text, holds(value, secret)]).toEqual([before, text, true]);
    expect(holds({ a: [around, around.buffer] }, secret)).toBe(true);
    around[before + 9] = 0;
    expect(holds([around, toBase64(around), toHex(around)], secret)).toBe(false);
  }
});
