import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type RunningServer, startServer } from "../support/server.ts";
import { bootstrap, text } from "./support/api.ts";
import { ocspBy, ocspVerdict, WAYS } from "./support/ocsp.ts";
import {
  createIssuer,
  fetchCa,
  type Issued,
  issue,
  NEW_KEY,
  outsideCa,
  revoke,
  type Scene,
  setScene,
  signBelow,
} from "./support/scene.ts";
import { eventually, must, run, Scratch } from "./support/shell.ts";

let server: RunningServer;
let scene: Scene;
const scratch = new Scratch();

beforeAll(async () => {
  server = await startServer();
  scene = await setScene(await bootstrap(server.url, server.bootstrapToken), scratch);
});
afterAll(async () => {
  await server?.stop();
  scratch.remove();
});

/** What openssl says of a chain, with revocation of the leaf by the CRL of its own CA. */
const verify = (root: string, issued: Issued, ...more: string[]) =>
  run("openssl", ["verify", "-x509_strict", "-CAfile", root, "-untrusted", issued.chain, ...more, issued.leaf]);

/** Good by every way of asking, then revoked and on the CRL: one leaf of one CA. */
async function answersFor(caId: string, issued: Issued): Promise<void> {
  for (const way of WAYS) {
    const answer = await ocspBy(way, server.url, caId, issued, scratch);
    expect(ocspVerdict(answer), `${caId} by ${way}`).toEqual({ verified: true, status: "good", reason: null });
  }
  await revoke(scene, issued, "superseded");
  for (const way of WAYS) {
    await eventually(async () => {
      const answer = await ocspBy(way, server.url, caId, issued, scratch);
      expect(ocspVerdict(answer)).toEqual({ verified: true, status: "revoked", reason: "superseded" });
    });
  }
  await eventually(async () => {
    const { bytes } = await scene.admin.send("GET", `/.well-known/pki/crl/${caId}`);
    const { text: list } = await must("openssl", ["crl", "-inform", "DER", "-noout", "-text"], { input: bytes });
    expect(list.toLowerCase()).toContain(issued.serial);
  });
}

describe("a CA brought in", () => {
  for (const algorithm of ["ECDSA-P384", "RSA-2048"]) {
    it(`${algorithm}: signs under the certificate that openssl made`, async () => {
      const slug = algorithm.toLowerCase();
      const root = await outsideCa(scratch, `brought-${slug}`, NEW_KEY[algorithm] ?? []);
      await createIssuer(scene, `iss-brought-${slug}`, {
        ca_cert_pem: scratch.read(`brought-${slug}.pem`),
        ca_key_pem: scratch.read(`brought-${slug}.key`),
      });
      const shown = await scene.admin.get(`/api/v1/issuers/iss-brought-${slug}`);
      expect(JSON.stringify(shown)).not.toContain("PRIVATE KEY");
      const issued = await issue(scene, `iss-brought-${slug}`, `under-${slug}`);
      expect((await verify(root, issued)).text).toContain(": OK");
      await answersFor(`iss-brought-${slug}`, issued);
    });
  }

  it("may be a subordinate with its chain", async () => {
    const root = await outsideCa(scratch, "far", NEW_KEY["RSA-2048"] ?? []);
    await must("openssl", [
      ...["req", "-new", ...(NEW_KEY["ECDSA-P256"] ?? []), "-nodes", "-keyout", scratch.file("near.key")],
      ...["-subj", "/O=Example/CN=near", "-out", scratch.file("near.csr")],
    ]);
    await signBelow(scratch, "far", "near", scratch.file("near.csr"));
    await createIssuer(scene, "iss-near", {
      ca_cert_pem: scratch.read("near.pem") + scratch.read("far.pem"),
      ca_key_pem: scratch.read("near.key"),
    });
    const issued = await issue(scene, "iss-near", "under-near");
    expect((await verify(root, issued)).text).toContain(": OK");
    await answersFor("iss-near", issued);
  });

  it("is refused with a key that is not the certificate's", async () => {
    await outsideCa(scratch, "one", NEW_KEY["ECDSA-P256"] ?? []);
    await outsideCa(scratch, "other", NEW_KEY["ECDSA-P256"] ?? []);
    const config = { ca_cert_pem: scratch.read("one.pem"), ca_key_pem: scratch.read("other.key") };
    const body = { id: "iss-mismatch", name: "Mismatch", type: "GenericCA", config };
    const answer = await scene.admin.ask("POST", "/api/v1/issuers", body);
    expect(answer.status).toBe(400);
    expect((await scene.admin.ask("GET", "/api/v1/issuers/iss-mismatch")).status).toBe(404);
  });
});

describe("a subordinate whose key is made inside", () => {
  it("signs once the outside root has signed its request", async () => {
    const root = await outsideCa(scratch, "offline", NEW_KEY["ECDSA-P384"] ?? []);
    const made = await scene.admin.post("/api/v1/issuers", {
      id: "iss-sub",
      name: "Subordinate",
      type: "GenericCA",
      config: { subordinate: true, ca_common_name: "Subordinate CA", key_algorithm: "ECDSA-P256" },
    });
    const csr = text(made.config as Readonly<Record<string, unknown>>, "ca_csr_pem");
    await must("openssl", ["req", "-noout", "-verify"], { input: csr });
    await signBelow(scratch, "offline", "sub", scratch.write("sub.csr", csr));
    const ca_cert_pem = scratch.read("sub.pem") + scratch.read("offline.pem");
    await scene.admin.send("PUT", "/api/v1/issuers/iss-sub", { config: { ca_cert_pem } });
    const issued = await issue(scene, "iss-sub", "under-sub");
    expect((await verify(root, issued)).text).toContain(": OK");
    await answersFor("iss-sub", issued);
  });
});

