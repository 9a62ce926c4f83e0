import { beforeAll, describe, expect, it, vi } from "vitest";
import { approve } from "../../src/authority/gate.ts";
import { parseCertificate } from "../../src/pki/certificate.ts";
import { integer, octetString, oid, sequence } from "../../src/pki/der.ts";
import { generateKeyPair } from "../../src/pki/keys.ts";
import { encodePem } from "../../src/pki/pem.ts";
import { SYSTEM_ACTOR } from "../../src/platform/context.ts";
import { administrator, type Client } from "../support/api.ts";
import { contextAhead } from "../support/context.ts";
import { makeCsr, RSA_WITHOUT_NULL } from "../support/csr.ts";
import { issueLeaf, ledgerOfCa } from "../support/ledgers.ts";
import { type OutsideCa, outsideCa } from "../support/outside-ca.ts";
import { publishedCrl } from "../support/public-pki.ts";

/** Who asks the gate, and for whom. */
const asked = { actor: SYSTEM_ACTOR, holder: { type: "upload" } } as const;

const DAY = 86_400_000;
let api: Client;
let n = 0;

beforeAll(async () => {
  api = await administrator();
});

interface Issuer {
  readonly id: string;
  readonly warnings?: readonly string[];
}

function importing(chain: readonly OutsideCa[], more: Record<string, unknown> = {}) {
  const ca_cert_pem = chain.map((ca) => ca.cert_pem).join("");
  const config = { ca_cert_pem, ca_key_pem: chain[0]?.key_pem ?? "", ...more };
  return api.post<Issuer & { message: string }>("/api/v1/issuers", { name: `CA ${++n}`, type: "GenericCA", config });
}

async function imported(...chain: readonly OutsideCa[]): Promise<Issuer> {
  const answer = await importing(chain);
  expect(answer, JSON.stringify(answer.body)).toMatchObject({ status: 201 });
  return answer.body;
}

async function refused(message: string, ...chain: readonly OutsideCa[]) {
  const answer = await importing(chain);
  expect(answer, JSON.stringify(answer.body)).toMatchObject({
    status: 400,
    body: { message: expect.stringContaining(message) },
  });
}

const install = (id: string, ca: OutsideCa, above: readonly OutsideCa[] = [], more: Record<string, unknown> = {}) =>
  api.put(`/api/v1/issuers/${id}`, {
    config: { ca_cert_pem: [ca, ...above].map(({ cert_pem }) => cert_pem).join("") },
    ...more,
  });

async function leafOf(caId: string, days = 90) {
  const { der } = await issueLeaf(await ledgerOfCa(caId), String(++n), { ttl_seconds: days * 86_400 });
  return parseCertificate(der);
}

describe("the CRL numbers of a CA that was brought in", () => {
  const numberOf = async (id: string) => (await publishedCrl(id)).number ?? 0n;

  it.each([
    ["decimal text above 2^64", "18446744073709551617", 2n ** 64n + 1n],
    ["decimal text of 20 octets", (2n ** 158n).toString(), 2n ** 158n],
    ["a JSON number that is not exact", 1e19, 10n ** 19n + 1n],
    ["a JSON number", 2 ** 52, 2n ** 52n],
  ])("go on above %s", async (_what, crl_number_floor, floor) => {
    const name = `Floor ${++n}`;
    const root = await outsideCa({ name });
    const made = await importing([root], { crl_number_floor });
    expect(made, JSON.stringify(made.body)).toMatchObject({ status: 201, body: { config: { crl_number_floor } } });
    const first = await numberOf(made.body.id);
    expect(first).toBeGreaterThan(floor);
    const again = await api.put(`/api/v1/issuers/${made.body.id}`, made.body);
    expect(again, JSON.stringify(again.body)).toMatchObject({ status: 200 });
    const longer = await outsideCa({ name, keys: root.keys, days: 2000 });
    expect((await install(made.body.id, longer)).status).toBe(200);
    const second = await vi.waitFor(
      async () => {
        const number = await numberOf(made.body.id);
        expect(number).toBeGreaterThan(first);
        return number;
      },
      { timeout: 30_000, interval: 200 },
    );
    const listed = await api.get<{ cache_rows: Record<string, unknown>[] }>("/api/v1/admin/crl/cache");
    expect(listed.body.cache_rows).toContainEqual(
      expect.objectContaining({ ca_id: made.body.id, crl_number: Number(second), crl_number_text: `${second}` }),
    );
  });

  it.each([-1, 1.5, "12a", "", (2n ** 159n).toString(), "9".repeat(50)])("refuse %s as floor", async (floor) => {
    const answer = await importing([await outsideCa()], { crl_number_floor: floor });
    expect(answer).toMatchObject({ status: 400, body: { message: expect.stringContaining("crl_number_floor") } });
  });
});

