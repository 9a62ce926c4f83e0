import { describe, expect, test } from "vitest";
import { ascii } from "../../src/pki/bytes.ts";
import { generalizedTime, TAG, time, tlv } from "../../src/pki/der.ts";
import { DerError } from "../../src/pki/errors.ts";
import { readTime, timeLength, writeGeneralizedTime, writeTime } from "../../src/pki/times.ts";

/** Instants around everything that calendars do, and a spread of others. */
function* instants(): Generator<number> {
  for (const year of [0, 1, 1899, 1949, 1950, 1969, 1970, 1999, 2000, 2024, 2026, 2049, 2050, 2100, 2400, 9999]) {
    for (const [month, day] of [
      [0, 1],
      [1, 28],
      [1, 29],
      [2, 1],
      [11, 31],
    ] as const) {
      const date = new Date(0);
      date.setUTCFullYear(year, month, day);
      yield date.getTime();
      yield date.getTime() + 86_399_999;
    }
  }
  for (let at = Date.UTC(1951, 0, 1); at < Date.UTC(2120, 0, 1); at += 86_400_000 * 17.377) yield Math.floor(at);
}

/** YYYYMMDDHHMMSSZ. */
function digits(date: Date): string {
  return `${date.toISOString().slice(0, 19).replace(/[-T:]/g, "")}Z`;
}

describe("times are written and read as RFC 5280 section 4.1.2.5 says", () => {
  test("as the Date of the platform writes them", () => {
    for (const at of instants()) {
      const date = new Date(at);
      const year = date.getUTCFullYear();
      if (year > 9999) continue;
      const wanted = tlv(TAG.GENERALIZED_TIME, ascii(digits(date)));
      const general = new Uint8Array(17);
      expect(writeGeneralizedTime(general, 0, at)).toBe(17);
      expect(general).toEqual(wanted);
      expect(generalizedTime(date)).toEqual(wanted);
      const either = new Uint8Array(timeLength(at));
      expect(writeTime(either, 0, at)).toBe(either.length);
      expect(either).toEqual(year >= 1950 && year < 2050 ? tlv(TAG.UTC_TIME, ascii(digits(date).slice(2))) : wanted);
      expect(time(date)).toEqual(either);
      const second = Math.floor(at / 1000) * 1000;
      expect(readTime(general, TAG.GENERALIZED_TIME, 2, 17)).toBe(second);
      expect(readTime(either, either[0] ?? 0, 2, either.length)).toBe(second);
    }
  });

  test("every day that a calendar could have is read where Date has it, and only there", () => {
    for (const year of [0, 1900, 1949, 1950, 2000, 2023, 2024, 2100]) {
      for (let month = 0; month <= 13; month++) {
        for (let day = 0; day <= 32; day++) {
          const two = (value: number): string => String(value).padStart(2, "0");
          const text = `${String(year).padStart(4, "0")}${two(month)}${two(day)}235959Z`;
          const date = new Date(`${text.slice(0, 4)}-${two(month)}-${two(day)}T23:59:59Z`);
          const exists = !Number.isNaN(date.getTime()) && digits(date) === text;
          const read = (): number => readTime(ascii(text), TAG.GENERALIZED_TIME, 0, 15);
          if (exists) expect(read(), text).toBe(date.getTime());
          else expect(read, text).toThrow(DerError);
        }
      }
    }
  });

  test("outside the years 0 to 9999 there is no form", () => {
    const out = new Uint8Array(17);
    expect(() => writeGeneralizedTime(out, 0, Date.UTC(10_000, 0, 1))).toThrow(RangeError);
    expect(() => writeTime(out, 0, -1e15)).toThrow(RangeError);
    expect(() => writeTime(out, 0, Number.NaN)).toThrow(RangeError);
  });
});
