import { mkdirSync } from "node:fs";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type RunningServer, startServer } from "../support/server.ts";
import { bootstrap } from "./support/api.ts";
import { daemon, freePort, nginxPreamble } from "./support/fronts.ts";
import { createIssuer, type Issued, issue, revoke, type Scene, setScene } from "./support/scene.ts";
import { describeWith, eventually, must, run, Scratch } from "./support/shell.ts";

let server: RunningServer;
let scene: Scene;
const scratch = new Scratch();

beforeAll(async () => {
  server = await startServer();
  scene = await setScene(await bootstrap(server.url, server.bootstrapToken), scratch);
  await createIssuer(scene, "iss-clients", { ca_common_name: "Clients Root", key_algorithm: "ECDSA-P256" });
});
afterAll(async () => {
  await server?.stop();
  scratch.remove();
});

const ocspUrl = () => `${server.url}/.well-known/pki/ocsp/iss-clients`;

async function fetchCrl(): Promise<string> {
  const { bytes } = await scene.admin.send("GET", "/.well-known/pki/crl/iss-clients");
  const der = scratch.write("clients.crl.der", bytes);
  const pem = scratch.file("clients.crl.pem");
  await must("openssl", ["crl", "-inform", "DER", "-in", der, "-out", pem]);
  return pem;
}

describeWith("GnuTLS", ["ocsptool", "certtool"], () => {
  const ask = async (issued: Issued) =>
    (
      await run("ocsptool", [
        `--ask=${ocspUrl()}`,
        `--load-cert=${issued.leaf}`,
        `--load-issuer=${issued.issuer}`,
        `--load-signer=${issued.issuer}`,
      ])
    ).text;
  const check = async (issued: Issued) =>
    (
      await run("certtool", [
        "--verify",
        `--load-ca-certificate=${issued.root}`,
        `--infile=${issued.chain}`,
        `--load-crl=${await fetchCrl()}`,
      ])
    ).text;

  it("sees good, then revoked, by OCSP and by CRL", async () => {
    const issued = await issue(scene, "iss-clients", "gnutls");
    const good = await ask(issued);
    expect(good).toMatch(/Verifying OCSP Response: Success/);
    expect(good).toMatch(/Certificate Status: good/);
    expect(await check(issued)).toMatch(/Chain verification output: Verified/);
    await revoke(scene, issued, "cessationOfOperation");
    await eventually(async () => expect(await ask(issued)).toMatch(/Certificate Status: revoked/));
    expect(await ask(issued)).toMatch(/Verifying OCSP Response: Success/);
    await eventually(async () => expect(await check(issued)).toMatch(/revoked/));
  });
});

describeWith("Java", ["java", "javac", "keytool"], () => {
  const validate = async (issued: Issued, by: "ocsp" | "crl") => {
    const flags = by === "crl" ? ["-Dcom.sun.security.enableCRLDP=true"] : [];
    const { text } = await run("java", [...flags, "-cp", scratch.path, "Check", issued.root, issued.chain, by]);
    return text.trim();
  };

  beforeAll(async () => {
    await must("javac", ["-d", scratch.path, new URL("./support/Check.java", import.meta.url).pathname]);
  });

  it("validates by OCSP (GET, SHA-1 CertID), then finds it revoked", async () => {
    const issued = await issue(scene, "iss-clients", "java-ocsp");
    expect(await validate(issued, "ocsp")).toBe("valid");
    await revoke(scene, issued, "affiliationChanged");
    await eventually(async () => expect(await validate(issued, "ocsp")).toMatch(/^invalid REVOKED/));
  });

  it("validates by the CRL of the distribution point, then finds it revoked", async () => {
    const issued = await issue(scene, "iss-clients", "java-crl");
    expect(await validate(issued, "crl")).toBe("valid");
    await revoke(scene, issued, "superseded");
    await eventually(async () => expect(await validate(issued, "crl")).toMatch(/^invalid REVOKED/));
  });

  it("follows a certificate to its own list when there are several", async () => {
    const config = { ca_common_name: "Sharded Root", key_algorithm: "ECDSA-P256", crl_shards: 4 };
    await createIssuer(scene, "iss-sharded", config);
    const issued = await issue(scene, "iss-sharded", "java-shard");
    const { text } = await must("openssl", ["x509", "-in", issued.leaf, "-noout", "-ext", "crlDistributionPoints"]);
    const list = /URI:(\S+\/crl\/iss-sharded\/[1-4])$/m.exec(text)?.[1];
    if (list === undefined) throw new Error(`no list of its own: ${text}`);
    expect(await validate(issued, "crl")).toBe("valid");
    await revoke(scene, issued, "keyCompromise");
    await eventually(async () => expect(await validate(issued, "crl")).toMatch(/^invalid REVOKED/));
    const { stdout } = await must("curl", ["-sf", list]);
    const der = scratch.write("shard.der", stdout);
    await must("openssl", ["crl", "-inform", "DER", "-in", der, "-out", scratch.file("shard.pem")]);
    const verified = await run("openssl", [
      ...["verify", "-crl_check", "-extended_crl", "-CRLfile", scratch.file("shard.pem")],
      ...["-CAfile", issued.root, issued.leaf],
    ]);
    expect(verified.text).toContain("certificate revoked");
  });

  it("keytool lists every certificate of a PKCS#12 export as trusted", async () => {
    const issued = await issue(scene, "iss-clients", "keytool");
    const path = `/api/v1/certificates/${issued.certificateId}/export/pkcs12`;
    const { bytes } = await scene.admin.send("POST", path, { password: "changeit" });
    const file = scratch.write("keytool.p12", bytes);
    const { text } = await must("keytool", [
      ...["-J-Duser.language=en", "-list", "-storetype", "PKCS12", "-keystore", file, "-storepass", "changeit"],
    ]);
    expect(text).toMatch(/contains 2 entries/);
    expect(text.match(/trustedCertEntry/g)).toHaveLength(2);
  });
});

