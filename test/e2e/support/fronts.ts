import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { delimiter, join } from "node:path";
import { eventually, must, type Scratch } from "./shell.ts";

/** A proxy in front of a server, on free ports of loopback. */
export interface Front {
  readonly plainPort: number;
  readonly tlsPort: number;
  stop(): Promise<void>;
}

export async function freePort(): Promise<number> {
  const socket = createServer().listen(0, "127.0.0.1");
  await once(socket, "listening");
  const address = socket.address();
  socket.close();
  await once(socket, "close");
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

/** A program that runs until it is told to stop. */
export function daemon(program: string, args: readonly string[]): { stop(): Promise<void> } {
  const path = [process.env.PATH ?? "", "/usr/sbin"].join(delimiter);
  const child: ChildProcess = spawn(program, args, { env: { ...process.env, PATH: path }, stdio: "ignore" });
  const ended = once(child, "exit");
  return {
    async stop() {
      if (child.exitCode === null) child.kill("SIGTERM");
      await ended;
    },
  };
}

/** The top of an nginx.conf that leaves nothing outside of `directory`, which it makes. */
export function nginxPreamble(directory: string): string {
  mkdirSync(directory);
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
    (name) => `${name}_temp_path ${directory}/${name};`,
  );
  return `daemon off; master_process off; pid ${directory}/pid; error_log ${directory}/error.log info; events {}
http { access_log off; ${temporary.join(" ")}`;
}

export async function startNginx(scratch: Scratch, upstream: number): Promise<Front> {
  const { plainPort, tlsPort, pem } = await prepared(scratch);
  const secret = scratch.write("secret.conf", docsBlock("nginx", "X-Trusted-Proxy-Secret"));
  const servers = docsBlock("nginx", "ssl_certificate_key")
    .replaceAll("127.0.0.1:8787", `127.0.0.1:${upstream}`)
    .replace("listen 443", `listen 127.0.0.1:${tlsPort}`)
    .replace("listen 80", `listen 127.0.0.1:${plainPort}`)
    .replaceAll(/\/etc\/nginx\/tls\/pki\.(?:pem|key)/g, pem)
    .replaceAll("/etc/nginx/certctl-proxy-secret.conf", secret);
  const config = scratch.write("nginx.conf", `${nginxPreamble(scratch.file("nginx"))}\n${servers}}\n`);
  return running(daemon("nginx", ["-p", scratch.path, "-c", config]), plainPort, tlsPort);
}

export async function startHaproxy(scratch: Scratch, upstream: number): Promise<Front> {
  const { plainPort, tlsPort, pem } = await prepared(scratch);
  const defaults = "defaults\n    timeout connect 5s\n    timeout client 30s\n    timeout server 30s\n";
  const blocks = docsBlock("haproxy", "X-Trusted-Proxy-Secret")
    .replaceAll("127.0.0.1:8787", `127.0.0.1:${upstream}`)
    .replace("bind :443", `bind 127.0.0.1:${tlsPort}`)
    .replace("bind :80", `bind 127.0.0.1:${plainPort}`)
    .replace("/etc/haproxy/tls/pki.pem", pem);
  const config = scratch.write("haproxy.cfg", defaults + blocks);
  return running(daemon("haproxy", ["-db", "-f", config]), plainPort, tlsPort);
}

/** The fenced block of docs/operations.md in that language that has `word` in it. */
function docsBlock(language: string, word: string): string {
  const docs = readFileSync(new URL("../../../docs/operations.md", import.meta.url), "utf8");
  const blocks = [...docs.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\`$`, "gm"))].map(
    (match) => match[1] ?? "",
  );
  const block = blocks.find((text) => text.includes(word));
  if (block === undefined) throw new Error(`docs/operations.md has no ${language} block with ${word}`);
  return block;
}

/** Ports, and a file with a certificate and its key. */
async function prepared(scratch: Scratch): Promise<{ plainPort: number; tlsPort: number; pem: string }> {
  const pem = join(scratch.path, "tls.pem");
  const name = ["-subj", "/CN=pki.example.com", "-days", "2"];
  await must("openssl", [
    ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", ...name],
    ...["-keyout", pem, "-out", scratch.file("tls.crt")],
  ]);
  scratch.write("tls.pem", scratch.read("tls.pem") + scratch.read("tls.crt"));
  return { plainPort: await freePort(), tlsPort: await freePort(), pem };
}

async function running(front: { stop(): Promise<void> }, plainPort: number, tlsPort: number): Promise<Front> {
  await eventually(async () => {
    const socket = connect({ port: plainPort, host: "127.0.0.1" });
    await once(socket, "connect");
    socket.destroy();
  }, 20);
  return { plainPort, tlsPort, stop: front.stop };
}
