import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseOcspResponse } from "../src/pki/ocsp.ts";
import { type HttpAnswer, httpRequest, NoAnswer } from "../test/support/connection.ts";
import { type Load, type LoadResult, runLoad, shown } from "./load.ts";

/** The PEM certificates of a text, in order. */
export function pemBlocks(text: string): string[] {
  return text.match(/-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g) ?? [];
}

/**
 * `openssl ocsp -multi 2` over the same serials on the same machine: it signs each answer and closes each connection.
 * Best of three rounds.
 */
export async function benchOpenssl(
  chains: readonly string[],
  questions: readonly Uint8Array[],
  connections: number,
  seconds: number,
): Promise<LoadResult> {
  const dir = mkdtempSync(join(tmpdir(), "bench-ocsp-"));
  const file = (name: string) => join(dir, name);
  let responder: ChildProcess | null = null;
  try {
    writeFileSync(file("ca.pem"), pemBlocks(chains[0] ?? "").at(-1) ?? "");
    const serials = chains.map((chain) => new X509Certificate(pemBlocks(chain)[0] ?? "").serialNumber);
    // Unique subjects: openssl refuses an index with a duplicate.
    const lines = serials.map((serial, i) => `V\t360101000000Z\t\t${serial}\tunknown\t/CN=bench ${i}\n`);
    writeFileSync(file("index.txt"), lines.join(""));
    const make = `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=responder -days 9 -keyout ${file("r.key")} -out ${file("r.pem")}`;
    execFileSync("openssl", make.split(" "), { stdio: "ignore" });
    const port = await freePort();
    const serve = `ocsp -index ${file("index.txt")} -CA ${file("ca.pem")} -rsigner ${file("r.pem")} -rkey ${file("r.key")} -port ${port} -multi 2 -ignore_err`;
    // openssl creates its own process group and exits if it cannot, so it must not be a session leader.
    responder = spawn("openssl", serve.split(" "), { stdio: "ignore" });
    const asks = questions.map((body) => ({
      message: httpRequest("POST", "/", { type: "application/ocsp-request", body, close: true }),
      wrong: (answer: HttpAnswer) => {
        const good = answer.status === 200 && parseOcspResponse(new Uint8Array(answer.body)).status === "successful";
        return good ? null : shown(answer);
      },
    }));
    const load = { port, asks, connections, reconnect: true };
    await comesUp(load);
    const rounds: LoadResult[] = [];
    for (let round = 0; round < 3; round++) rounds.push(await runLoad({ ...load, seconds }));
    return rounds.reduce((best, result) => (result.requestsPerSecond > best.requestsPerSecond ? result : best));
  } finally {
    if (responder?.pid && responder.exitCode === null) process.kill(-responder.pid, "SIGKILL");
    rmSync(dir, { recursive: true, force: true });
  }
}

async function comesUp(load: Omit<Load, "seconds">): Promise<void> {
  const until = performance.now() + 10_000;
  while (performance.now() < until) {
    try {
      await runLoad({ ...load, connections: 1, seconds: 0.1 });
      return;
    } catch (error) {
      if (!(error instanceof NoAnswer)) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
  throw new Error("openssl ocsp did not come up");
}

export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.on("error", reject);
    probe.listen(0, "127.0.0.1", () => {
      const address = probe.address();
      probe.close(() =>
        address && typeof address === "object" ? resolve(address.port) : reject(new Error("no port")),
      );
    });
  });
}
