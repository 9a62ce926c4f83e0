import { createIssuer, issue, revoke } from "../scene.ts";
import type { Album, Ca } from "./album.ts";

export type Theme = (album: Album) => Promise<void>;

/** Everything that is looked at, each theme on CAs of its own. */
export const THEMES: Readonly<Record<string, Theme>> = {
  "CAs of every key": async (album) => {
    for (const key_algorithm of ["ECDSA-P256", "ECDSA-P384", "ECDSA-P521", "RSA-2048", "Ed25519"])
      await everythingOf(album, { key_algorithm });
    for (const key_algorithm of ["RSA-3072", "RSA-4096"]) await everythingOf(album, { key_algorithm, rsa_pss: true });
  },
};

const STRANGER = { leaf: null, serial: "1234567890abcdef1234567890abcdef" };

/** A root with one good and one revoked leaf, its list, and an answer of each status with each CertID. */
async function everythingOf(album: Album, config: { key_algorithm: string; rsa_pss?: boolean }): Promise<void> {
  const { scene } = album;
  const id = `iss-proof-${config.key_algorithm.toLowerCase()}${config.rsa_pss ? "-pss" : ""}`;
  await createIssuer(scene, id, { ca_common_name: `Root ${id}`, ...config });
  const ca: Ca = await album.ca(id);
  const good = await issue(scene, id, `${id}-good`);
  const bad = await issue(scene, id, `${id}-bad`);
  await album.leaf(good);
  await revoke(scene, bad, "superseded");
  for (const hash of ["SHA-1", "SHA-256"] as const) {
    await album.answer(ca, good, { status: "good", hash });
    await album.answer(ca, bad, { status: "revoked", reason: "superseded", hash });
    await album.answer(ca, STRANGER, { status: "unknown", hash });
  }
  await album.list(ca, { [bad.serial]: "superseded" });
}
