import { describe, expect, it } from "vitest";
import { toHex } from "../../src/pki/bytes.ts";
import { hasTag, randomSerial, SerialFilter, taggedSerial } from "../../src/pki/certificate.ts";

const random = (octets: number) => crypto.getRandomValues(new Uint8Array(octets));
const key = random(32);

describe("serials with a tag", () => {
  it("have 17 octets, the first 01 to 7f, whatever the random source says", () => {
    for (let octet = 0; octet < 256; octet++) {
      const serial = taggedSerial((n) => new Uint8Array(n).fill(octet), key);
      expect(serial).toHaveLength(17);
      expect(serial[0]).toBeGreaterThan(0);
      expect(serial[0]).toBeLessThan(0x80);
    }
  });

  it("are told from random ones, from those of another CA and from changed ones by the key alone", () => {
    for (let i = 0; i < 500; i++) {
      const serial = taggedSerial(random, key);
      expect(hasTag(toHex(serial), key)).toBe(true);
      expect(hasTag(toHex(serial), random(32))).toBe(false);
      expect(hasTag(toHex(randomSerial(random)), key)).toBe(false);
      const at = i % 17;
      serial[at] = (serial[at] as number) ^ 1;
      expect(hasTag(toHex(serial), key)).toBe(false);
    }
  });

  it("take no serial of another length for one of theirs", () => {
    const serial = toHex(taggedSerial(random, key));
    for (const other of ["", "00", serial.slice(2), `00${serial}`, serial.slice(0, -2)])
      expect(hasTag(other, key)).toBe(false);
  });
});

describe("the filter of serials without a tag", () => {
  it("holds every serial that was added and fewer than one in 300 of the others", () => {
    const filter = SerialFilter.withCapacity(key, 10_000);
    const added = Array.from({ length: 10_000 }, (_, i) => (i + 1).toString(16).padStart(8, "0"));
    for (const serial of added) filter.add(serial);
    const there = new SerialFilter(key, filter.bits);
    expect(added.every((serial) => there.has(serial))).toBe(true);
    const strangers = Array.from({ length: 30_000 }, () => toHex(randomSerial(random)));
    expect(strangers.filter((serial) => there.has(serial)).length).toBeLessThan(100);
  });

  it("answers differently under another key", () => {
    const filter = SerialFilter.withCapacity(key, 100);
    filter.add("0a");
    expect(filter.has("0a")).toBe(true);
    expect(new SerialFilter(random(32), filter.bits).has("0a")).toBe(false);
  });

  it("has at least the room that was asked for", () => {
    for (const capacity of [0, 1, 7, 100, 4096, 5000]) {
      expect(SerialFilter.withCapacity(key, capacity).capacity).toBeGreaterThanOrEqual(capacity);
    }
  });
});
