import { type ChildProcess, execFile, execFileSync, spawn } from "node:child_process";
import { generateKeyPairSync, type KeyObject, randomUUID, sign } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { Agent, request as httpsRequest } from "node:https";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { PROJECT } from "../scripts/local/settings.ts";
import { freePort } from "./openssl.ts";
import {
  CONNECTIONS,
  checkCertificate,
  type Issue,
  type KeyRequest,
  measure,
  printRate,
  type Rate,
  WARM_UP,
} from "./rate.ts";

const MODULE = "github.com/smallstep/certificates/cmd/step-ca@v0.30.2";
const NAME = "bench.example.com";

/**
 * step-ca's `/sign`, one request per certificate, on the same machine: persistent TLS connections, one one-time token
 * per request, step-ca's embedded store. Null without Go to build it.
 */
export async function benchStep(requests: readonly KeyRequest[], seconds: number): Promise<Rate | null> {
  const program = await stepCa();
  if (program === null) return null;
  const directory = mkdtempSync(path.join(tmpdir(), "bench-step-"));
  let child: ChildProcess | null = null;
  const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS });
  try {
    const port = await freePort();
    const key = writeConfiguration(directory, port);
    child = spawn(program, [path.join(directory, "ca.json")], { stdio: "ignore" });
    const ca = readFileSync(path.join(directory, "root.pem"));
    const issue: Issue = async (request) => {
      const body = JSON.stringify({ csr: request.csr, ott: token(key, port) });
      const answer = await post(agent, ca, port, "/1.0/sign", body);
      if (answer.status !== 201) throw new Error(`/1.0/sign: ${answer.status} ${answer.text.slice(0, 300)}`);
      checkCertificate((JSON.parse(answer.text) as { crt: string }).crt, request);
    };
    await comesUp(() => issue(requests[0] ?? { csr: "", spki: Buffer.alloc(0) }, 0));
    await measure(issue, requests, 1, WARM_UP);
    let best: Rate | null = null;
    for (let round = 0; round < 3; round++) {
      const rate = await measure(issue, requests, seconds);
      if (!best || rate.perSecond > best.perSecond) best = rate;
    }
    if (best) printRate("step-ca: /sign", best);
    return best;
  } finally {
    agent.destroy();
    child?.kill("SIGKILL");
    rmSync(directory, { recursive: true, force: true });
  }
}

/** The step-ca program, built once into .build; that takes some minutes. */
async function stepCa(): Promise<string | null> {
  const directory = path.join(PROJECT, ".build");
  const program = path.join(directory, "step-ca");
  if (existsSync(program)) return program;
  try {
    execFileSync("go", ["version"], { stdio: "ignore" });
  } catch {
    console.log("step-ca is not measured: there is no Go to build it with");
    return null;
  }
  console.log("building step-ca ...");
  const env = { ...process.env, CGO_ENABLED: "0", GOBIN: directory, GOFLAGS: "-mod=mod -buildvcs=false" };
  await promisify(execFile)("go", ["install", MODULE], { env, cwd: tmpdir() });
  return program;
}

/** Creates root, intermediate, store and a provisioner; returns the key that signs its tokens. */
function writeConfiguration(directory: string, port: number): KeyObject {
  const file = (name: string) => path.join(directory, name);
  const openssl = (args: string) => execFileSync("openssl", args.split(" "), { cwd: directory, stdio: "ignore" });
  const newKey = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
  writeFileSync(file("ca.ext"), "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n");
  openssl(`req -x509 ${newKey} -subj /CN=root -days 9 -keyout root.key -out root.pem`);
  openssl(`req -new ${newKey} -subj /CN=intermediate -keyout ca.key -out ca.csr`);
  openssl("x509 -req -in ca.csr -CA root.pem -CAkey root.key -days 9 -extfile ca.ext -out ca.pem");
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "prime256v1" });
  const key = { ...publicKey.export({ format: "jwk" }), kid: "bench", use: "sig", alg: "ES256" };
  const claims = { maxTLSCertDuration: "2160h", defaultTLSCertDuration: "2160h" };
  const configuration = {
    root: file("root.pem"),
    crt: file("ca.pem"),
    key: file("ca.key"),
    address: `127.0.0.1:${port}`,
    dnsNames: ["localhost", "127.0.0.1"],
    db: { type: "badgerv2", dataSource: file("db") },
    authority: { provisioners: [{ type: "JWK", name: "bench", key, claims }] },
  };
  writeFileSync(file("ca.json"), JSON.stringify(configuration));
  return privateKey;
}

function token(key: KeyObject, port: number): string {
  const now = Math.floor(Date.now() / 1000);
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const claims = { iss: "bench", aud: `https://localhost:${port}/1.0/sign`, sub: NAME, sans: [NAME] };
  const times = { iat: now, nbf: now - 10, exp: now + 300, jti: randomUUID() };
  const text = `${part({ alg: "ES256", kid: "bench", typ: "JWT" })}.${part({ ...claims, ...times })}`;
  return `${text}.${sign("sha256", Buffer.from(text), { key, dsaEncoding: "ieee-p1363" }).toString("base64url")}`;
}

function post(agent: Agent, ca: Buffer, port: number, path: string, body: string) {
  return new Promise<{ status: number; text: string }>((resolve, reject) => {
    const options = {
      agent,
      ca,
      host: "127.0.0.1",
      servername: "localhost",
      port,
      path,
      method: "POST",
      headers: { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) },
    };
    const request = httpsRequest(options, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (chunk: string) => {
        text += chunk;
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, text }));
    });
    request.on("error", reject);
    request.end(body);
  });
}

async function comesUp(attempt: () => Promise<void>): Promise<void> {
  const until = performance.now() + 20_000;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (performance.now() > until) throw error;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}
