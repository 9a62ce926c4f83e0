import { describe, expect, test } from "vitest";
import { generalizedTime, time } from "../../src/pki/der.ts";
import { timeLength, writeGeneralizedTime, writeTime } from "../../src/pki/times.ts";

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

describe("times are written as RFC 5280 section 4.1.2.5 says", () => {
  test("as the Date of the platform writes them", () => {
    for (const at of instants()) {
      const date = new Date(at);
      if (date.getUTCFullYear() > 9999) continue;
      const general = new Uint8Array(17);
      expect(writeGeneralizedTime(general, 0, at)).toBe(17);
      expect(general).toEqual(generalizedTime(date));
      const either = new Uint8Array(timeLength(at));
      expect(writeTime(either, 0, at)).toBe(either.length);
      expect(either).toEqual(time(date));
    }
  });

  test("outside the years 0 to 9999 there is no form", () => {
    const out = new Uint8Array(17);
    expect(() => writeGeneralizedTime(out, 0, Date.UTC(10_000, 0, 1))).toThrow(RangeError);
    expect(() => writeTime(out, 0, -1e15)).toThrow(RangeError);
    expect(() => writeTime(out, 0, Number.NaN)).toThrow(RangeError);
  });
});
