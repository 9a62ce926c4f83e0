import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type RunningServer, startServer } from "../support/server.ts";
import { bootstrap } from "./support/api.ts";
import { getPath, ocspBy, ocspVerdict, WAYS } from "./support/ocsp.ts";
import { createIssuer, fetchCa, type Issued, issue, NEW_KEY, revoke, type Scene, setScene } from "./support/scene.ts";
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

/** The CRL of a CA as a PEM file, its signature checked by openssl. */
async function fetchCrl(caId: string, caPem: string): Promise<string> {
  const { bytes, headers } = await scene.admin.send("GET", `/.well-known/pki/crl/${caId}`);
  expect(headers.get("Content-Type")).toBe("application/pkix-crl");
  const der = scratch.write(`${caId}.crl.der`, bytes);
  const pem = scratch.file(`${caId}.crl.pem`);
  const { text } = await must("openssl", ["crl", "-inform", "DER", "-in", der, "-out", pem, "-CAfile", caPem]);
  expect(text).toContain("verify OK");
  return pem;
}

const verify = (root: string, issued: Issued, ...more: string[]) =>
  run("openssl", ["verify", "-x509_strict", "-CAfile", root, "-untrusted", issued.chain, ...more, issued.leaf]);

describe("a root made inside", () => {
  for (const algorithm of Object.keys(NEW_KEY)) {
    it(`${algorithm}: openssl accepts the chain, the OCSP answers and the CRL`, async () => {
      const slug = algorithm.toLowerCase();
      const issuerId = `iss-${slug}`;
      await createIssuer(scene, issuerId, { ca_common_name: `Root ${algorithm}`, key_algorithm: algorithm });
      const root = await fetchCa(scene, issuerId);
      const issued = await issue(scene, issuerId, `leaf-${slug}`, { key: algorithm });
      const verified = await verify(root, issued, "-verify_hostname", `leaf-${slug}.example.com`);
      expect(verified.text).toContain(": OK");

      for (const way of WAYS) {
        const answer = await ocspBy(way, server.url, issuerId, issued, scratch);
        expect(ocspVerdict(answer), way).toEqual({ verified: true, status: "good", reason: null });
      }

      await revoke(scene, issued, "keyCompromise");
      for (const way of WAYS) {
        await eventually(async () => {
          const answer = await ocspBy(way, server.url, issuerId, issued, scratch);
          expect(ocspVerdict(answer), way).toEqual({ verified: true, status: "revoked", reason: "keyCompromise" });
        });
      }
      await eventually(async () => {
        const crl = await fetchCrl(issuerId, root);
        const refused = await verify(root, issued, "-crl_check", "-CRLfile", crl);
        expect(refused.text).toContain("certificate revoked");
      });
    });
  }
});

