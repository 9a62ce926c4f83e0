import { NEW_KEY } from "../scene.ts";
import { must, type Scratch } from "../shell.ts";
import type { Album } from "./album.ts";

/** What has to be found of it, a line for each: `checker: artefact: code: message`. */
export const PLANTED: readonly RegExp[] = [
  /^zlint: planted: certificate: e_serial_number_not_positive/,
  /^zlint: planted: list: e_crl_revocation_time_after_this_update/,
  /^zlint: planted: answer: e_this_update_not_after_produced_at/,
  /^go: planted: certificate: .*negative serial number/,
  /^go: planted: list: .*entry a is later than thisUpdate/,
  /^go: planted: list: .*CRL number/,
  /^go: planted: answer: .*signature/,
  /^pkilint: planted: certificate: pkix.certificate_serial_number_out_of_range/,
  /^pkilint: planted: list: pkix.crl_number_missing/,
  /^pkilint: planted: answer: pkix.ocsp_negative_validity_period/,
];

/** One artefact of each kind, made by openssl, with defects that every checker has to find. */
export async function plantDefects(album: Album): Promise<void> {
  const { scratch } = album.scene;
  const ca = { cert: scratch.file("planted.pem"), key: scratch.file("planted.key") };
  await must("openssl", [
    ...["req", "-x509", ...(NEW_KEY["ECDSA-P256"] ?? []), "-nodes", "-set_serial", "-5", "-subj", "/CN=Planted"],
    ...["-keyout", ca.key, "-out", scratch.file("negative.pem")],
  ]);
  const { stdout } = await must("openssl", ["x509", "-in", scratch.file("negative.pem"), "-outform", "DER"]);
  album.add("certificate", "certificate", stdout, { Issuer: "" });
  await must("openssl", ["req", "-x509", "-key", ca.key, "-subj", "/CN=Planted", "-out", ca.cert]);
  album.add("list", "crl", await laterEntry(scratch, ca), { Issuer: ca.cert, Revoked: { a: 0 } });
  const about = { Certificate: "", Serial: "b", Status: "good", Reason: 0, Hash: "SHA-1" } as const;
  album.add("answer", "ocsp", await wrongTimes(scratch, ca), { Issuer: ca.cert, ...about });
}

interface Pair {
  readonly cert: string;
  readonly key: string;
}

const INDEX = "R\t400101000000Z\t390101000000Z\t0A\tunknown\t/CN=a\nV\t400101000000Z\t\t0B\tunknown\t/CN=b\n";

/** A list without a number, with an entry that was revoked after thisUpdate. */
async function laterEntry(scratch: Scratch, { cert, key }: Pair): Promise<Buffer> {
  const index = scratch.write("planted.index", INDEX);
  const settings = `database=${index}\ndefault_md=sha256\ndefault_crl_days=1\ncrl_extensions=list\n`;
  const config = `[ca]\ndefault_ca=planted\n[planted]\n${settings}[list]\nauthorityKeyIdentifier=keyid\n`;
  const list = scratch.file("planted.crl.pem");
  await must("openssl", [
    ...["ca", "-gencrl", "-config", scratch.write("planted.cnf", config), "-cert", cert, "-keyfile", key, "-out", list],
  ]);
  return (await must("openssl", ["crl", "-in", list, "-outform", "DER"])).stdout;
}

/** An answer that was produced and ended long before it began; so its signature is wrong too. */
async function wrongTimes(scratch: Scratch, { cert, key }: Pair): Promise<Buffer> {
  const [request, response] = [scratch.file("planted.request"), scratch.file("planted.response")];
  await must("openssl", ["ocsp", "-issuer", cert, "-serial", "0x0B", "-no_nonce", "-reqout", request]);
  await must("openssl", [
    ...["ocsp", "-index", scratch.file("planted.index"), "-CA", cert, "-rsigner", cert, "-rkey", key, "-ndays", "1"],
    ...["-reqin", request, "-respout", response, "-resp_no_certs"],
  ]);
  let times = 0;
  const patched = scratch
    .bytes("planted.response")
    .toString("latin1")
    .replace(/20\d{12}Z/g, (time: string) => {
      times++;
      return times === 2 ? time : "20200101000000Z";
    });
  if (times !== 3) throw new Error(`${times} times in an answer: producedAt, thisUpdate and nextUpdate were expected`);
  return Buffer.from(patched, "latin1");
}
