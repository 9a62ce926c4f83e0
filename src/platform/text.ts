import { createHash } from "node:crypto";

/** Text and byte helpers outside PKI. */

export function utf8(text: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new TextEncoder().encode(text));
}

export function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** base64url without padding (RFC 4648 section 5). */
export function base64url(bytes: Uint8Array): string {
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

/** Throws the error of `atob` on text that is not base64url. */
export function fromBase64url(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
}

/** Synchronous sha256Hex, for code that must not yield to other tasks. */
export function sha256HexSync(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

/** SHA-256 of a text as lower-case hex. */
export async function sha256Hex(text: string): Promise<string> {
  return hex(new Uint8Array(await crypto.subtle.digest("SHA-256", utf8(text))));
}

/** Reads a whole stream. Returns null as soon as it exceeds `limit` bytes, leaving the rest unread. */
export async function readUpTo(
  stream: ReadableStream<Uint8Array>,
  limit: number,
): Promise<Uint8Array<ArrayBuffer> | null> {
  const chunks: Uint8Array[] = [];
  let total = 0;
  for await (const chunk of stream) {
    total += chunk.length;
    if (total > limit) return null;
    chunks.push(chunk);
  }
  const all = new Uint8Array(total);
  let at = 0;
  for (const chunk of chunks) {
    all.set(chunk, at);
    at += chunk.length;
  }
  return all;
}

/** Whether two texts are equal, in time that depends only on the length of `shown`. */
export function constantTimeEqual(shown: string, expected: string): boolean {
  let difference = shown.length ^ expected.length;
  for (let i = 0; i < shown.length; i++) difference |= shown.charCodeAt(i) ^ expected.charCodeAt(i % expected.length);
  return difference === 0;
}
