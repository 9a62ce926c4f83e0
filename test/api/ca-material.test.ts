import { env, exports } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { approve } from "../../src/authority/gate.ts";
import { parseCertificate, verifyIssued } from "../../src/pki/certificate.ts";
import { parseCrl } from "../../src/pki/crl.ts";
import { parseCsr, verifyCsr } from "../../src/pki/csr.ts";
import { generateKeyPair, importSigner, parseSpki, type Signer } from "../../src/pki/keys.ts";
import { encodeName } from "../../src/pki/names.ts";
import { parseOcspResponse } from "../../src/pki/ocsp.ts";
import { decodePem, encodePem } from "../../src/pki/pem.ts";
import type { Bindings } from "../../src/platform/context.ts";
import { SYSTEM_ACTOR } from "../../src/platform/context.ts";
import { administrator, type Client } from "../support/api.ts";
import { subordinateCertificate } from "../support/ca-certificates.ts";
import { contextAhead } from "../support/context.ts";
import { makeCsr } from "../support/csr.ts";
import { issueLeaf, ledgerOfCa } from "../support/ledgers.ts";
import { outsideCa, randomSerialNumber } from "../support/outside-ca.ts";

type Bytes = Uint8Array<ArrayBuffer>;

/** Who asks the gate, and for whom. */
const asked = { actor: SYSTEM_ACTOR, holder: { type: "upload" } } as const;

interface Issuer {
  readonly id: string;
  readonly config: Record<string, string>;
}

const bindings = env as unknown as Bindings;
const DAY = 86_400_000;
let api: Client;

beforeAll(async () => {
  api = await administrator();
});

function signSubordinate(root: { der: Bytes; signer: Signer }, csrPem: string): Promise<Bytes> {
  const csr = parseCsr(csrPem);
  const now = Math.floor(Date.now() / 1000) * 1000;
  return subordinateCertificate(
    {
      serial: randomSerialNumber(),
      notBefore: new Date(now - DAY),
      notAfter: new Date(now + 500 * DAY),
      subject: csr.subject.der,
      publicKey: csr.publicKey,
      pathLen: 0,
      issuerCertificate: parseCertificate(root.der),
    },
    root.signer,
  );
}

async function fetchBytes(path: string): Promise<Bytes> {
  const response = await exports.default.fetch(new Request(`http://localhost${path}`));
  return new Uint8Array(await response.arrayBuffer());
}

const leafOf = async (caId: string) => issueLeaf(await ledgerOfCa(caId), "1");

function refusedWith(body: Record<string, unknown>, message: string) {
  return api
    .post("/api/v1/issuers", { name: `Refused ${Math.random()}`, type: "GenericCA", config: body })
    .then((answer) => {
      expect(answer, JSON.stringify(answer.body)).toMatchObject({
        status: 400,
        body: { message: expect.stringContaining(message) },
      });
    });
}

