import { createIssuer, issue } from "../scene.ts";
import { must } from "../shell.ts";
import type { Album } from "./album.ts";

/** One artefact of each kind with defects that every checker has to find. */
export async function plantDefects(album: Album): Promise<void> {
  await negativeSerial(album);
  await laterEntry(album);
  await wrongTimes(album);
}

/** A certificate with the serial -5. */
async function negativeSerial(album: Album): Promise<void> {
  const { scratch } = album.scene;
  const pem = scratch.file("planted.pem");
  await must("openssl", [
    ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-set_serial", "-5"],
    ...["-subj", "/CN=Planted", "-keyout", scratch.file("planted.key"), "-out", pem],
  ]);
  const { stdout } = await must("openssl", ["x509", "-in", pem, "-outform", "DER"]);
  album.add("certificate", "certificate", stdout, { Issuer: "" });
}

/** A list without number and key identifier, with an entry that was revoked after thisUpdate. */
async function laterEntry(album: Album): Promise<void> {
  const { scratch } = album.scene;
  const ca = { cert: scratch.file("planted-ca.pem"), key: scratch.file("planted-ca.key") };
  await must("openssl", [
    ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"],
    ...["-subj", "/CN=Planted CA", "-keyout", ca.key, "-out", ca.cert],
  ]);
  const index = scratch.write("planted.index", "R\t400101000000Z\t390101000000Z\t0A\tunknown\t/CN=later\n");
  const config = scratch.write(
    "planted.cnf",
    `[ca]\ndefault_ca=planted\n[planted]\ndatabase=${index}\ndefault_md=sha256\ndefault_crl_days=1\n`,
  );
  const list = scratch.file("planted.crl.pem");
  await must("openssl", ["ca", "-gencrl", "-config", config, "-cert", ca.cert, "-keyfile", ca.key, "-out", list]);
  const { stdout } = await must("openssl", ["crl", "-in", list, "-outform", "DER"]);
  album.add("list", "crl", stdout, { Issuer: ca.cert, Revoked: { a: 0 } });
}

/** A real answer, produced and ended long before it began, so that its signature is wrong as well. */
async function wrongTimes(album: Album): Promise<void> {
  const { scene } = album;
  await createIssuer(scene, "iss-planted", { ca_common_name: "Planted Root", key_algorithm: "ECDSA-P256" });
  const issued = await issue(scene, "iss-planted", "planted");
  const { bytes } = await scene.admin.send("GET", `/.well-known/pki/ocsp/iss-planted/${issued.serial}`);
  let at = 0;
  const times = Buffer.from(bytes)
    .toString("latin1")
    .replace(/20\d{12}Z/g, (time: string) => (at++ === 1 ? time : "20010101000000Z"));
  if (at !== 3) throw new Error(`${at} times in an answer: producedAt, thisUpdate and nextUpdate were expected`);
  album.add("answer", "ocsp", Buffer.from(times, "latin1"), {
    Issuer: issued.issuer,
    Certificate: issued.leaf,
    Serial: issued.serial.replace(/^0+/, ""),
    Status: "good",
    Reason: 0,
    Hash: "SHA-1",
  });
}
