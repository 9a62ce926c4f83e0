import fc from "fast-check";
import type { Bytes } from "../../src/pki/bytes.ts";
import { children, decode, type Element, tlv } from "../../src/pki/der.ts";
import { attempt, mutated } from "./mutate.ts";

/** A DER tree that can be changed and written again with right lengths: changes that reach the rules behind the codec. */
interface Node {
  tag: number;
  /** Of a constructed element, or of an OCTET STRING that holds DER. */
  inside: Node[] | null;
  content: Bytes;
}

function grow(element: Element): Node {
  const { tag, content } = element;
  if ((tag & 0x20) !== 0) return { tag, content, inside: children(element).map(grow) };
  const inner = tag === 0x04 ? attempt(() => decode(content)) : undefined;
  return { tag, content, inside: inner === undefined ? null : [grow(inner)] };
}

function write(node: Node): Bytes {
  return node.inside === null ? tlv(node.tag, node.content) : tlv(node.tag, ...node.inside.map(write));
}

function flatten(node: Node, into: Node[]): Node[] {
  into.push(node);
  for (const child of node.inside ?? []) flatten(child, into);
  return into;
}

type Change = (nodes: readonly Node[]) => void;

const fraction = fc.double({ min: 0, max: 1, noNaN: true });

function pick<T>(list: readonly T[], at: number): T | undefined {
  return list[Math.min(list.length - 1, Math.floor(at * list.length))];
}

const octets = fc.uint8Array({ maxLength: 40 }).map((array) => Uint8Array.from(array));

const change: fc.Arbitrary<Change> = fc.oneof(
  // Another value in a primitive.
  fc.tuple(fraction, octets).map(
    ([at, value]): Change =>
      (nodes) => {
        const leaf = pick(
          nodes.filter(({ inside }) => inside === null),
          at,
        );
        if (leaf !== undefined) leaf.content = value;
      },
  ),
  // One octet of a primitive.
  fc.tuple(fraction, fraction, fc.nat(255)).map(
    ([at, where, value]): Change =>
      (nodes) => {
        const leaf = pick(
          nodes.filter(({ inside, content }) => inside === null && content.length > 0),
          at,
        );
        if (leaf === undefined) return;
        leaf.content = leaf.content.slice();
        leaf.content[Math.min(leaf.content.length - 1, Math.floor(where * leaf.content.length))] = value;
      },
  ),
  // Another tag.
  fc
    .tuple(
      fraction,
      fc.constantFrom(
        1,
        2,
        3,
        4,
        5,
        6,
        0x0a,
        0x0c,
        0x13,
        0x16,
        0x17,
        0x18,
        0x30,
        0x31,
        0x80,
        0x81,
        0x82,
        0x86,
        0x87,
        0xa0,
        0xa1,
        0xa3,
      ),
    )
    .map(
      ([at, tag]): Change =>
        (nodes) => {
          const node = pick(nodes, at);
          if (node !== undefined) node.tag = tag;
        },
    ),
  // A child left out, doubled, or put elsewhere.
  fc.tuple(fraction, fraction, fc.constantFrom("drop", "double", "swap", "empty")).map(
    ([at, which, how]): Change =>
      (nodes) => {
        const parent = pick(
          nodes.filter(({ inside }) => (inside?.length ?? 0) > 0),
          at,
        );
        const inside = parent?.inside ?? [];
        const index = Math.min(inside.length - 1, Math.floor(which * inside.length));
        const child = inside[index];
        if (child === undefined) return;
        if (how === "drop") inside.splice(index, 1);
        if (how === "double") inside.splice(index, 0, child);
        if (how === "swap") inside.unshift(...inside.splice(index, 1));
        if (how === "empty") inside.length = 0;
      },
  ),
  // A subtree in the place of another.
  fc.tuple(fraction, fraction).map(
    ([from, to]): Change =>
      (nodes) => {
        const source = pick(nodes, from);
        const target = pick(nodes, to);
        if (source === undefined || target === undefined || flatten(source, []).includes(target)) return;
        Object.assign(target, {
          tag: source.tag,
          content: source.content,
          inside: source.inside === null ? null : [...source.inside],
        });
      },
  ),
);

/** Inputs whose structure was changed, and inputs whose octets were. The inputs must be DER. */
export function mutatedTree(inputs: readonly Bytes[]): fc.Arbitrary<Bytes> {
  const structured = fc
    .tuple(fc.constantFrom(...inputs), fc.array(change, { minLength: 1, maxLength: 3 }))
    .map(([input, list]) => {
      const root = grow(decode(input));
      for (const one of list) one(flatten(root, []).slice(0, 5000));
      return write(root);
    });
  return fc.oneof({ weight: 2, arbitrary: structured }, { weight: 1, arbitrary: mutated(inputs) });
}
