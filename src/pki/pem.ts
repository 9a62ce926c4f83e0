import { type Bytes, fromBase64, toBase64 } from "./bytes.ts";
import { EncodingError } from "./errors.ts";
import { pkcs8FromEc, pkcs8FromRsa } from "./spki.ts";

/** One encapsulated message of RFC 7468. */
export interface PemBlock {
  /** Such as `CERTIFICATE`. */
  readonly label: string;
  readonly der: Bytes;
}

/** Default maximum length of a text, in characters. */
const MAX_PEM_CHARACTERS = 1_048_576;
const MAX_BLOCKS = 1000;

/** The strict textual encoding of RFC 7468 section 3: lines of 64, each ended by a line feed. */
export function encodePem(label: string, der: Uint8Array): string {
  const text = toBase64(der);
  let body = "";
  for (let i = 0; i < text.length; i += 64) body += `${text.slice(i, i + 64)}\n`;
  return `-----BEGIN ${label}-----\n${body}-----END ${label}-----\n`;
}

/**
 * All blocks of a PEM text in order; text around them is skipped (RFC 7468 section 2), white space inside is ignored,
 * headers of RFC 1421 (such as `Proc-Type`, of encrypted keys) are refused. Takes linear time. Throws EncodingError:
 * too long, an unterminated block, no block at all.
 */
export function decodePem(text: string, maxCharacters = MAX_PEM_CHARACTERS): PemBlock[] {
  if (text.length > maxCharacters) throw new EncodingError(`PEM text is longer than ${maxCharacters} characters`);
  const blocks: PemBlock[] = [];
  let label: string | null = null;
  let body: string[] = [];
  for (const raw of text.split(/\r\n|\n|\r/)) {
    const line = raw.trim();
    if (label === null) {
      label = boundary(line, "BEGIN");
      body = [];
      continue;
    }
    const end = boundary(line, "END");
    if (end === null) {
      if (line.startsWith("-----")) throw new EncodingError(`PEM block ${label} has no end`);
      if (line.includes(":"))
        throw new EncodingError(`PEM block ${label} has headers: encrypted or old keys are not read`);
      body.push(line);
      continue;
    }
    if (end !== label) throw new EncodingError(`PEM block ${label} ends as ${end}`);
    if (blocks.length === MAX_BLOCKS) throw new EncodingError(`more than ${MAX_BLOCKS} PEM blocks`);
    blocks.push({ label, der: fromBase64(body.join("").replace(/[ \t]+/g, "")) });
    label = null;
  }
  if (label !== null) throw new EncodingError(`PEM block ${label} has no end`);
  if (blocks.length === 0) throw new EncodingError("no PEM block: expected -----BEGIN ...-----");
  return blocks;
}

function boundary(line: string, kind: "BEGIN" | "END"): string | null {
  const start = `-----${kind} `;
  if (!line.startsWith(start) || !line.endsWith("-----") || line.length < start.length + 6) return null;
  const label = line.slice(start.length, -5);
  return /^[\x21-\x2c\x2e-\x7e](?:[- ]?[\x21-\x2c\x2e-\x7e])*$/.test(label) ? label : null;
}

/** The certificates of a PEM text in order, DER. Throws EncodingError if it has none or any other block. */
export function certificatesFromPem(text: string): Bytes[] {
  return decodePem(text).map(({ label, der }) => {
    if (label !== "CERTIFICATE" && label !== "X509 CERTIFICATE") {
      throw new EncodingError(`expected certificates only, found ${label}`);
    }
    return der;
  });
}

/**
 * The only private key of a PEM text as PKCS#8 DER: `PRIVATE KEY`, or `RSA PRIVATE KEY` and `EC PRIVATE KEY`, which are
 * wrapped; `EC PARAMETERS` are skipped. Throws EncodingError for an encrypted key, for none and for several.
 */
export function privateKeyFromPem(text: string): Bytes {
  const blocks = decodePem(text).filter(({ label }) => label !== "EC PARAMETERS");
  const [block] = blocks;
  if (block === undefined || blocks.length > 1) throw new EncodingError("expected exactly one private key");
  switch (block.label) {
    case "PRIVATE KEY":
      return block.der;
    case "RSA PRIVATE KEY":
      return pkcs8FromRsa(block.der);
    case "EC PRIVATE KEY":
      return pkcs8FromEc(block.der);
    case "ENCRYPTED PRIVATE KEY":
      throw new EncodingError("the private key is encrypted: decrypt it first (openssl pkcs8 -topk8 -nocrypt)");
    default:
      throw new EncodingError(`expected a private key, found ${block.label}`);
  }
}