describe("a CA that is brought in", () => {
  it("signs with its own key, goes on above its last list and says what it had revoked", async () => {
    const root = await outsideCa();
    const floor = Date.now() + 10 * DAY;
    const issuer = await api.create<Issuer>("/api/v1/issuers", {
      name: "Brought In",
      type: "GenericCA",
      config: {
        ca_cert_pem: root.cert_pem,
        ca_key_pem: root.key_pem,
        crl_number_floor: floor,
        revocations: [{ serial_number: "00ABCDEF", revoked_at: "2026-01-02T03:04:05Z", reason: "superseded" }],
      },
    });
    expect(issuer.config).toMatchObject({ ca_key_pem: "********", ca_cert_pem: root.cert_pem });
    const leaf = parseCertificate((await leafOf(issuer.id)).der);
    expect(await verifyIssued(leaf, parseCertificate(root.der))).toBe(true);
    const list = parseCrl(await fetchBytes(`/.well-known/pki/crl/${issuer.id}`));
    expect(list.number).toBeGreaterThan(BigInt(floor));
    expect(list.entries).toEqual([{ serial: "abcdef", revokedAt: new Date("2026-01-02T03:04:05Z"), reason: 4 }]);
    const { basic } = parseOcspResponse(await fetchBytes(`/.well-known/pki/ocsp/${issuer.id}/abcdef`));
    expect(basic?.responses[0]?.status).toMatchObject({ type: "revoked", reason: 4 });
    const kept = await api.put<Issuer>(`/api/v1/issuers/${issuer.id}`, { config: { ca_key_pem: "********" } });
    expect(kept.status).toBe(200);
    const changed = await api.put(`/api/v1/issuers/${issuer.id}`, { config: { ca_key_pem: root.key_pem } });
    expect(changed.status).toBe(400);
  });

  it("inv 5: its key stands nowhere in the database and in no answer", async () => {
    const root = await outsideCa();
    const config = { ca_cert_pem: root.cert_pem, ca_key_pem: root.key_pem };
    const made = await api.post(
      "/api/v1/issuers",
      { name: "Secret", type: "GenericCA", config },
      { "Idempotency-Key": "k1" },
    );
    expect(made.status).toBe(201);
    const body = decodePem(root.key_pem)[0]?.der ?? new Uint8Array(1);
    const piece = btoa(String.fromCharCode(...body.subarray(36, 66)));
    const listed = await api.get("/api/v1/issuers");
    const rows = await bindings.DB.batch(
      ["issuers", "certificate_authorities", "audit_events", "idempotency_keys"].map((table) =>
        bindings.DB.prepare(`select * from ${table}`),
      ),
    );
    const everything = JSON.stringify([made.body, listed.body, rows.map((result) => result.results)]);
    expect(everything).not.toContain(piece);
    expect(everything).not.toContain("PRIVATE KEY");
  });

  it("is refused when key, chain, extensions or life do not fit", async () => {
    const [root, other, ended] = [await outsideCa(), await outsideCa(), await outsideCa({ days: -1 })];
    await refusedWith({ ca_cert_pem: root.cert_pem, ca_key_pem: other.key_pem }, "ca_key_pem");
    await refusedWith({ ca_cert_pem: root.cert_pem + other.cert_pem, ca_key_pem: root.key_pem }, "not issued by");
    await refusedWith({ ca_cert_pem: ended.cert_pem, ca_key_pem: ended.key_pem }, "expired");
    await refusedWith({ ca_cert_pem: "no PEM", ca_key_pem: root.key_pem }, "ca_cert_pem");
    await refusedWith(
      { ca_cert_pem: root.cert_pem, ca_key_pem: root.key_pem, key_algorithm: "Ed25519" },
      "key_algorithm",
    );
    const made = await api.create<Issuer>("/api/v1/issuers", { name: "Leaf Source", type: "GenericCA" });
    const leaf = await leafOf(made.id);
    await refusedWith({ ca_cert_pem: encodePem("CERTIFICATE", leaf.der), ca_key_pem: root.key_pem }, "is not a CA");
  });
});

describe("a subordinate made inside", () => {
  it("waits with its request, and signs once the outside root's certificate is in", async () => {
    const root = await outsideCa({ pathLen: 1 });
    const issuer = await api.create<Issuer>("/api/v1/issuers", {
      name: "Outside Sub",
      type: "GenericCA",
      config: { subordinate: true, ca_common_name: "Sub of Outside", key_algorithm: "ECDSA-P384" },
    });
    const csr = issuer.config.ca_csr_pem ?? "";
    expect(await verifyCsr(parseCsr(csr))).toBe(true);
    expect((await api.post(`/api/v1/issuers/${issuer.id}/test`)).status).toBe(400);
    const sub = await signSubordinate(root, csr);
    const chain = encodePem("CERTIFICATE", sub) + root.cert_pem;
    const path = `/api/v1/issuers/${issuer.id}`;
    const wrong = await api.put(path, { config: { ca_cert_pem: root.cert_pem } });
    expect(wrong).toMatchObject({ status: 400, body: { error: "ca_invalid" } });
    const done = await api.put<Issuer>(path, { config: { ca_cert_pem: chain } });
    expect(done, JSON.stringify(done.body)).toMatchObject({ status: 200, body: { config: { ca_cert_pem: chain } } });
    expect(done.body.config.ca_csr_pem).toBeUndefined();
    expect((await api.put<Issuer>(path, done.body)).status).toBe(200);
    const leaf = parseCertificate((await leafOf(issuer.id)).der);
    expect(await verifyIssued(leaf, parseCertificate(sub))).toBe(true);
    expect(parseCrl(await fetchBytes(`/.well-known/pki/crl/${issuer.id}`)).entryCount).toBe(0);
    expect((await api.post(`${path}/test`)).status).toBe(200);
    expect(await api.post(`${path}/intermediates`, { name: "Below Zero" })).toMatchObject({
      status: 400,
      body: { error: "out_of_bounds" },
    });
  });
});

