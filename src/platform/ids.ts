import type { Random } from "./context.ts";

/** Ids that a caller may choose (wire.md "Everywhere"). */
export const ID_PATTERN = /^[a-z0-9][a-z0-9._-]{0,63}$/;

const ALPHABET = "0123456789abcdefghijklmnopqrstuv";

/** `prefix` plus 26 base-32 characters: 130 random bits. */
export function randomId(random: Random, prefix: string): string {
  const bytes = random.bytes(26);
  let text = prefix;
  for (let at = 0; at < bytes.length; at++) text += ALPHABET[(bytes[at] ?? 0) & 31];
  return text;
}

/**
 * Derives an id from a name: lower case, `[a-z0-9-]`, at most 64 characters with the prefix; empty if no character is
 * usable.
 */
export function slugId(prefix: string, name: string): string {
  const slug = name
    .normalize("NFKD")
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-+|-+$/g, "")
    .slice(0, 64 - prefix.length)
    .replace(/-+$/, "");
  return slug === "" ? "" : prefix + slug;
}
