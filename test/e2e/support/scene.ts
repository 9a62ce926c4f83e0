import { type Api, text } from "./api.ts";
import { must, type Scratch } from "./shell.ts";

/** Everything a certificate record needs besides its issuer, and the agent that asks for certificates. */
export interface Scene {
  readonly admin: Api;
  readonly agent: Api;
  readonly agentId: string;
  readonly scratch: Scratch;
}

/** Files of an issued certificate, in the scratch directory. */
export interface Issued {
  readonly certificateId: string;
  /** Lower-case hex. */
  readonly serial: string;
  /** The leaf alone. */
  readonly leaf: string;
  /** The leaf and every CA above it up to the root. */
  readonly chain: string;
  /** The CA certificate that signed the leaf. */
  readonly issuer: string;
  readonly root: string;
  readonly key: string;
}

/** How `openssl req` makes a key of each algorithm. */
export const NEW_KEY: Readonly<Record<string, readonly string[]>> = {
  "ECDSA-P256": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
  "ECDSA-P384": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"],
  "ECDSA-P521": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"],
  "RSA-2048": ["-newkey", "rsa:2048"],
  "RSA-3072": ["-newkey", "rsa:3072"],
  "RSA-4096": ["-newkey", "rsa:4096"],
  Ed25519: ["-newkey", "ed25519"],
};

export async function setScene(admin: Api, scratch: Scratch): Promise<Scene> {
  await admin.post("/api/v1/teams", { id: "t-e2e", name: "Team" });
  await admin.post("/api/v1/owners", { id: "o-e2e", name: "Owner", email: "owner@example.com", team_id: "t-e2e" });
  await admin.post("/api/v1/renewal-policies", { id: "rp-e2e", name: "Policy" });
  await admin.post("/api/v1/profiles", {
    id: "prof-e2e",
    name: "Any key",
    max_ttl_seconds: 90 * 86_400,
    allowed_key_algorithms: [
      { algorithm: "RSA", min_size: 2048 },
      { algorithm: "ECDSA", min_size: 256 },
      { algorithm: "Ed25519", min_size: 256 },
    ],
    allowed_ekus: ["serverAuth", "clientAuth"],
  });
  const agent = await admin.post("/api/v1/agents", { id: "agent-e2e", name: "agent", hostname: "agent.example.com" });
  await admin.post("/api/v1/targets", {
    id: "tgt-e2e",
    name: "target",
    type: "NGINX",
    agent_id: "agent-e2e",
    config: { cert_path: "/tmp/web.pem", key_path: "/tmp/web.key" },
  });
  return { admin, agent: admin.as(text(agent, "api_key")), agentId: "agent-e2e", scratch };
}

export async function createIssuer(scene: Scene, id: string, config: Readonly<Record<string, unknown>>): Promise<void> {
  await scene.admin.post("/api/v1/issuers", { id, name: id, type: "GenericCA", config });
}

const CA_EXTENSIONS =
  "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n";

/** A root that openssl makes and keeps: `${name}.pem` and `${name}.key`; `more` are extensions beside the usual ones. */
export async function outsideCa(scratch: Scratch, name: string, newKey: readonly string[], more = ""): Promise<string> {
  const config = `[req]\ndistinguished_name=dn\n[dn]\n[ca]\n${CA_EXTENSIONS}${more}`;
  await must("openssl", [
    ...[
      "req",
      "-x509",
      ...newKey,
      "-nodes",
      "-keyout",
      scratch.file(`${name}.key`),
      "-out",
      scratch.file(`${name}.pem`),
    ],
    ...["-subj", `/CN=${name}`, "-days", "3650"],
    ...["-config", scratch.write(`${name}.cnf`, config), "-extensions", "ca"],
  ]);
  return scratch.file(`${name}.pem`);
}

/** Signs a request as an outside CA does, for a CA below it: `${name}.pem`. */
export async function signBelow(scratch: Scratch, outside: string, name: string, csr: string): Promise<void> {
  const extensions = `${CA_EXTENSIONS}authorityKeyIdentifier=keyid\n`;
  await must("openssl", [
    ...["x509", "-req", "-in", csr, "-CA", scratch.file(`${outside}.pem`), "-CAkey", scratch.file(`${outside}.key`)],
    ...["-days", "1825", "-extfile", scratch.write(`${name}.ext`, extensions), "-out", scratch.file(`${name}.pem`)],
  ]);
}

/** The CA certificate that the server publishes, as a PEM file. */
export async function fetchCa(scene: Scene, caId: string): Promise<string> {
  const { bytes } = await scene.admin.send("GET", `/.well-known/pki/ca/${caId}`);
  const der = scene.scratch.write(`${caId}.der`, bytes);
  const pem = scene.scratch.file(`${caId}.pem`);
  await must("openssl", ["x509", "-inform", "DER", "-in", der, "-out", pem]);
  return pem;
}

/** Makes a certificate record, asks for issuance, answers its CSR as the agent and picks the chain up. */
export async function issue(
  scene: Scene,
  issuerId: string,
  name: string,
  options: { key?: string; commonName?: string; sans?: readonly string[]; profile?: string } = {},
): Promise<Issued> {
  const { admin, agent, agentId, scratch } = scene;
  const certificateId = `mc-${name}`;
  const common_name = options.commonName ?? `${name}.example.com`;
  await admin.post("/api/v1/certificates", {
    id: certificateId,
    name,
    common_name,
    sans: options.sans ?? [common_name],
    issuer_id: issuerId,
    certificate_profile_id: options.profile ?? "prof-e2e",
    owner_id: "o-e2e",
    team_id: "t-e2e",
    renewal_policy_id: "rp-e2e",
    target_ids: ["tgt-e2e"],
  });
  await admin.post(`/api/v1/certificates/${certificateId}/renew`);
  const key = scratch.file(`${name}.key`);
  const csr = scratch.file(`${name}.csr`);
  await must("openssl", [
    "req",
    "-new",
    ...(NEW_KEY[options.key ?? "ECDSA-P256"] ?? []),
    "-nodes",
    "-keyout",
    key,
    "-out",
    csr,
    "-subj",
    options.commonName === undefined ? `/CN=${name}.example.com` : "/",
  ]);
  const csr_pem = scratch.read(`${name}.csr`);
  await agent.post(`/api/v1/agents/${agentId}/csr`, { certificate_id: certificateId, csr_pem });
  const picked = await agent.get(`/api/v1/agents/${agentId}/certificates/${certificateId}`);
  const pems = text(picked, "certificate_pem").match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n?/g);
  if (!pems || pems.length < 2) throw new Error(`the chain of ${name} has ${pems?.length ?? 0} certificates`);
  const leaf = scratch.write(`${name}.pem`, pems[0] ?? "");
  const { text: line } = await must("openssl", ["x509", "-in", leaf, "-noout", "-serial"]);
  return {
    certificateId,
    serial: line.trim().replace("serial=", "").toLowerCase(),
    leaf,
    chain: scratch.write(`${name}.chain.pem`, pems.join("")),
    issuer: scratch.write(`${name}.issuer.pem`, pems[1] ?? ""),
    root: scratch.write(`${name}.root.pem`, pems.at(-1) ?? ""),
    key,
  };
}

export async function revoke(scene: Scene, issued: Issued, reason: string): Promise<void> {
  await scene.admin.post(`/api/v1/certificates/${issued.certificateId}/revoke`, { reason });
}