describe("an RSA root that signs with PSS", () => {
  it("is accepted by openssl", async () => {
    await createIssuer(scene, "iss-pss", { ca_common_name: "PSS Root", key_algorithm: "RSA-2048", rsa_pss: true });
    const issued = await issue(scene, "iss-pss", "under-pss");
    expect((await verify(await fetchCa(scene, "iss-pss"), issued)).text).toContain(": OK");
    const { text: leaf } = await must("openssl", ["x509", "-in", issued.leaf, "-noout", "-text"]);
    expect(leaf).toContain("Signature Algorithm: rsassaPss");
    await answersFor("iss-pss", issued);
  });
});

describe("intermediates below an inside root", () => {
  beforeAll(async () => {
    await createIssuer(scene, "iss-tree", { ca_common_name: "Tree Root", key_algorithm: "ECDSA-P384" });
  });

  const intermediate = async (name: string, more: Readonly<Record<string, unknown>>) =>
    scene.admin.ask("POST", "/api/v1/issuers/iss-tree/intermediates", {
      name,
      subject: { common_name: name },
      algorithm: "ECDSA-P256",
      ttl_days: 365,
      ...more,
    });

  it("sign leaves where issuing_ca_id names them; path length and name constraints tighten and hold", async () => {
    const upper = await intermediate("Upper CA", {
      path_len_constraint: 1,
      name_constraints: [{ permitted: ["DNS:example.com"], excluded: ["DNS:secret.example.com"] }],
    });
    expect(upper.status, new TextDecoder().decode(upper.bytes)).toBe(201);
    const upperId = text(upper.body, "id");
    const lower = await intermediate("Lower CA", {
      parent_ca_id: upperId,
      path_len_constraint: 0,
      ttl_days: 180,
      name_constraints: [{ permitted: ["DNS:example.com"], excluded: ["DNS:secret.example.com"] }],
    });
    expect(lower.status, new TextDecoder().decode(lower.bytes)).toBe(201);
    const lowerId = text(lower.body, "id");

    const wider = { parent_ca_id: upperId, path_len_constraint: 0, ttl_days: 180 };
    const refusals = [
      await intermediate("Too deep", { parent_ca_id: lowerId, ttl_days: 90 }),
      await intermediate("Longer path", { ...wider, path_len_constraint: 5 }),
      await intermediate("Other names", { ...wider, name_constraints: [{ permitted: ["DNS:example.org"] }] }),
      await intermediate("Longer life", { ...wider, ttl_days: 36_500 }),
    ];
    expect(refusals.map((answer) => [answer.status, text(answer.body, "message") !== ""])).toEqual(
      refusals.map(() => [400, true]),
    );

    await scene.admin.send("PUT", "/api/v1/issuers/iss-tree", { config: { issuing_ca_id: lowerId } });
    const issued = await issue(scene, "iss-tree", "in-tree");
    const root = await fetchCa(scene, "iss-tree");
    expect((await verify(root, issued)).text).toContain(": OK");
    const { text: leaf } = await must("openssl", ["x509", "-in", issued.leaf, "-noout", "-text"]);
    expect(leaf).toContain(`/.well-known/pki/crl/${lowerId}`);
    expect(leaf).toContain(`/.well-known/pki/ocsp/${lowerId}`);
    const { text: above } = await must("openssl", ["x509", "-in", issued.issuer, "-noout", "-text"]);
    expect(above).toContain("DNS:example.com");
    expect(above).toContain("pathlen:0");
    await answersFor(lowerId, issued);
    // The issuer's own address answers for what its intermediates issued as well.
    const answer = await ocspBy("post", server.url, "iss-tree", issued, scratch);
    expect(ocspVerdict(answer)).toMatchObject({ verified: true, status: "revoked" });
  });

  it("retire in two phases; with a reason the parent revokes them", async () => {
    const made = await intermediate("Retiring CA", { path_len_constraint: 0 });
    expect(made.status, new TextDecoder().decode(made.bytes)).toBe(201);
    const id = text(made.body, "id");
    const path = `/api/v1/intermediates/${id}/retire`;
    expect((await scene.admin.post(path)).state).toBe("retiring");
    expect((await scene.admin.ask("POST", path)).status).toBe(409);
    const reason = "cessationOfOperation";
    expect((await scene.admin.post(path, { confirm: true, reason })).state).toBe("retired");
    const root = await fetchCa(scene, "iss-tree");
    const leaf = await fetchCa(scene, id);
    const { text: line } = await must("openssl", ["x509", "-in", leaf, "-noout", "-serial"]);
    const serial = line.trim().replace("serial=", "").toLowerCase();
    // To its parent the CA's certificate is one that it issued, like any other.
    const retired: Issued = { certificateId: "", serial, leaf, chain: leaf, issuer: root, root, key: "" };
    for (const way of WAYS) {
      await eventually(async () => {
        const verdict = ocspVerdict(await ocspBy(way, server.url, "iss-tree", retired, scratch));
        expect(verdict).toEqual({ verified: true, status: "revoked", reason });
      });
    }
    await eventually(async () => {
      const { bytes } = await scene.admin.send("GET", "/.well-known/pki/crl/iss-tree");
      const { text: list } = await must("openssl", ["crl", "-inform", "DER", "-noout", "-text"], { input: bytes });
      expect(list.toLowerCase()).toContain(serial);
    });
  });
});
