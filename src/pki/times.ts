import { TAG } from "./der-tags.ts";
import { DerError } from "./errors.ts";

/**
 * The two ASN.1 times in the form of RFC 5280 section 4.1.2.5 (UTC, seconds, no fraction), written to and read from a
 * buffer as Unix milliseconds without a `Date`: every revoked certificate and every OCSP answer has one.
 */

const DAY = 86_400;
/** Days from 0000-03-01 to 1970-01-01, and in 400 years. Years start in March, so that a leap day is the last day. */
const EPOCH = 719_468;
const ERA = 146_097;

function two(out: Uint8Array, at: number, value: number): void {
  const tens = (value / 10) | 0;
  out[at] = 0x30 + tens;
  out[at + 1] = 0x30 + value - 10 * tens;
}

/** Returns an instant's year and writes the rest ("MMDDHHMMSSZ", 11 octets) at `at`. */
function writeAfterYear(out: Uint8Array, at: number, milliseconds: number): number {
  const seconds = Math.floor(milliseconds / 1000);
  const days = Math.floor(seconds / DAY);
  const rest = seconds - days * DAY;
  const shifted = days + EPOCH;
  const era = Math.floor(shifted / ERA);
  const dayOfEra = shifted - era * ERA;
  const leaps = ((dayOfEra / 1_460) | 0) - ((dayOfEra / 36_524) | 0) + ((dayOfEra / 146_096) | 0);
  const yearOfEra = ((dayOfEra - leaps) / 365) | 0;
  const dayOfYear = dayOfEra - (365 * yearOfEra + (yearOfEra >> 2) - ((yearOfEra / 100) | 0));
  const shiftedMonth = ((5 * dayOfYear + 2) / 153) | 0;
  const month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9;
  two(out, at, month);
  two(out, at + 2, dayOfYear - (((153 * shiftedMonth + 2) / 5) | 0) + 1);
  const hour = (rest / 3_600) | 0;
  const minute = ((rest - hour * 3_600) / 60) | 0;
  two(out, at + 4, hour);
  two(out, at + 6, minute);
  two(out, at + 8, rest - hour * 3_600 - minute * 60);
  out[at + 10] = 0x5a;
  return yearOfEra + era * 400 + (month <= 2 ? 1 : 0);
}

/** Octets that `writeGeneralizedTime` writes. */
export const GENERALIZED_TIME_LENGTH = 17;

/**
 * Writes the GeneralizedTime (tag, length, YYYYMMDDHHMMSSZ) of Unix milliseconds at `at`; fractions of a second are
 * dropped. Returns the offset of the next element. Throws RangeError outside the years 0 to 9999. RFC 5280 section
 * 4.1.2.5.2.
 */
export function writeGeneralizedTime(out: Uint8Array, at: number, milliseconds: number): number {
  const year = writeAfterYear(out, at + 6, milliseconds);
  if (!(year >= 0 && year <= 9_999)) throw new RangeError("time outside the years 0 to 9999");
  out[at] = TAG.GENERALIZED_TIME;
  out[at + 1] = 15;
  const century = (year / 100) | 0;
  two(out, at + 2, century);
  two(out, at + 4, year - 100 * century);
  return at + GENERALIZED_TIME_LENGTH;
}

/** Unix milliseconds from which RFC 5280 requires UTCTime (1950), and GeneralizedTime (2050). */
const UTC_TIME_FROM = Date.UTC(1950, 0, 1);
const UTC_TIME_TO = Date.UTC(2050, 0, 1);

/** Octets that `writeTime` writes: 15 for UTCTime, 17 for GeneralizedTime. */
export function timeLength(milliseconds: number): number {
  return milliseconds >= UTC_TIME_FROM && milliseconds < UTC_TIME_TO ? 15 : GENERALIZED_TIME_LENGTH;
}

/** Writes a Time of RFC 5280 section 4.1.2.5: UTCTime from 1950 to 2049, else GeneralizedTime. Otherwise as above. */
export function writeTime(out: Uint8Array, at: number, milliseconds: number): number {
  if (timeLength(milliseconds) === GENERALIZED_TIME_LENGTH) return writeGeneralizedTime(out, at, milliseconds);
  const year = writeAfterYear(out, at + 4, milliseconds);
  out[at] = TAG.UTC_TIME;
  out[at + 1] = 13;
  two(out, at + 2, year % 100);
  return at + 15;
}

/** The number of two digits; -1 if either is not a digit. */
function twoDigits(bytes: Uint8Array, at: number): number {
  const tens = (bytes[at] as number) - 0x30;
  const ones = (bytes[at + 1] as number) - 0x30;
  return tens >= 0 && tens <= 9 && ones >= 0 && ones <= 9 ? tens * 10 + ones : -1;
}

/** Checks the form of a time: this many digits and a Z; throws DerError otherwise. */
export function checkTime(bytes: Uint8Array, start: number, end: number, digits: number): void {
  if (end - start !== digits + 1 || bytes[end - 1] !== 0x5a) throw new DerError("time must end in seconds and Z");
  for (let at = start; at < end - 1; at += 2) if (twoDigits(bytes, at) < 0) throw notDigits();
}

function notDigits(): DerError {
  return new DerError("time is not all digits and seconds");
}

function daysIn(month: number, year: number): number {
  if (month === 2) return year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0) ? 29 : 28;
  return month === 4 || month === 6 || month === 9 || month === 11 ? 30 : 31;
}

/** The Unix milliseconds of a UTCTime's or GeneralizedTime's content from `start` to `end`. Throws DerError. */
export function readTime(bytes: Uint8Array, tag: number, start: number, end: number): number {
  const short = tag === TAG.UTC_TIME;
  if (!short && tag !== TAG.GENERALIZED_TIME) throw new DerError(`expected a time, found tag 0x${tag.toString(16)}`);
  if (end - start !== (short ? 13 : 15) || bytes[end - 1] !== 0x5a)
    throw new DerError("time must end in seconds and Z");
  const rest = end - 11;
  const century = short ? 0 : twoDigits(bytes, start);
  const lastTwo = twoDigits(bytes, rest - 2);
  const month = twoDigits(bytes, rest);
  const day = twoDigits(bytes, rest + 2);
  const hour = twoDigits(bytes, rest + 4);
  const minute = twoDigits(bytes, rest + 6);
  const second = twoDigits(bytes, rest + 8);
  if ((century | lastTwo | month | day | hour | minute | second) < 0) throw notDigits();
  const year = lastTwo + (short ? (lastTwo < 50 ? 2000 : 1900) : century * 100);
  const exists = month >= 1 && month <= 12 && day >= 1 && day <= daysIn(month, year);
  if (!exists || hour > 23 || minute > 59 || second > 59) throw new DerError("time that does not exist");
  const shiftedYear = month <= 2 ? year - 1 : year;
  const era = Math.floor(shiftedYear / 400);
  const yearOfEra = shiftedYear - era * 400;
  const dayOfYear = (((153 * (month <= 2 ? month + 9 : month - 3) + 2) / 5) | 0) + day - 1;
  const dayOfEra = yearOfEra * 365 + (yearOfEra >> 2) - ((yearOfEra / 100) | 0) + dayOfYear;
  const days = era * ERA + dayOfEra - EPOCH;
  return (days * DAY + hour * 3_600 + minute * 60 + second) * 1000;
}
