import { beforeAll, describe, expect, it } from "vitest";
import { toBase64, toHex } from "../../src/pki/bytes.ts";
import { encodePem } from "../../src/pki/pem.ts";
import { administrator, type Client } from "../support/api.ts";
import { type OutsideCa, outsideCa, outsideCrl, randomSerialNumber } from "../support/outside-ca.ts";
import { ocspStatus, publishedCrl } from "../support/public-pki.ts";

const YESTERDAY = new Date(Date.now() - 86_400_000).toISOString();
let api: Client;
let n = 0;

beforeAll(async () => {
  api = await administrator();
});

const serial = () => toHex(randomSerialNumber());

async function importing(past: Record<string, unknown>, ca?: OutsideCa) {
  const { cert_pem, key_pem } = ca ?? (await outsideCa({ name: `Past ${n}` }));
  const config = { ca_cert_pem: cert_pem, ca_key_pem: key_pem, ...past };
  return api.post<{ id: string; config: Record<string, unknown>; message: string }>("/api/v1/issuers", {
    name: `Past ${++n}`,
    type: "GenericCA",
    config,
  });
}

async function imported(past: Record<string, unknown>, ca?: OutsideCa): Promise<string> {
  const made = await importing(past, ca);
  expect(made.status, JSON.stringify(made.body).slice(0, 500)).toBe(201);
  return made.body.id;
}

async function refused(past: Record<string, unknown>, message: string, ca?: OutsideCa) {
  expect(await importing(past, ca)).toMatchObject({ status: 400, body: { message: expect.stringContaining(message) } });
}

describe("what a CA issued and revoked before it is brought in", () => {
  it("is answered for: good, revoked, and unknown for what it never issued", async () => {
    const [plain, dated, revoked, alone] = [serial(), serial(), serial(), serial()];
    const id = await imported({
      issued: [
        { serial: plain.match(/../g)?.join(":").toUpperCase() },
        {
          serial_number: dated,
          not_before: YESTERDAY,
          not_after: new Date(Date.now() + 86_400_000).toISOString(),
          names: ["www.example.com", "10.0.0.1"],
          subject: "CN=www.example.com",
        },
        { serial: `00${revoked}` },
      ],
      revocations: [
        { serial: revoked, revoked_at: YESTERDAY, reason: "superseded" },
        { serial_number: alone, revoked_at: YESTERDAY, reason: "keyCompromise" },
      ],
    });
    expect(await ocspStatus(id, plain)).toBe("good");
    expect(await ocspStatus(id, dated)).toBe("good");
    expect(await ocspStatus(id, revoked)).toBe("revoked 4");
    expect(await ocspStatus(id, alone)).toBe("revoked 1");
    expect(await ocspStatus(id, serial())).toBe("unknown");
    const list = await publishedCrl(id);
    expect(list.entries.map((entry) => entry.serial).sort()).toEqual([revoked, alone].sort());
  });

  it("may be 20,000 certificates and as many revocations", async () => {
    const serials = Array.from({ length: 20_000 }, serial);
    const id = await imported({
      issued: serials.map((one) => ({ serial: one, not_before: YESTERDAY })),
      revocations: serials.map((one) => ({ serial_number: one, revoked_at: YESTERDAY, reason: "superseded" })),
    });
    expect((await publishedCrl(id)).entryCount).toBe(20_000);
    expect(await ocspStatus(id, serials[19_999] ?? "")).toBe("revoked 4");
  });

  it.each([
    [{ issued: [{ serial: "0a" }, { serial: "A" }] }, "config.issued.1: serial_number: stands in the list twice"],
    [{ issued: [{ serial: "0a" }, { serial: "0b", serial_number: "0b" }] }, "config.issued.1: serial"],
    [{ issued: [{ serial: "0a" }, {}] }, "config.issued.1: serial_number: is missing"],
    [{ issued: [{ serial: `1${"0".repeat(40)}` }] }, "config.issued.0: serial: has more than 20 octets"],
    [{ issued: [{ serial: "xy" }] }, "config.issued.0.serial"],
    [{ issued: [{ serial: "0a", not_before: "2026-02-02T00:00:00Z", not_after: YESTERDAY }] }, "config.issued.0"],
    [{ issued: [{ serial: "0a", colour: 1 }] }, "colour"],
    [{ crl: "nonsense!" }, "config.crl"],
  ])("%j is refused", async (past, message) => {
    await refused(JSON.parse(JSON.stringify(past).replace("2026-02-02", "2126-02-02")), message);
  });

  it("belongs to a CA that is brought in, and comes with it", async () => {
    const made = { name: "Made", type: "GenericCA", config: { issued: [{ serial: "0a" }] } };
    const message = expect.stringContaining("config.issued");
    expect(await api.post("/api/v1/issuers", made)).toMatchObject({ status: 400, body: { message } });
    const id = await imported({});
    const later = await api.put(`/api/v1/issuers/${id}`, { config: { issued: [{ serial: "0a" }] } });
    expect(later).toMatchObject({ status: 400, body: { message: expect.stringContaining("/issued") } });
  });
});

describe("the last CRL of a CA that is brought in", () => {
  it.each(["PEM", "base64"])("stands for a list of revocations, as %s", async (form) => {
    const ca = await outsideCa({ name: `Listed ${form}` });
    const [first, second] = [serial(), serial()];
    const revoked = [
      { serial: first, at: YESTERDAY, reason: 1 },
      { serial: second, at: new Date(Date.now() + 86_400_000).toISOString() },
    ];
    const der = await outsideCrl(ca, revoked, { number: 2n ** 70n });
    const id = await imported({ crl: form === "PEM" ? encodePem("X509 CRL", der) : toBase64(der) }, ca);
    expect(await ocspStatus(id, first)).toBe("revoked 1");
    expect(await ocspStatus(id, second)).toBe("revoked 0");
    const list = await publishedCrl(id);
    expect(list.number).toBeGreaterThan(2n ** 70n);
    expect(list.entryCount).toBe(2);
    expect(list.thisUpdate.getTime()).toBeLessThanOrEqual(Date.now());
  });

  it("may be of version 1, as openssl makes it without a configuration", async () => {
    const ca = await outsideCa({ name: "Version 1" });
    const one = serial();
    const id = await imported({ crl: toBase64(await outsideCrl(ca, [{ serial: one, at: YESTERDAY }])) }, ca);
    expect(await ocspStatus(id, one)).toBe("revoked 0");
  });

  it("is refused when it is not its own, not whole, or not signed by it", async () => {
    const [ca, other] = [await outsideCa({ name: "Mine" }), await outsideCa({ name: "Other" })];
    const impostor = await outsideCa({ name: "Mine" });
    const crl = async (of: OutsideCa, options = {}) => ({ crl: toBase64(await outsideCrl(of, [], options)) });
    await refused(await crl(other), "of another CA", ca);
    await refused(await crl(impostor), "signature", ca);
    await refused(await crl(ca, { number: 5n, delta: true }), "delta CRL", ca);
    await refused({ crl: encodePem("CERTIFICATE", ca.der) }, "X509 CRL", ca);
    expect((await importing(await crl(ca, { number: 5n }), ca)).status).toBe(201);
  });
});
