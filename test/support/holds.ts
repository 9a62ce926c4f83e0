import { toBase64, toHex } from "../../src/pki/bytes.ts";

/** Whether a value, at any depth, holds the octets: in bytes, or in text as hex, base64 or base64url wherever they begin. */
export function holds(value: unknown, octets: Uint8Array): boolean {
  if (value instanceof ArrayBuffer) return holdsBytes(new Uint8Array(value), octets);
  if (value instanceof Uint8Array) return holdsBytes(value, octets);
  if (typeof value === "string") return holdsText(value, octets);
  if (typeof value !== "object" || value === null) return false;
  const parts = value instanceof Map || value instanceof Set ? [...value] : Object.values(value);
  return parts.some((part) => holds(part, octets));
}

function holdsBytes(bytes: Uint8Array, octets: Uint8Array): boolean {
  return toHex(bytes).includes(toHex(octets)) || holdsText(new TextDecoder("latin1").decode(bytes), octets);
}

function holdsText(text: string, octets: Uint8Array): boolean {
  if (text.toLowerCase().includes(toHex(octets))) return true;
  const base64 = text.replaceAll(/\s/g, "").replaceAll("-", "+").replaceAll("_", "/");
  return [0, 1, 2].some((before) => base64.includes(base64Within(octets, before)));
}

/** The characters of base64 that the octets alone decide when `before` octets of a group of three stand before them. */
function base64Within(octets: Uint8Array, before: number): string {
  const padded = new Uint8Array(before + octets.length);
  padded.set(octets, before);
  const from = Math.ceil((before * 8) / 6);
  return toBase64(padded).slice(from, Math.floor((padded.length * 8) / 6));
}
