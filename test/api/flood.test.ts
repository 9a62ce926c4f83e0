import { env } from "cloudflare:workers";
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type Ledger, ledgerOf } from "../../src/authority/ledger.ts";
import type { PublicContext } from "../../src/authority/local/public/context.ts";
import { answerPublicPki } from "../../src/authority/local/public/respond.ts";
import { fromHex, toHex } from "../../src/pki/bytes.ts";
import { randomSerial } from "../../src/pki/certificate.ts";
import { buildCertId, buildOcspRequest, parseOcspResponse } from "../../src/pki/ocsp.ts";
import type { Bindings } from "../../src/platform/context.ts";
import { openDatabase } from "../../src/platform/database.ts";
import { makeContext } from "../../worker/context.ts";
import { administrator, type Client } from "../support/api.ts";
import { issueLeaf } from "../support/ledgers.ts";
import { importedIssuer } from "../support/outside-ca.ts";

/** What anybody can ask for without a credential costs neither ledger nor database. */

const bindings = env as unknown as Bindings;
const spent = { statements: 0, calls: 0 };

interface CaRow {
  readonly ca_id: string;
  readonly ledger_id: string;
  readonly name_hash_sha1: string;
  readonly key_hash_sha1: string;
}

let api: Client;

beforeAll(async () => {
  api = await administrator();
});

beforeEach(() => {
  Object.assign(spent, { statements: 0, calls: 0 });
});

/** Counts each statement for the database and each call to a ledger. */
function context(): PublicContext {
  const real = makeContext({ ...env }, { waitUntil: () => undefined });
  const prepare = (text: string) => {
    spent.statements++;
    return bindings.DB.prepare(text);
  };
  const counted = (stub: object) =>
    new Proxy(stub, {
      get:
        (of, method) =>
        (...values: unknown[]) => {
          spent.calls++;
          return (of as Record<PropertyKey, (...values: unknown[]) => unknown>)[method]?.(...values);
        },
    });
  const ISSUER = { getByName: (name: string) => counted(bindings.ISSUER.getByName(name)) };
  return {
    ...real,
    db: openDatabase({ prepare } as unknown as D1Database),
    bindings: { ...bindings, ISSUER: ISSUER as unknown as Bindings["ISSUER"] },
  };
}

function get(path: string): Promise<Response> {
  return answerPublicPki(context(), new Request(`http://localhost${path}`), path);
}

async function statusOf(response: Promise<Response>): Promise<string | undefined> {
  const { basic, status } = parseOcspResponse(new Uint8Array(await (await response).arrayBuffer()));
  return basic?.responses[0]?.status.type ?? status;
}

function madeUp(): string {
  return toHex(randomSerial((length) => crypto.getRandomValues(new Uint8Array(length))));
}

async function rowsOf(issuer: string): Promise<CaRow[]> {
  const query = "select * from certificate_authorities where issuer_id = ? order by parent_ca_id is not null";
  return (await bindings.DB.prepare(query).bind(issuer).all<CaRow>()).results;
}

const leaf = async (ledger: Ledger, name: string) => (await issueLeaf(ledger, name)).serial;

function post(issuer: string, ca: CaRow, serial: string): Promise<Response> {
  const path = `/.well-known/pki/ocsp/${issuer}`;
  const certId = buildCertId("sha1", fromHex(ca.name_hash_sha1), fromHex(ca.key_hash_sha1), serial);
  const headers = { "Content-Type": "application/ocsp-request" };
  const body = buildOcspRequest([certId], crypto.getRandomValues(new Uint8Array(16)));
  return answerPublicPki(context(), new Request(`http://localhost${path}`, { method: "POST", body, headers }), path);
}

describe("a flood of made-up questions", () => {
  it("of random serials reaches no ledger, whichever form asks and however many CAs an issuer has", async () => {
    const { id } = await api.create<{ id: string }>("/api/v1/issuers", { name: "Flooded", type: "GenericCA" });
    for (const name of ["A", "B", "C"]) {
      await api.create(`/api/v1/issuers/${id}/intermediates`, { name, subject: { common_name: `Flooded ${name}` } });
    }
    const [own, below] = await rowsOf(id);
    if (!own || !below) throw new Error("no CAs");
    const serials = [
      await leaf(ledgerOf({ bindings }, own.ledger_id), "flood-own"),
      await leaf(ledgerOf({ bindings }, below.ledger_id), "flood-below"),
    ];
    // What an isolate has to know once: the CAs, and what signs for them.
    for (const serial of serials) expect(await statusOf(get(`/.well-known/pki/ocsp/${id}/${serial}`))).toBe("good");
    expect(await statusOf(post(id, own, madeUp()))).toBe("unknown");

    Object.assign(spent, { statements: 0, calls: 0 });
    for (let i = 0; i < 50; i++) {
      expect(await statusOf(get(`/.well-known/pki/ocsp/${id}/${madeUp()}`))).toBe("unknown");
      expect(await statusOf(post(id, own, madeUp()))).toBe("unknown");
      expect(await statusOf(post(id, below, madeUp()))).toBe("unknown");
    }
    expect(spent.calls).toBe(0);
    // A CA may be newer than what is known here: that is looked up at most once a second.
    expect(spent.statements).toBeLessThan(20);
  });

  it("of random serials reaches no ledger of a CA that was brought in either; its old serials have their status", async () => {
    const { id, known } = await importedIssuer(api, { revoked: 300 });
    const [own] = await rowsOf(id);
    if (!own) throw new Error("no CA");
    const issued = await leaf(ledgerOf({ bindings }, own.ledger_id), "flood-imported");
    expect(await statusOf(get(`/.well-known/pki/ocsp/${id}/${issued}`))).toBe("good");
    for (const serial of known.slice(0, 20)) expect(await statusOf(post(id, own, serial))).toBe("revoked");
    Object.assign(spent, { statements: 0, calls: 0 });
    for (let i = 0; i < 50; i++) expect(await statusOf(post(id, own, madeUp()))).toBe("unknown");
    // The filter takes one stranger in 1,500 for one of the CA's own.
    expect(spent.calls).toBeLessThan(3);
  });

  it("of random CA ids costs the database one statement in two seconds", async () => {
    await get("/.well-known/pki/ca/nobody-0").catch(() => undefined);
    Object.assign(spent, { statements: 0, calls: 0 });
    for (let i = 0; i < 200; i++) {
      const path = `/.well-known/pki/${["ca", "crl", "ocsp"][i % 3]}/nobody-${i}${i % 3 === 2 ? "/0a" : ""}`;
      await expect(get(path)).rejects.toMatchObject({ status: 404 });
    }
    expect(spent).toEqual({ statements: expect.any(Number), calls: 0 });
    expect(spent.statements).toBeLessThan(10);
  });

  it("hides no CA that was made a moment ago", async () => {
    await get("/.well-known/pki/ca/nobody-0").catch(() => undefined);
    const { id } = await api.create<{ id: string }>("/api/v1/issuers", { name: "Fresh", type: "GenericCA" });
    expect((await get(`/.well-known/pki/ca/${id}`)).status).toBe(200);
  });
});
