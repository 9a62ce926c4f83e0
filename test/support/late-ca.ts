import { z } from "zod";
import type { Ca, Order } from "../../src/authority/ca.ts";
import { outsideCa as caType } from "../../src/authority/outside.ts";
import { type Bytes, fromHex } from "../../src/pki/bytes.ts";
import { buildTbsCertificate, compileIssuerTemplate, parseCertificate, signTbs } from "../../src/pki/certificate.ts";
import { keyIdentifier, parseSpki } from "../../src/pki/keys.ts";
import { encodeName } from "../../src/pki/names.ts";
import type { Context } from "../../src/platform/context.ts";
import { type OutsideCa, outsideCa, randomSerialNumber } from "./outside-ca.ts";

/** A CA elsewhere that takes orders and answers them later; what it was told and asked can be looked at. */
export class LateCa {
  readonly type = caType({
    config: z.strictObject({ account: z.string(), token: z.string() }),
    secrets: ["token"],
    connect: (_, { issuer_id }) => this.ca(issuer_id),
    end: async (_: Context, { config }) => {
      this.ended.push(config);
    },
  });
  readonly orders = new Map<string, Order>();
  /** Calls, as `order`, `poll`, `certificate`, `revoke`. */
  readonly calls: string[] = [];
  readonly ended: unknown[] = [];
  readonly revoked: { readonly serial: string; readonly reason: string | null }[] = [];
  ready = false;
  /** What the CA makes of an order that it should not. */
  tamper: (order: Order["approved"]) => Partial<Order["approved"]> = () => ({});
  /** Signs in place of the CA. */
  impostor: OutsideCa | null = null;
  private readonly root: OutsideCa;

  private constructor(root: OutsideCa) {
    this.root = root;
  }

  static async make(): Promise<LateCa> {
    return new LateCa(await outsideCa({ name: "Late Root" }));
  }

  private ca(issuer_id: string): Ca {
    return {
      issuer_id,
      ca_id: issuer_id,
      ca_key: null,
      ttl_seconds: 90 * 86_400,
      keepsOrders: false,
      chain: async () => this.root.cert_pem,
      order: async (order) => {
        this.calls.push("order");
        const reference = `late-${order.request_id}`;
        this.orders.set(reference, order);
        return { reference, retry_seconds: 30 };
      },
      poll: async () => {
        this.calls.push("poll");
        return this.ready ? "ready" : "pending";
      },
      certificate: async (reference) => {
        this.calls.push("certificate");
        const order = this.orders.get(reference);
        if (!order) throw new Error(`no order ${reference}`);
        return { der: await this.sign({ ...order.approved, ...this.tamper(order.approved) }) };
      },
      revoke: async ({ versions, reason }) => {
        this.calls.push("revoke");
        const at = new Date().toISOString();
        this.revoked.push(...versions.map(({ serial }) => ({ serial, reason })));
        const entries = versions.map((version) => {
          const changed = version.revoked_at === null;
          return { ...version, changed, ...(changed ? { revoked_at: at, reason: reason ?? "unspecified" } : {}) };
        });
        if (entries.length === 0) return { ok: false, code: "not_issued", message: "nothing was issued" };
        return { ok: true, entries, recording: { statements: [], wakeups: [], done: () => undefined } };
      },
      release: async () => ({ ok: false, code: "not_on_hold", message: "this CA lifts nothing" }),
      test: async () => null,
    };
  }

  private async sign(of: Order["approved"]): Promise<Bytes> {
    const by = this.impostor ?? this.root;
    const publicKey = parseSpki(fromHex(of.spki));
    const template = compileIssuerTemplate({
      issuerCertificate: parseCertificate(by.der),
      signatureAlgorithmIdentifier: by.signer.algorithmIdentifier,
      crlUrlsByShard: [["http://late.test/crl"]],
    });
    const now = Math.floor(Date.now() / 1000) * 1000;
    const tbs = buildTbsCertificate(template, {
      serial: randomSerialNumber(),
      notBefore: new Date(now),
      notAfter: new Date(now + (of.ttl_seconds - 1) * 1000),
      subject: encodeName(of.subject),
      publicKey,
      subjectKeyIdentifier: await keyIdentifier(publicKey),
      sans: of.sans,
      ekus: of.ekus,
    });
    return signTbs(tbs, by.signer);
  }
}
