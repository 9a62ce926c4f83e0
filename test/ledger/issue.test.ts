import { evictDurableObject } from "cloudflare:test";
import { describe, expect, it } from "vitest";
import { parseCertificate, verifyIssued } from "../../src/pki/certificate.ts";
import { KEY_ALGORITHMS } from "../../src/pki/keys.ts";
import { expectOk, inside, issueOne, leafRequest, newRoot } from "./support.ts";

describe("issuing", () => {
  it("signs a leaf within the request and the CA, with pointers to the CA's status", async () => {
    const { ledger, ca } = await newRoot();
    const issued = await issueOne(ledger, "job-1");
    const [root] = ca.chain;
    if (!root) throw new Error("no root");
    const leaf = parseCertificate(issued.der);
    expect(await verifyIssued(leaf, parseCertificate(root))).toBe(true);
    expect(leaf.serial).toBe(issued.serial);
    expect(issued.serial).toMatch(/^[0-7][0-9a-f]{33}$/);
    expect(leaf.crlUrls).toEqual([`http://pki.test/.well-known/pki/crl/${ca.ca_id}`]);
    expect(leaf.ocspUrls).toEqual([`http://pki.test/.well-known/pki/ocsp/${ca.ca_id}`]);
    expect(leaf.caIssuersUrls).toEqual([`http://pki.test/.well-known/pki/ca/${ca.ca_id}`]);
    expect(leaf.notAfter.getTime() - leaf.notBefore.getTime() + 1000).toBe(86_400_000);
    expect(leaf.notBefore.getTime()).toBeLessThan(Date.now() - 290_000);
  });

  it("signs with every kind of CA key, RSASSA-PSS among them", async () => {
    for (const algorithm of KEY_ALGORITHMS) {
      for (const pss of algorithm === "RSA-2048" ? [false, true] : [false]) {
        const { ledger, ca } = await newRoot({ algorithm, pss });
        const root = parseCertificate(ca.chain[0] ?? new Uint8Array(0));
        expect(await verifyIssued(root, root), algorithm).toBe(true);
        const leaf = parseCertificate((await issueOne(ledger, "job-1")).der);
        expect(await verifyIssued(leaf, root), algorithm).toBe(true);
        const responder = parseCertificate(expectOk(await ledger.responder()).certificate);
        expect(await verifyIssued(responder, root), algorithm).toBe(true);
        expect((await ledger.crls())[0], algorithm).toMatchObject({
          number: expect.stringMatching(/^\d+$/),
          last_error: null,
        });
      }
    }
  });

  it("inv 6: 200 concurrent submissions of one request are one certificate", async () => {
    const { ledger, stub } = await newRoot();
    const request = await leafRequest("job-same");
    const answers = await Promise.all(Array.from({ length: 200 }, () => ledger.issue([request])));
    const serials = new Set(answers.map(([answer]) => (answer?.ok ? answer.serial : "refused")));
    expect(serials.size).toBe(1);
    const rows = await inside(stub, (_, state) =>
      state.storage.sql.exec<{ n: number }>("select count(*) as n from entries where kind = 'leaf'").one(),
    );
    expect(rows.n).toBe(1);
  });

  it("inv 2: 200 requests at once have 200 serials, also across batches", async () => {
    const { ledger } = await newRoot();
    const requests = await Promise.all(Array.from({ length: 200 }, (_, i) => leafRequest(`job-${i}`)));
    const answers = (
      await Promise.all([ledger.issue(requests.slice(0, 100)), ...requests.slice(100).map((r) => ledger.issue([r]))])
    ).flat();
    expect(new Set(answers.map((answer) => (answer.ok ? answer.serial : "refused"))).size).toBe(200);
  });

  it("inv 6: a request id that comes again with another key or other names is refused", async () => {
    const { ledger } = await newRoot();
    const first = await issueOne(ledger, "job-x");
    const [again] = await ledger.issue([await leafRequest("job-x", { ttl_seconds: 3_600 })]);
    expect(again).toMatchObject({ ok: true, serial: first.serial });
    const [other] = await ledger.issue([await leafRequest("job-x", { sans: [{ type: "dns", value: "other.test" }] })]);
    expect(other).toMatchObject({ ok: false, code: "request_conflict" });
  });

  it("inv 6: the same certificate is answered after the object was evicted", async () => {
    const { ledger, stub } = await newRoot();
    const first = await issueOne(ledger, "job-e");
    await evictDurableObject(stub);
    expect(await issueOne(ledger, "job-e")).toMatchObject({ serial: first.serial });
    expect((await issueOne(ledger, "job-e2")).serial).not.toBe(first.serial);
  });
});