describeWith("NSS", ["certutil", "crlutil", "vfychain", "curl"], () => {
  it("knows no partitioned list, as docs/revocation.md says; by OCSP and by the whole list it is right", async () => {
    const config = { ca_common_name: "NSS Root", key_algorithm: "ECDSA-P256", crl_shards: 2 };
    await createIssuer(scene, "iss-nss", config);
    const [good, bad] = [await issue(scene, "iss-nss", "nss-good"), await issue(scene, "iss-nss", "nss-bad")];
    await revoke(scene, bad, "superseded");
    const database = scratch.file("nss");
    mkdirSync(database);
    const nss = (program: string, ...args: string[]) => run(program, ["-d", database, ...args]);
    await nss("certutil", "-N", "--empty-password");
    await nss("certutil", "-A", "-n", "root", "-t", "CT,C,C", "-i", good.root);
    const judge = async (issued: Issued, by: "ocsp" | "crl") => {
      const how = ["-pp", "-u", "1", "-g", "leaf", "-h", "requireFreshInfo", "-m", by];
      return (await nss("vfychain", ...how, "-a", issued.leaf)).text.match(/Chain is good|has been revoked/)?.[0];
    };
    const load = async (list: string) => {
      const { bytes } = await scene.admin.send("GET", `/.well-known/pki/crl/iss-nss${list}`);
      return (await nss("crlutil", "-I", "-t", "1", "-i", scratch.write("nss.crl", bytes))).text;
    };
    expect(await judge(good, "ocsp")).toBe("Chain is good");
    await eventually(async () => expect(await judge(bad, "ocsp")).toBe("has been revoked"));
    expect(await load("/1")).toContain("SEC_ERROR_CRL_UNKNOWN_CRITICAL_EXTENSION");
    expect(await judge(good, "crl")).toBe("has been revoked");
    await eventually(async () => {
      expect(await load("")).toBe("");
      expect(await judge(bad, "crl")).toBe("has been revoked");
    });
    expect(await judge(good, "crl")).toBe("Chain is good");
  });
});

describeWith("nginx", ["nginx", "curl"], () => {
  let nginx: ReturnType<typeof daemon> | null = null;
  afterAll(() => nginx?.stop());

  it("staples the OCSP answer, and curl --cert-status accepts it", async () => {
    const issued = await issue(scene, "iss-clients", "nginx", { sans: ["nginx.example.com"] });
    const port = await freePort();
    const config = scratch.write(
      "nginx.conf",
      `${nginxPreamble(scratch.file("nginx"))}
  server {
    listen 127.0.0.1:${port} ssl;
    ssl_certificate ${issued.chain};
    ssl_certificate_key ${issued.key};
    ssl_trusted_certificate ${issued.root};
    ssl_stapling on;
    ssl_stapling_verify on;
    location / { return 204; }
  }
}
`,
    );
    nginx = daemon("nginx", ["-p", scratch.path, "-c", config]);
    // The first handshake starts the fetch of the staple; a later one carries it.
    await eventually(async () => {
      await must("curl", [
        ...["-sS", "--cert-status", "--cacert", issued.root, "--resolve", `nginx.example.com:${port}:127.0.0.1`],
        `https://nginx.example.com:${port}/`,
      ]);
    });
  });
});