describe("name constraints of a CA above", () => {
  it("hold for the leaves and the intermediates of a CA that has none of its own", async () => {
    const root = await outsideCa();
    const make = async (name: string, above: { der: Bytes; signer: Signer }, permitted: string | null) => {
      const pair = await generateKeyPair("ECDSA-P256");
      const now = Math.floor(Date.now() / 1000) * 1000;
      const der = await subordinateCertificate(
        {
          serial: randomSerialNumber(),
          notBefore: new Date(now - DAY),
          notAfter: new Date(now + 500 * DAY),
          subject: encodeName({ common_name: name }),
          publicKey: parseSpki(pair.spki),
          pathLen: null,
          nameConstraints: permitted === null ? null : { permitted: [{ type: "dns", value: permitted }], excluded: [] },
          issuerCertificate: parseCertificate(above.der),
        },
        above.signer,
      );
      return { der, signer: await importSigner(pair.pkcs8), pkcs8: pair.pkcs8 };
    };
    const middle = await make("Bounded Middle", root, "corp.example");
    const own = await make("Unbounded Below", middle, null);
    const pems = [own.der, middle.der, root.der].map((der) => encodePem("CERTIFICATE", der));
    const { id } = await api.create<Issuer>("/api/v1/issuers", {
      name: "Bounded From Above",
      type: "GenericCA",
      config: { ca_cert_pem: pems.join(""), ca_key_pem: encodePem("PRIVATE KEY", own.pkcs8) },
    });
    const leaf = async (common_name: string) => {
      const names = { source: "record", common_name, sans: [] } as const;
      const csr = await makeCsr({ commonName: common_name });
      return approve(contextAhead(), { ...asked, issuer_id: id, profile_id: null, names, csr });
    };
    const named = await leaf("www.corp.example");
    expect(named.approved.subject).toEqual({ common_name: "www.corp.example" });
    // A relying party without a DNS SAN takes the common name for one, and an IP address is below no domain.
    const address = await leaf("10.0.0.7");
    expect(address.approved).toMatchObject({ subject: {}, sans: [{ type: "ip", value: "10.0.0.7" }] });
    await expect(leaf("www.other.example")).rejects.toMatchObject({
      status: 400,
      message: expect.stringMatching(/www\.other\.example.*Bounded Middle/),
    });
    const below = (name: string, permitted: string) =>
      api.post(`/api/v1/issuers/${id}/intermediates`, { name, name_constraints: [{ permitted: [permitted] }] });
    expect(await below("Inside", "DNS:eu.corp.example")).toMatchObject({ status: 201 });
    expect(await below("Outside", "DNS:other.example")).toMatchObject({
      status: 400,
      body: { message: expect.stringContaining("Bounded Middle") },
    });
  });
});

describe("partitions of lists", () => {
  it("an issuer's number of lists is that of each of its CAs, for what they sign from then on", async () => {
    const issuer = await api.create<Issuer>("/api/v1/issuers", { name: "Parted", type: "GenericCA" });
    const path = `/api/v1/issuers/${issuer.id}`;
    const below = await api.create<{ id: string }>(`${path}/intermediates`, { name: "Parted One" });
    expect((await api.put(path, { config: { crl_shards: 2 } })).status).toBe(200);
    const later = await api.create<{ id: string }>(`${path}/intermediates`, { name: "Parted Two" });
    for (const id of [issuer.id, below.id, later.id]) {
      const [url] = parseCertificate((await leafOf(id)).der).crlUrls;
      expect(url).toMatch(new RegExp(`/crl/${id}/[12]$`));
    }
  });
});
