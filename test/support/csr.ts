import type { Bytes } from "../../src/pki/bytes.ts";
import {
  bitString,
  boolean,
  context,
  integer,
  NULL,
  octetString,
  oid,
  sequence,
  set,
  TAG,
  tlv,
  utf8String,
} from "../../src/pki/der.ts";
import { encodeGeneralNames, parseSan } from "../../src/pki/general-names.ts";
import { generateKeyPair, importSigner, type KeyAlgorithm } from "../../src/pki/keys.ts";
import { encodeName } from "../../src/pki/names.ts";
import { encodePem } from "../../src/pki/pem.ts";

export interface Key {
  readonly spki: Bytes;
  readonly pkcs8: Bytes;
}

export const newKey = (algorithm: KeyAlgorithm = "ECDSA-P256"): Promise<Key> => generateKeyPair(algorithm);

export interface CsrRequest {
  readonly key?: Key;
  readonly commonName?: string;
  readonly sans?: readonly string[];
  readonly ca?: boolean;
  readonly eku?: string;
  readonly extension?: string;
  /** Spoils the signature. */
  readonly forged?: boolean;
  /** Writes every extension's default critical FALSE out. */
  readonly explicitFalse?: boolean;
  /** Extensions as they stand. */
  readonly extensions?: readonly Bytes[];
  /** Attributes beside the extension request. */
  readonly attributes?: readonly Bytes[];
  /** Leaves the [0] field out. */
  readonly withoutAttributes?: boolean;
  /** Stands in place of the key. */
  readonly spki?: Bytes;
  readonly signatureAlgorithm?: Bytes;
  readonly label?: string;
}

export const RSA_WITHOUT_NULL = sequence(oid("1.2.840.113549.1.1.11"));

/** The SubjectPublicKeyInfo of an RSA key: as it should be, but for what is told. */
export function rsaSpki(modulus: Bytes, exponent: number, wrong: { null?: boolean; sign?: boolean } = {}): Bytes {
  const n = wrong.sign ? tlv(TAG.INTEGER, modulus) : integer(modulus);
  const key = sequence(n, integer(exponent));
  return sequence(sequence(oid("1.2.840.113549.1.1.1"), ...(wrong.null ? [] : [NULL])), bitString(key));
}

/** What IIS and certreq put into a request beside the names. */
export function microsoftExtras(): Pick<CsrRequest, "extensions" | "attributes" | "label"> {
  const extension = (id: string, value: Bytes) => sequence(oid(id), octetString(value));
  const text = (value: string) => utf8String(value);
  return {
    label: "NEW CERTIFICATE REQUEST",
    extensions: [
      sequence(oid("2.5.29.15"), boolean(true), octetString(new Uint8Array([3, 2, 4, 0xf0]))),
      extension("1.2.840.113549.1.9.15", sequence(sequence(oid("1.2.840.113549.3.7")))),
      extension("2.5.29.14", octetString(new Uint8Array(20).fill(0x11))),
      extension("2.5.29.35", sequence(tlv(0x80, new Uint8Array(20).fill(0x12)))),
      extension("1.3.6.1.4.1.311.21.7", sequence(oid("1.3.6.1.4.1.311.21.8.1"), integer(100), integer(3))),
      extension("2.16.840.1.113730.1.13", tlv(0x16, new TextEncoder().encode("made by hand"))),
    ],
    attributes: [
      sequence(oid("1.3.6.1.4.1.311.13.2.3"), set(tlv(0x16, new TextEncoder().encode("10.0.20348.2")))),
      sequence(
        oid("1.3.6.1.4.1.311.21.20"),
        set(sequence(integer(5), text("srv.example.test"), text("EX\\svc"), text("InetMgr.exe"))),
      ),
    ],
  };
}

/** A PKCS#10 request in PEM, as any client would make it. */
export async function makeCsr(request: CsrRequest = {}): Promise<string> {
  const key = request.key ?? (await newKey());
  const extensions: Bytes[] = [...(request.extensions ?? [])];
  const flag = request.explicitFalse ? [boolean(false)] : [];
  const add = (id: string, value: Bytes) => extensions.push(sequence(oid(id), ...flag, octetString(value)));
  if (request.sans?.length) add("2.5.29.17", encodeGeneralNames(request.sans.map(parseSan)));
  if (request.ca) add("2.5.29.19", sequence(boolean(true)));
  if (request.eku) add("2.5.29.37", sequence(oid(request.eku)));
  if (request.extension) add(request.extension, octetString(new Uint8Array([1])));
  const asked = extensions.length === 0 ? [] : [sequence(oid("1.2.840.113549.1.9.14"), set(sequence(...extensions)))];
  const attributes = [...asked, ...(request.attributes ?? [])];
  const info = sequence(
    integer(0),
    encodeName(request.commonName === undefined ? {} : { common_name: request.commonName }),
    request.spki ?? key.spki,
    ...(request.withoutAttributes ? [] : [context(0, true, ...attributes)]),
  );
  const signer = await importSigner(key.pkcs8);
  const signature = await signer.sign(request.forged ? new Uint8Array([...info, 0]) : info);
  const algorithm = request.signatureAlgorithm ?? signer.algorithmIdentifier;
  return encodePem(request.label ?? "CERTIFICATE REQUEST", sequence(info, algorithm, bitString(signature)));
}
