import { describe, expect, it } from "vitest";
import { type Bytes, equal, fromBase64, fromHex, toBase64, toHex } from "../../src/pki/bytes.ts";
import * as der from "../../src/pki/der.ts";

const hex = (text: string): Bytes => fromHex(text.replaceAll(" ", ""));

describe("octet helpers", () => {
  it("converts hex and base64 both ways and refuses other text", () => {
    const all = new Uint8Array(256).map((_, i) => i);
    expect(toHex(fromHex(toHex(all)))).toBe(Buffer.from(all).toString("hex"));
    for (let n = 0; n < 70; n++) {
      const part = all.slice(0, n);
      const text = Buffer.from(part).toString("base64");
      expect(toBase64(part)).toBe(text);
      expect(equal(fromBase64(text), part)).toBe(true);
      expect(equal(fromBase64(text.replaceAll("=", "")), part)).toBe(true);
    }
    for (const bad of ["A", "AB=", "A===", "AB==CD==", "AA=A", "A A=", "A-_=", "AB", "====", "=", "é==="]) {
      expect(() => fromBase64(bad), bad).toThrow(expect.objectContaining({ code: "invalid_encoding" }));
    }
    for (const bad of ["0", "0g", "zz", " 0", "0x"]) expect(() => fromHex(bad), bad).toThrow();
  });
});

describe("DER writing", () => {
  it("writes the golden octets of X.690", () => {
    expect(toHex(der.integer(0))).toBe("020100");
    expect(toHex(der.integer(127))).toBe("02017f");
    expect(toHex(der.integer(128))).toBe("02020080");
    expect(toHex(der.integer(2 ** 40))).toBe("0206010000000000");
    expect(toHex(der.integer(hex("0000ff")))).toBe("020200ff");
    expect(toHex(der.integer(new Uint8Array(0)))).toBe("020100");
    expect(toHex(der.oid("1.2.840.113549"))).toBe("06062a864886f70d");
    expect(toHex(der.oid("2.999.3"))).toBe("0603883703");
    expect(toHex(der.namedBits([0]))).toBe("03020780");
    expect(toHex(der.namedBits([5, 6]))).toBe("03020106");
    expect(toHex(der.namedBits([8]))).toBe("0303070080");
    expect(toHex(der.namedBits([]))).toBe("030100");
    expect(toHex(der.set(hex("0401ff"), hex("0201 05")))).toBe("31060201050401ff");
    expect(toHex(der.time(new Date("2049-12-31T23:59:59.999Z")))).toBe(
      `170d${Buffer.from("491231235959Z").toString("hex")}`,
    );
    expect(toHex(der.time(new Date("2050-01-01T00:00:00Z")))).toBe(
      `180f${Buffer.from("20500101000000Z").toString("hex")}`,
    );
    expect(toHex(der.context(3, true, der.boolean(true)))).toBe("a3030101ff");
    expect(toHex(der.octetString(new Uint8Array(200)).subarray(0, 3))).toBe("0481c8");
    expect(toHex(der.octetString(new Uint8Array(0x1234)).subarray(0, 4))).toBe("04821234");
    expect(toHex(der.octetString(new Uint8Array(0x12345)).subarray(0, 5))).toBe("0483012345");
  });

  it("reads back what it writes", () => {
    for (const value of [0, 1, 127, 128, 255, 256, 65_535, 2 ** 31, 2 ** 47 - 1]) {
      expect(der.smallInteger(der.decode(der.integer(value)))).toBe(value);
    }
    for (const text of ["0.0", "1.39", "2.0", "2.5.29.17", "1.2.840.113549.1.1.11", `2.25.${2n ** 127n}`, "2.999.1"]) {
      expect(der.oidOf(der.decode(der.oid(text)))).toBe(text);
    }
    for (const text of ["1950-01-01T00:00:00.000Z", "1949-12-31T23:59:59.000Z", "2050-06-01T12:00:00.000Z"]) {
      expect(der.timeOf(der.decode(der.time(new Date(text)))).toISOString()).toBe(text);
    }
    expect(() => der.oid("1.40")).toThrow(RangeError);
    expect(() => der.oid("3.1")).toThrow(RangeError);
    expect(() => der.oid("1.02")).toThrow(RangeError);
  });
});

