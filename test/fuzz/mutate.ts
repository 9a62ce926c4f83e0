import fc from "fast-check";
import { type Bytes, concat } from "../../src/pki/bytes.ts";
import { children, type Element, tlv } from "../../src/pki/der.ts";

/** How long each property is tried: `FUZZ_SECONDS` of it, else `FUZZ_RUNS` inputs, else `usual` inputs. */
export function runs(usual = 3_000): { numRuns: number; interruptAfterTimeLimit?: number } {
  const seconds = Number(process.env.FUZZ_SECONDS);
  if (seconds > 0) return { numRuns: 1_000_000_000, interruptAfterTimeLimit: seconds * 1000 };
  const asked = Number(process.env.FUZZ_RUNS);
  return { numRuns: Number.isInteger(asked) && asked > 0 ? asked : usual };
}

type Change = (octets: Bytes) => Bytes;

/** Octets that decide something in DER. */
const TELLING = [
  0, 1, 2, 3, 4, 5, 6, 0x0a, 0x13, 0x14, 0x17, 0x18, 0x20, 0x30, 0x31, 0x7f, 0x80, 0x81, 0x82, 0x83, 0x84,
];

/** A place in something of that length, by a fraction, so that it fits whatever came before. */
function place(fraction: number, length: number): number {
  return Math.min(length, Math.floor(fraction * (length + 1)));
}

const fraction = fc.double({ min: 0, max: 1, noNaN: true });
const octet = fc.oneof(fc.constantFrom(...TELLING, 0xa0, 0xa1, 0xa2, 0xff), fc.nat(255));

const change: fc.Arbitrary<Change> = fc.oneof(
  fc.tuple(fraction, octet).map(
    ([at, value]): Change =>
      (octets) => {
        const out = octets.slice();
        if (out.length > 0) out[Math.min(out.length - 1, place(at, out.length))] = value;
        return out;
      },
  ),
  fc.tuple(fraction, fc.constantFrom(-2, -1, 1, 2)).map(
    ([at, by]): Change =>
      (octets) => {
        const out = octets.slice();
        const index = Math.min(out.length - 1, place(at, out.length));
        if (out.length > 0) out[index] = (out[index] as number) + by;
        return out;
      },
  ),
  fc.tuple(fraction, fc.nat(20)).map(
    ([at, count]): Change =>
      (octets) => {
        const from = place(at, octets.length);
        return concat(octets.subarray(0, from), octets.subarray(from + count));
      },
  ),
  fc.tuple(fraction, fc.uint8Array({ minLength: 1, maxLength: 8 })).map(
    ([at, more]): Change =>
      (octets) => {
        const from = place(at, octets.length);
        return concat(octets.subarray(0, from), more, octets.subarray(from));
      },
  ),
  fc.tuple(fraction, fraction, fc.nat(30)).map(
    ([from, to, count]): Change =>
      (octets) => {
        const [a, b] = [place(from, octets.length), place(to, octets.length)];
        return concat(octets.subarray(0, b), octets.subarray(a, a + count), octets.subarray(b));
      },
  ),
  fraction.map(
    (at): Change =>
      (octets) =>
        octets.slice(0, place(at, octets.length)),
  ),
);

/** Real inputs with none, one or a few changes; and, seldom, plain noise. */
export function mutated(inputs: readonly Bytes[]): fc.Arbitrary<Bytes> {
  const changes = fc.oneof(
    { weight: 6, arbitrary: change.map((one) => [one]) },
    { weight: 3, arbitrary: fc.array(change, { maxLength: 4 }) },
  );
  const real = fc.tuple(fc.constantFrom(...inputs), changes).map(([input, list]) => {
    let octets = input;
    for (const one of list) octets = one(octets);
    return octets;
  });
  const noise = fc.uint8Array({ maxLength: 200 }).map((octets) => Uint8Array.from(octets));
  return fc.oneof({ weight: 30, arbitrary: real }, { weight: 1, arbitrary: noise });
}

/** The element written again from its parts: equal to the input exactly when its lengths are minimal DER. */
export function reencoded(element: Element): Bytes {
  return (element.tag & 0x20) === 0
    ? tlv(element.tag, element.content)
    : tlv(element.tag, ...children(element).map(reencoded));
}

/** What another implementation makes of an input, or undefined when it refuses. */
export function attempt<T>(run: () => T): T | undefined {
  try {
    return run();
  } catch {
    return undefined;
  }
}
