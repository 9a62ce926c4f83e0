import fc from "fast-check";
import * as pkijs from "pkijs";
import { afterAll, expect, it } from "vitest";
import { type Bytes, equal, toHex } from "../../src/pki/bytes.ts";
import { buildSubordinateRequestInfo, signTbs } from "../../src/pki/certificate.ts";
import { type Csr, parseCsr, verifyCsr } from "../../src/pki/csr.ts";
import { decode } from "../../src/pki/der.ts";
import { PkiError } from "../../src/pki/errors.ts";
import { canonicalName } from "../../src/pki/general-names.ts";
import { importSigner, keyIdentifier } from "../../src/pki/keys.ts";
import { encodeName } from "../../src/pki/names.ts";
import { keyPair, openssl, Scratch } from "../pki/support.ts";
import { attempt, reencoded, runs } from "./mutate.ts";
import { mutatedTree } from "./tree.ts";

const scratch = new Scratch();
afterAll(() => scratch.dispose());

async function realRequests(): Promise<Bytes[]> {
  const config = scratch.write(
    "x.cnf",
    "[req]\ndistinguished_name=dn\nreq_extensions=v3\nattributes=at\nprompt=no\n[at]\nchallengePassword=secret1\n[dn]\nC=CH\nCN=a.example\n[v3]\n" +
      "subjectAltName=DNS:a.example,IP:10.0.0.1,email:a@b.example,URI:https://u.example/,otherName:1.2.3;UTF8:x\n" +
      "basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=serverAuth\n",
  );
  const made = ["rsa:2048", "ed25519"].map((key) => {
    openssl(
      "req",
      "-new",
      "-newkey",
      key,
      "-nodes",
      "-config",
      config,
      "-keyout",
      scratch.file("k"),
      "-outform",
      "DER",
      "-out",
      scratch.file("r"),
    );
    return scratch.read("r");
  });
  const { publicKey, pkcs8 } = await keyPair("ECDSA-P256");
  const subject = encodeName({ common_name: "Sub" });
  const subjectKeyIdentifier = await keyIdentifier(publicKey);
  const info = buildSubordinateRequestInfo({ subject, publicKey, subjectKeyIdentifier, pathLen: 0 });
  return [...made, await signTbs(info, await importSigner(pkcs8))];
}

const REAL = await realRequests();

function parsed(input: Bytes): Csr | null {
  try {
    return parseCsr(input);
  } catch (error) {
    expect(error).toBeInstanceOf(PkiError);
    return null;
  }
}

it("requests: our parser accepts or throws its typed error; what it accepts is what pkijs reads", () => {
  let accepted = 0;
  fc.assert(
    fc.property(mutatedTree(REAL), (input) => {
      const ours = parsed(input);
      if (ours === null) return;
      accepted++;
      expect(equal(reencoded(decode(input)), input)).toBe(true);
      for (const name of ours.sans) expect(canonicalName(name)).toEqual(name);
      const theirs = attempt(() => pkijs.CertificationRequest.fromBER(input));
      if (theirs === undefined) return;
      const spki = attempt(() => new Uint8Array(theirs.subjectPublicKeyInfo.toSchema().toBER()));
      if (spki !== undefined) expect(toHex(spki)).toBe(toHex(ours.publicKey.spki));
      const attributes = (theirs.attributes ?? []).map(({ type }) => type);
      expect(attributes).toEqual(ours.attributeOids);
    }),
    runs(),
  );
  expect(accepted).toBeGreaterThan(0);
});

it("requests: possession is never proven for octets that were changed under the signature", async () => {
  await fc.assert(
    fc.asyncProperty(mutatedTree(REAL), async (input) => {
      const ours = parsed(input);
      if (ours === null) return;
      const valid = await verifyCsr(ours).catch((error: unknown) => {
        expect(error).toBeInstanceOf(PkiError);
        return false;
      });
      const genuine = REAL.some((real) => equal(parseCsr(real).info, ours.info));
      if (valid) expect(genuine).toBe(true);
    }),
    runs(1_000),
  );
});

it("requests: openssl reads the same key and subject out of what both accept", () => {
  fc.assert(
    fc.property(mutatedTree(REAL), (input) => {
      const ours = parsed(input);
      if (ours === null) return;
      const file = scratch.write("m.der", input);
      const theirs = attempt(() => openssl("req", "-inform", "DER", "-in", file, "-noout", "-pubkey"));
      if (theirs === undefined) return;
      const base64 = theirs.replace(/-----[^-]+-----|\s/g, "");
      if (base64 !== "") expect(base64).toBe(Buffer.from(ours.publicKey.spki).toString("base64"));
    }),
    runs(60),
  );
});
