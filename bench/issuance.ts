import { execFileSync } from "node:child_process";
import { createPublicKey } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { readProject } from "../scripts/local/project.ts";
import { bareCsr, bootstrap, type Fleet, makeFleet } from "../test/support/client.ts";
import { Connection, httpRequest } from "../test/support/connection.ts";
import { type BenchServer, bundle, cpuMicros, migrateBench, startBench } from "./harness.ts";
import { shown } from "./load.ts";
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
import { benchStep } from "./step-ca.ts";

const WORKER = fileURLToPath(new URL("issuance-worker.ts", import.meta.url));
const ROUNDS = 3;
/** Records of each kind. Each is renewed repeatedly, by one connection at a time. */
const RECORDS = 8 * CONNECTIONS;
const SEALING_KEYS = `bench:${Buffer.alloc(32, 7).toString("base64")}`;
const TOKEN = "bench-bootstrap-token-0123456789abcdef";

interface Counts {
  readonly reads: number;
  readonly writes: number;
  readonly statements: number;
  readonly objects: number;
}

/**
 * Issuance over HTTP: an agent's three requests (renew, CSR, pick-up), one request that submits a CSR for a record
 * without a target, and step-ca's `/sign` on the same machine if Go is installed to build it. Every answer is checked:
 * a certificate with the right key. `seconds` is the length of each round; best of three.
 */
export async function benchIssuance(seconds = Number(process.env.BENCH_SECONDS ?? 4)): Promise<void> {
  const directory = mkdtempSync(path.join(tmpdir(), "certctl-bench-"));
  try {
    const requests = Array.from({ length: 509 }, keyRequest);
    const { worker } = readProject();
    if (worker.compatibilityDate === undefined) throw new Error("wrangler.toml has no compatibility_date");
    const script = await bundle(directory, WORKER, worker.compatibilityDate);
    const { assets: _assets, ...bound } = worker;
    const project = { vars: {}, crons: [], worker: bound };
    await migrateBench(directory, project);
    const vars = {
      CERTCTL_SEALING_KEYS: SEALING_KEYS,
      CERTCTL_BOOTSTRAP_TOKEN: TOKEN,
      CERTCTL_RATE_LIMIT_ENABLED: "false",
    };
    const server = await startBench(directory, script, project, vars);
    try {
      await benchOurs(server, requests, seconds);
    } finally {
      await server.runtime.stop();
    }
    await benchStep(requests, seconds);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function benchOurs(server: BenchServer, requests: readonly KeyRequest[], seconds: number): Promise<void> {
  const fleet = await makeFleet(await bootstrap(`http://127.0.0.1:${server.port}`, TOKEN), "bench");
  const { target_ids: _, ...alone } = fleet.record;
  const mapped = await makeRecords(fleet, "mapped", fleet.record);
  const unmapped = await makeRecords(fleet, "alone", alone);
  const connections = Array.from({ length: CONNECTIONS }, () => new Connection(server.port));
  const cases = [
    { what: "three requests: renew, CSR, pick-up", issue: threeRequests(fleet, mapped, connections) },
    { what: "one request: the CSR for a record without a target", issue: oneRequest(fleet, unmapped, connections) },
  ];
  for (const { what, issue } of cases) {
    await measure(issue, requests, 1, WARM_UP);
    await server.get("/bench/counts");
    const before = JSON.parse(await server.get("/bench/bytes")) as { database: number; ledger: number };
    const cpu = cpuMicros(server.runtime.workerd.pid);
    let issued = 0;
    const counting: Issue = async (request, turn) => {
      await issue(request, turn);
      issued++;
    };
    let best: Rate | null = null;
    for (let round = 0; round < ROUNDS; round++) {
      const rate = await measure(counting, requests, seconds);
      if (!best || rate.perSecond > best.perSecond) best = rate;
    }
    if (!best) return;
    const spent = cpuMicros(server.runtime.workerd.pid) - cpu;
    const counts = JSON.parse(await server.get("/bench/counts")) as Counts;
    const after = JSON.parse(await server.get("/bench/bytes")) as typeof before;
    printRate(what, best);
    const each = (n: number, digits = 1) => (n / issued).toFixed(digits);
    console.log(
      `  for each certificate: D1 ${each(counts.reads)} rounds of reads and ${each(counts.writes, 2)} write transactions, ${each(counts.statements)} statements; ` +
        `${each(counts.objects)} calls to objects; ${each(spent / 1000, 2)} ms of CPU; ` +
        `${each(after.database - before.database, 0)} bytes in D1 and ${each(after.ledger - before.ledger, 0)} in the ledger`,
    );
  }
  for (const connection of connections) connection.close();
}

function keyRequest(): KeyRequest {
  const csr = bareCsr();
  const text = execFileSync("openssl", ["req", "-pubkey", "-noout"], { input: csr });
  return { csr, spki: createPublicKey(text).export({ format: "der", type: "spki" }) };
}

async function makeRecords(fleet: Fleet, kind: string, record: object): Promise<string[]> {
  const ids: string[] = [];
  let next = 0;
  const worker = async () => {
    while (next < RECORDS) {
      const name = `${kind}-${next++}.bench.example.com`;
      const body = { ...record, name, common_name: name, sans: [name] };
      ids.push(String((await fleet.admin.call("POST", "/api/v1/certificates", body)).id));
    }
  };
  await Promise.all(Array.from({ length: 8 }, worker));
  return ids;
}

async function ask(connection: Connection, method: string, path: string, key: string, status: number, body?: object) {
  const headers = { Authorization: `Bearer ${key}` };
  const options = body ? { type: "application/json", body: Buffer.from(JSON.stringify(body)), headers } : { headers };
  const answer = await connection.ask(httpRequest(method, path, options));
  if (answer.status !== status) throw new Error(`${method} ${path}: ${shown(answer)}`);
  return JSON.parse(answer.body.toString()) as Record<string, unknown>;
}

function at<T>(list: readonly T[], turn: number): T {
  const found = list[turn % list.length];
  if (found === undefined) throw new Error("an empty list");
  return found;
}

function threeRequests(fleet: Fleet, ids: readonly string[], connections: readonly Connection[]): Issue {
  const agent = `/api/v1/agents/${fleet.agentId}`;
  return async (request, turn) => {
    const connection = at(connections, turn);
    const id = at(ids, turn);
    const renewed = await ask(connection, "POST", `/api/v1/certificates/${id}/renew`, fleet.admin.key, 202);
    const csr = { csr_pem: request.csr, job_id: renewed.job_id };
    await ask(connection, "POST", `${agent}/csr`, fleet.agent.key, 202, csr);
    const picked = await ask(connection, "GET", `${agent}/certificates/${id}`, fleet.agent.key, 200);
    checkCertificate(picked.certificate_pem, request);
  };
}

function oneRequest(fleet: Fleet, ids: readonly string[], connections: readonly Connection[]): Issue {
  return async (request, turn) => {
    const path = `/api/v1/certificates/${at(ids, turn)}/csr`;
    const body = { csr_pem: request.csr };
    const version = await ask(at(connections, turn), "POST", path, fleet.admin.key, 201, body);
    checkCertificate(version.pem_chain, request);
  };
}
