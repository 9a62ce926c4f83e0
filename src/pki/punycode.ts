/** Parameters of RFC 3492 section 5. */
const BASE = 36;
const T_MIN = 1;
const T_MAX = 26;
const SKEW = 38;
const DAMP = 700;

function adapt(difference: number, points: number, first: boolean): number {
  let delta = first ? Math.floor(difference / DAMP) : difference >> 1;
  delta += Math.floor(delta / points);
  let k = 0;
  for (; delta > ((BASE - T_MIN) * T_MAX) >> 1; k += BASE) delta = Math.floor(delta / (BASE - T_MIN));
  return k + Math.floor(((BASE - T_MIN + 1) * delta) / (delta + SKEW));
}

function digit(code: number): number {
  if (code >= 0x61 && code <= 0x7a) return code - 0x61;
  return code >= 0x30 && code <= 0x39 ? code - 0x30 + 26 : BASE;
}

/**
 * Decodes a lower-case label without its `xn--` (RFC 3492 section 6.2); null if it is invalid. URL parsers of different
 * runtimes disagree on checking a label that is already encoded, so it is checked here. Reads at most 63 characters.
 */
export function decodePunycode(label: string): string | null {
  if (label.length > 63) return null;
  const hyphen = label.lastIndexOf("-");
  const points = Array.from(label.slice(0, Math.max(hyphen, 0)), (character) => character.charCodeAt(0));
  let n = 0x80;
  let bias = 72;
  let i = 0;
  for (let at = hyphen > 0 ? hyphen + 1 : 0; at < label.length; ) {
    const before = i;
    let weight = 1;
    for (let k = BASE; ; k += BASE) {
      const value = at < label.length ? digit(label.charCodeAt(at++)) : BASE;
      if (value >= BASE) return null;
      i += value * weight;
      const threshold = Math.min(T_MAX, Math.max(T_MIN, k - bias));
      if (value < threshold) break;
      weight *= BASE - threshold;
      if (i > 0x7fff_ffff || weight > 0x7fff_ffff) return null;
    }
    const count = points.length + 1;
    bias = adapt(i - before, count, before === 0);
    n += Math.floor(i / count);
    i %= count;
    if (n > 0x10ffff || (n >= 0xd800 && n <= 0xdfff)) return null;
    points.splice(i++, 0, n);
  }
  return points.length === 0 ? null : String.fromCodePoint(...points);
}