describe("a CA that outlives one above it", () => {
  it("issues nothing that outlives any CA above, and renews within the same bound", async () => {
    const root = await outsideCa({ name: "Short Root", days: 60 });
    const { id } = await imported(await outsideCa({ name: "Long Issuing", above: root, days: 3650 }), root);
    const end = parseCertificate(root.der).notAfter;
    expect((await leafOf(id)).notAfter).toEqual(end);
    expect((await leafOf(id, 30)).notAfter.getTime()).toBeLessThan(end.getTime() - 20 * DAY);
    const path = `/api/v1/issuers/${id}/intermediates`;
    expect(await api.post(path, { name: "Too Long", ttl_days: 61 })).toMatchObject({ status: 400 });
    const below = await api.create<{ id: string; not_after: string }>(path, { name: "Cut" });
    expect(Date.parse(below.not_after)).toBeLessThanOrEqual(end.getTime());
  });

  it("a shorter root that comes in later bounds the CAs below too", async () => {
    const root = await outsideCa({ name: "Cross Root", days: 900 });
    const issuing = await outsideCa({ name: "Cross Issuing", above: root, days: 800 });
    const { id } = await imported(issuing, root);
    const below = await api.create<{ id: string }>(`/api/v1/issuers/${id}/intermediates`, { name: "Cross Below" });
    const shorter = await outsideCa({ name: "Cross Root", keys: root.keys, days: 60 });
    expect(await install(id, issuing, [shorter])).toMatchObject({
      status: 400,
      body: { message: expect.stringContaining("before 1 certificates that this CA issued") },
    });
    expect(await install(id, issuing, [shorter], { force: true })).toMatchObject({ status: 200 });
    expect((await leafOf(below.id)).notAfter).toEqual(parseCertificate(shorter.der).notAfter);
  });
});

describe("a new certificate for a CA", () => {
  it("must keep the key identifier that leaves name", async () => {
    const first = await outsideCa({ name: "Renewed" });
    const { id } = await imported(first);
    const other = await outsideCa({ name: "Renewed", keys: first.keys, ski: new Uint8Array(20).fill(9) });
    expect(await install(id, other)).toMatchObject({
      status: 400,
      body: { message: expect.stringContaining("subjectKeyIdentifier") },
    });
    const longer = await outsideCa({ name: "Renewed", keys: first.keys, days: 2000 });
    const renewed = await install(id, longer);
    expect(renewed).toMatchObject({ status: 200 });
    expect(await api.put(`/api/v1/issuers/${id}`, renewed.body)).toMatchObject({ status: 200 });
  });

  it("must not end before what was issued, unless forced", async () => {
    const first = await outsideCa({ name: "Shrinking" });
    const { id } = await imported(first);
    const leaf = await leafOf(id, 90);
    const shorter = await outsideCa({ name: "Shrinking", keys: first.keys, days: 30 });
    expect(await install(id, shorter)).toMatchObject({
      status: 400,
      body: { message: expect.stringContaining(leaf.notAfter.toISOString()) },
    });
    expect(await install(id, shorter, [], { force: true })).toMatchObject({ status: 200 });
  });
});