describe("DER reading", () => {
  it.each([
    ["empty input", ""],
    ["a tag alone", "30"],
    ["truncated content", "3003020101 04".slice(0, 8)],
    ["truncated length", "3082"],
    ["indefinite length", "3080 020101 0000"],
    ["non-minimal length, short value", "308103 020101"],
    ["non-minimal length, leading zero", `30820080${"00".repeat(128)}`],
    ["five length octets", "30850000000003020101"],
    ["reserved length octet ff", "30ff"],
    ["trailing garbage", "020101 00"],
    ["trailing garbage inside", "3004 020101 00"],
    ["non-minimal INTEGER 0001", "02020001"],
    ["non-minimal INTEGER ff80", "0202ff80"],
    ["INTEGER without content", "0200"],
    ["BOOLEAN 01", "010101"],
    ["BOOLEAN of two octets", "0102ffff"],
    ["NULL with content", "050100"],
    ["OID without content", "0600"],
    ["OID with a padded arc", "06032a8001"],
    ["OID cut inside an arc", "06022a86"],
    ["BIT STRING without content", "0300"],
    ["BIT STRING with 8 unused", "03020800"],
    ["BIT STRING empty with unused", "030101"],
    ["BIT STRING with unused bits set", "03020101"],
    ["UTCTime without seconds", `170b${Buffer.from("2601010000Z").toString("hex")}`],
    ["UTCTime with an offset", `1711${Buffer.from("260101000000+0100").toString("hex")}`],
    ["GeneralizedTime with a fraction", `1811${Buffer.from("20260101000000.5Z").toString("hex")}`],
    ["constructed OCTET STRING", "2403 040100"],
    ["primitive SEQUENCE", "1000"],
    ["high tag number", "1f2000"],
    ["end-of-contents", "0000"],
  ])("refuses %s", (_, text) => {
    expect(() => der.decode(hex(text))).toThrow(der.DerError);
  });

  it("refuses times that do not exist", () => {
    for (const text of [
      "260230000000Z",
      "261301000000Z",
      "260101240000Z",
      "260101006000Z",
      "260101000060Z",
      "260001000000Z",
    ]) {
      const bytes = hex(`170d${Buffer.from(text).toString("hex")}`);
      expect(() => der.timeOf(der.decode(bytes)), text).toThrow(der.DerError);
    }
  });

  it("bounds depth and size", () => {
    const nest = (depth: number): Bytes => {
      let bytes = der.integer(1);
      for (let i = 0; i < depth; i++) bytes = der.sequence(bytes);
      return bytes;
    };
    expect(der.decode(nest(32)).tag).toBe(0x30);
    expect(() => der.decode(nest(33))).toThrow("nested too deeply");
    expect(() => der.decode(nest(20_000), { maxBytes: 1e6 })).toThrow(der.DerError);
    expect(() => der.decode(new Uint8Array(10_000_000))).toThrow("longer than 65536 octets");
    const wide = der.sequence(new Uint8Array(2_000_000).map((_, i) => (i % 2 === 0 ? 5 : 0)));
    expect(der.children(der.decode(wide, { maxBytes: 1e7 }))).toHaveLength(1_000_000);
  });

  it("gives elements whose octets are the input's", () => {
    const bytes = der.sequence(
      der.integer(5),
      der.sequence(der.oid("1.2.3"), der.NULL),
      der.context(0, false, hex("ff")),
    );
    const reader = new der.Reader(der.decode(bytes));
    expect(der.smallInteger(reader.next(der.TAG.INTEGER))).toBe(5);
    expect(reader.optional(der.TAG.BOOLEAN)).toBeNull();
    const inner = reader.next(der.TAG.SEQUENCE);
    expect(der.children(inner).map((element) => element.tag)).toEqual([0x06, 0x05]);
    expect(inner.bytes.buffer).toBe(bytes.buffer);
    expect(() => reader.end()).toThrow("an element too many");
    expect(() => reader.next(der.TAG.NULL)).toThrow("expected tag 0x5, found 0x80");
    expect(toHex(reader.next().content)).toBe("ff");
    expect(reader.more).toBe(false);
    expect(() => reader.next()).toThrow("an element is missing");
  });

  it("reads every string type or says why not", () => {
    const read = (text: string): string => der.stringOf(der.decode(hex(text)));
    expect(read("0c03e282ac")).toBe("€");
    expect(read("0c04efbbbf41")).toBe("\ufeffA");
    expect(read("1e0220ac")).toBe("€");
    expect(read("1c040001f600")).toBe("😀");
    expect(read("1401e9")).toBe("é");
    expect(read("130141")).toBe("A");
    for (const bad of ["0c01ff", "0c02c080", "1301e9", "1e0120", "1e02d800", "1c0400110000", "020101"]) {
      expect(() => read(bad), bad).toThrow(der.DerError);
    }
  });
});
