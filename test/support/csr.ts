import type { Bytes } from "../../src/pki/bytes.ts";
import { bitString, boolean, context, integer, octetString, oid, sequence, set } from "../../src/pki/der.ts";
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
}

/** A PKCS#10 request in PEM, as any client would make it. */
export async function makeCsr(request: CsrRequest = {}): Promise<string> {
  const key = request.key ?? (await newKey());
  const extensions: Bytes[] = [];
  const add = (id: string, value: Bytes) => extensions.push(sequence(oid(id), octetString(value)));
  if (request.sans?.length) add("2.5.29.17", encodeGeneralNames(request.sans.map(parseSan)));
  if (request.ca) add("2.5.29.19", sequence(boolean(true)));
  if (request.eku) add("2.5.29.37", sequence(oid(request.eku)));
  if (request.extension) add(request.extension, octetString(new Uint8Array([1])));
  const attributes =
    extensions.length === 0 ? [] : [sequence(oid("1.2.840.113549.1.9.14"), set(sequence(...extensions)))];
  const info = sequence(
    integer(0),
    encodeName(request.commonName === undefined ? {} : { common_name: request.commonName }),
    key.spki,
    context(0, true, ...attributes),
  );
  const signer = await importSigner(key.pkcs8);
  const signature = await signer.sign(request.forged ? new Uint8Array([...info, 0]) : info);
  return encodePem("CERTIFICATE REQUEST", sequence(info, signer.algorithmIdentifier, bitString(signature)));
}
