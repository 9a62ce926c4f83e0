import type { Element } from "./der-read.ts";
import { TAG } from "./der-tags.ts";
import { DerError } from "./errors.ts";

/** Decodes ASN.1's string types. */

const utf8Decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The text of UTF8String, PrintableString, IA5String, NumericString, VisibleString, TeletexString, BMPString, UniversalString. */
export function stringOf(element: Element): string {
  const { tag, content } = element;
  switch (tag) {
    case TAG.UTF8_STRING:
      try {
        return utf8Decoder.decode(content);
      } catch {
        throw new DerError("UTF8String is not UTF-8");
      }
    case TAG.PRINTABLE_STRING:
    case TAG.NUMERIC_STRING:
    case TAG.IA5_STRING:
    case TAG.VISIBLE_STRING:
      return asciiText(content);
    case TAG.TELETEX_STRING:
      return wideText(content, 1);
    case TAG.BMP_STRING:
      return wideText(content, 2);
    case TAG.UNIVERSAL_STRING:
      return wideText(content, 4);
    default:
      throw new DerError(`expected a string, found tag 0x${tag.toString(16)}`);
  }
}

/** Octets as ASCII text; DerError on an octet above 7F. */
export function asciiText(content: Uint8Array): string {
  let text = "";
  for (let i = 0; i < content.length; i++) {
    const octet = content[i] as number;
    if (octet > 0x7f) throw new DerError("string holds an octet that is not ASCII");
    text += String.fromCharCode(octet);
  }
  return text;
}

function wideText(content: Uint8Array, width: 1 | 2 | 4): string {
  if (content.length % width !== 0) throw new DerError("string ends inside a character");
  let text = "";
  for (let i = 0; i < content.length; i += width) {
    let code = 0;
    for (let j = 0; j < width; j++) code = code * 256 + (content[i + j] as number);
    if (code > 0x10ffff) throw new DerError("string holds a character that does not exist");
    if (code >= 0xd800 && code <= 0xdfff) throw new DerError("string holds a surrogate");
    text += String.fromCodePoint(code);
  }
  return text;
}