describe("what openssl asks", () => {
  let issued: Issued;
  beforeAll(async () => {
    await createIssuer(scene, "iss-asked", { ca_common_name: "Asked Root", key_algorithm: "ECDSA-P256" });
    issued = await issue(scene, "iss-asked", "asked");
  });

  it("with SHA-256 and SHA-1 CertIDs, and a nonce that comes back", async () => {
    for (const digest of ["-sha1", "-sha256"]) {
      const { text } = await must("openssl", [
        ...["ocsp", "-issuer", issued.issuer, digest, "-cert", issued.leaf, "-nonce"],
        ...["-url", `${server.url}/.well-known/pki/ocsp/iss-asked`, "-CAfile", issued.root],
      ]);
      expect(text).toContain("Response verify OK");
      expect(text).toMatch(/asked\.pem: good/);
      expect(text).not.toMatch(/nonce/i);
    }
  });

  it("about a serial that was never issued: unknown, never good", async () => {
    const { text } = await run("openssl", [
      ...["ocsp", "-issuer", issued.issuer, "-serial", "0x1234567890abcdef1234567890abcdef", "-no_nonce"],
      ...["-url", `${server.url}/.well-known/pki/ocsp/iss-asked`, "-CAfile", issued.root],
    ]);
    expect(text).toContain("Response verify OK");
    expect(text).toMatch(/: unknown/);
  });

  it("by GET in every form that clients send", async () => {
    const request = scratch.file("asked.req");
    await must("openssl", [
      ...["ocsp", "-issuer", issued.issuer, "-cert", issued.leaf, "-no_nonce", "-reqout", request],
    ]);
    const { stdout } = await must("openssl", ["base64", "-A", "-in", request]);
    const plain = stdout.toString().trim();
    const forms = [
      plain,
      plain.replace(/=+$/, ""),
      encodeURIComponent(plain),
      `/${plain}`,
      `//${encodeURIComponent(plain)}`,
    ];
    for (const form of forms) {
      const { stdout: body } = await must("curl", ["-sf", `${getPath(server.url, "iss-asked")}${form}`]);
      const response = scratch.write("asked.resp", body);
      const { text } = await must("openssl", [
        ...["ocsp", "-issuer", issued.issuer, "-cert", issued.leaf, "-no_nonce", "-respin", response],
        ...["-CAfile", issued.root],
      ]);
      expect(text, form).toMatch(/asked\.pem: good/);
    }
  });

  it("again, with what it has: 304 for an answer and a list that have not changed", async () => {
    for (const path of [`ocsp/iss-asked/${issued.serial}`, "crl/iss-asked", "ca/iss-asked"]) {
      const address = `${server.url}/.well-known/pki/${path}`;
      const status = async (...more: string[]) =>
        (await must("curl", ["-s", "-o", "/dev/null", "-w", "%{http_code}", ...more, address])).text;
      const etags = scratch.file("etags");
      // An OCSP answer is made anew every two seconds: the second question may just miss the first one's answer.
      await eventually(async () => {
        expect(await status("--etag-save", etags)).toBe("200");
        expect(await status("--etag-compare", etags), path).toBe("304");
      });
    }
  });

  it("exports PEM and PKCS#12 that openssl opens, without a private key", async () => {
    const { bytes } = await scene.admin.send("POST", `/api/v1/certificates/${issued.certificateId}/export/pkcs12`, {
      password: "pass word",
    });
    const file = scratch.write("asked.p12", bytes);
    const { text } = await must("openssl", ["pkcs12", "-in", file, "-passin", "pass:pass word", "-info", "-nodes"]);
    expect(text.match(/BEGIN CERTIFICATE/g)).toHaveLength(2);
    expect(text).toContain("PBES2");
    expect(text).not.toContain("PRIVATE KEY");
    const wrong = await run("openssl", ["pkcs12", "-in", file, "-passin", "pass:other", "-nokeys"]);
    expect(wrong.code).not.toBe(0);
    const pem = await scene.admin.send("GET", `/api/v1/certificates/${issued.certificateId}/export/pem?download=true`);
    expect(new TextDecoder().decode(pem.bytes)).toBe(scratch.read("asked.chain.pem"));
  });

  it("a hold that is lifted: revoked, then good again, and off the CRL", async () => {
    const held = await issue(scene, "iss-asked", "held");
    const status = async () => ocspVerdict(await ocspBy("post", server.url, "iss-asked", held, scratch)).status;
    await revoke(scene, held, "certificateHold");
    await eventually(async () => expect(await status()).toBe("revoked"));
    const listed = async () => {
      const crl = await fetchCrl("iss-asked", held.root);
      const { text } = await must("openssl", ["crl", "-in", crl, "-noout", "-text"]);
      return text.toLowerCase().includes(held.serial);
    };
    await eventually(async () => expect(await listed()).toBe(true));
    await scene.admin.post(`/api/v1/certificates/${held.certificateId}/release-hold`);
    await eventually(async () => expect(await status()).toBe("good"));
    await eventually(async () => expect(await listed()).toBe(false));
  });
});