describe("a chain that is brought in", () => {
  it("is refused with an empty subject, and with its root twice", async () => {
    await refused("empty subject", await outsideCa({ subject: {} }));
    const root = await outsideCa({ name: "Root Twice" });
    await refused("twice", await outsideCa({ name: "Issuing", above: root }), root, root);
    await refused("twice", root, root);
  });

  it("says how a CA without keyUsage is made right", async () => {
    await refused("-addext keyUsage=critical,keyCertSign,cRLSign", await outsideCa({ keyUsage: null }));
    const root = await outsideCa();
    const middle = await outsideCa({ name: "Middle", above: root, keyUsage: null });
    await refused("certificate 2 has no keyUsage", await outsideCa({ name: "Own", above: middle }), middle, root);
  });

  it("takes a root above as it is, and warns of what is old in it", async () => {
    const keys = await generateKeyPair("RSA-2048");
    const sha1 = sequence(oid("1.2.840.113549.1.1.5"));
    const root = await outsideCa({ name: "Old Root", keys, keyUsage: null, signatureAlgorithm: sha1 });
    const issuer = await imported(await outsideCa({ name: "Under Old", above: root }), root);
    const warnings = [
      "the root CN=Old Root,O=Elsewhere has no keyUsage",
      expect.stringContaining("the root CN=Old Root,O=Elsewhere has a self-signature that is not checked"),
    ];
    expect(issuer.warnings).toEqual(warnings);
    const { body } = await api.get(`/api/v1/issuers/${issuer.id}`);
    expect(body).toMatchObject({ warnings });
    expect((await api.put(`/api/v1/issuers/${issuer.id}`, body)).status).toBe(200);
    await leafOf(issuer.id);
    // The same as one's own CA, or between, is no trust anchor.
    await refused("keyUsage", root);
    const forged = await outsideCa({ name: "Old Middle", above: root, signatureAlgorithm: sha1 });
    await refused("unsupported signature algorithm", await outsideCa({ name: "Below", above: forged }), forged, root);
  });

  it("may be signed with RSA whose algorithm leaves the NULL out (RFC 4055 section 5)", async () => {
    const keys = await generateKeyPair("RSA-2048");
    const root = await outsideCa({ name: "Without NULL", keys, signatureAlgorithm: RSA_WITHOUT_NULL });
    const below = await outsideCa({ name: "Below it", above: root, signatureAlgorithm: RSA_WITHOUT_NULL });
    const issuer = await imported(below, root);
    expect(issuer.warnings).toBeUndefined();
    await leafOf(issuer.id);
  });

  it("has its extended key usage held to what is issued", async () => {
    const root = await outsideCa({ name: "EKU Root" });
    await refused("is excluded by", await outsideCa({ name: "OCSP Only", above: root, ekus: ["OCSPSigning"] }), root);
    const { id } = await imported(await outsideCa({ name: "Clients Only", above: root, ekus: ["clientAuth"] }), root);
    const profile = await api.create<{ id: string }>("/api/v1/profiles", {
      name: "Clients",
      allowed_ekus: ["clientAuth"],
    });
    const leaf = async (certificate_profile_id: string | null) => {
      const names = { source: "record", common_name: "eku.test", sans: [] } as const;
      const csr = await makeCsr({ commonName: "eku.test" });
      return approve(contextAhead(), { ...asked, issuer_id: id, profile_id: certificate_profile_id, names, csr });
    };
    await expect(leaf(null)).rejects.toMatchObject({
      status: 400,
      message: expect.stringMatching(/serverAuth is excluded by .*Clients Only.*clientAuth/),
    });
    expect((await leaf(profile.id)).approved.ekus).toEqual(["clientAuth"]);
  });

  it("takes a PKCS#8 key that holds neither the public key nor the curve twice", async () => {
    const ca = await outsideCa({ name: "Bare Key" });
    const scalar = ca.keys.pkcs8.subarray(36, 68);
    const bare = sequence(
      integer(0),
      sequence(oid("1.2.840.10045.2.1"), oid("1.2.840.10045.3.1.7")),
      octetString(sequence(integer(1), octetString(scalar))),
    );
    const { id } = await imported({ ...ca, key_pem: encodePem("PRIVATE KEY", bare) });
    await leafOf(id);
  });
});
