/** Writes the two ASN.1 times straight into a buffer, for the hot paths: `Date` is asked for nothing but its instant. */

const DAY = 86_400;

function two(out: Uint8Array, at: number, value: number): void {
  const tens = (value / 10) | 0;
  out[at] = 0x30 + tens;
  out[at + 1] = 0x30 + value - 10 * tens;
}

/** Year of an instant, and all that stands after the year ("MMDDHHMMSSZ", 11 octets) written at `at`. */
function writeAfterYear(out: Uint8Array, at: number, milliseconds: number): number {
  const seconds = Math.floor(milliseconds / 1000);
  const days = Math.floor(seconds / DAY);
  const rest = seconds - days * DAY;
  // Days since 0000-03-01 in 400-year eras of 146,097 days: the leap day stands last in its year.
  const shifted = days + 719_468;
  const era = Math.floor(shifted / 146_097);
  const dayOfEra = shifted - era * 146_097;
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
 * Writes GeneralizedTime (tag, length, YYYYMMDDHHMMSSZ) of Unix milliseconds at `at`; parts of a second are dropped. Returns
 * where the next element goes. Throws RangeError outside the years 0 to 9999. RFC 5280 section 4.1.2.5.2.
 */
export function writeGeneralizedTime(out: Uint8Array, at: number, milliseconds: number): number {
  const year = writeAfterYear(out, at + 6, milliseconds);
  if (!(year >= 0 && year <= 9_999)) throw new RangeError("time outside the years 0 to 9999");
  out[at] = 0x18;
  out[at + 1] = 15;
  const century = (year / 100) | 0;
  two(out, at + 2, century);
  two(out, at + 4, year - 100 * century);
  return at + GENERALIZED_TIME_LENGTH;
}

/** Unix milliseconds from which RFC 5280 wants UTCTime (1950) and from which GeneralizedTime (2050). */
const UTC_TIME_FROM = Date.UTC(1950, 0, 1);
const UTC_TIME_TO = Date.UTC(2050, 0, 1);

/** Octets that `writeTime` writes: 15 for UTCTime, 17 for GeneralizedTime. */
export function timeLength(milliseconds: number): number {
  return milliseconds >= UTC_TIME_FROM && milliseconds < UTC_TIME_TO ? 15 : GENERALIZED_TIME_LENGTH;
}

/** Writes the Time of RFC 5280 section 4.1.2.5: UTCTime from 1950 to 2049, else GeneralizedTime. Otherwise as above. */
export function writeTime(out: Uint8Array, at: number, milliseconds: number): number {
  if (timeLength(milliseconds) === GENERALIZED_TIME_LENGTH) return writeGeneralizedTime(out, at, milliseconds);
  const year = writeAfterYear(out, at + 4, milliseconds);
  out[at] = 0x17;
  out[at + 1] = 13;
  two(out, at + 2, year % 100);
  return at + 15;
}
