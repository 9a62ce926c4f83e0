import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { bootstrap } from "../test/support/client.ts";
import { httpRequest } from "../test/support/connection.ts";
import { startServer } from "../test/support/server.ts";
import { BOOTSTRAP_TOKEN, bareServer, doorServer, type Shown, trivialCases } from "./door-server.ts";
import type { BenchServer } from "./harness.ts";
import { type Ask, exactly, shown as shownAnswer } from "./load.ts";
import { type Case, inTurns, printTurns } from "./turns.ts";

/**
 * The cost of our door: `GET /health`, a small list and a trivial route that needs a permission, each against a bare
 * Worker of the same run, on workerd's direct socket; and `GET /health` through the relay of `npm start`.
 */
export async function benchDoor(seconds = Number(process.env.BENCH_SECONDS ?? 4)): Promise<void> {
  const directory = mkdtempSync(path.join(tmpdir(), "certctl-bench-"));
  const stops: (() => Promise<void>)[] = [];
  try {
    const bare = await bareServer(path.join(directory, "bare"));
    stops.push(() => bare.runtime.stop());
    const door = await doorServer(path.join(directory, "door"), false);
    stops.push(() => door.runtime.stop());
    const product = await startServer({ startMs: 300_000 });
    stops.push(() => product.stop());
    const health = [exactly(httpRequest("GET", "/health"), '{"status":"healthy"}')];
    const shown = JSON.parse(await door.get("/prepare")) as Shown;
    const list = await smallList(door);
    const cases: Case[] = [
      { what: "a bare Worker", ...at(bare), asks: health },
      { what: "GET /health", ...at(door), asks: health },
      { what: "GET a small list", ...at(door), asks: [list] },
      ...trivialCases(door, shown),
      { what: "GET /health through npm start", port: product.port, pid: product.workerdPid, asks: health },
    ];
    printTurns("direct socket, unless told", await inTurns(cases, seconds));
  } finally {
    for (const stop of stops) await stop();
    rmSync(directory, { recursive: true, force: true });
  }
}

function at({ port, runtime }: BenchServer): { port: number; pid: number } {
  return { port, pid: runtime.workerd.pid };
}

/** The first list of a new CA, the expected answer to each request. */
async function smallList({ port }: BenchServer): Promise<Ask> {
  const url = `http://127.0.0.1:${port}`;
  const admin = await bootstrap(url, BOOTSTRAP_TOKEN);
  const config = { ca_common_name: "Bench Root", key_algorithm: "ECDSA-P256" };
  await admin.call("POST", "/api/v1/issuers", { id: "iss-bench", name: "Bench", type: "GenericCA", config });
  const target = "/.well-known/pki/crl/iss-bench";
  const expected = Buffer.from(await (await fetch(url + target)).arrayBuffer());
  return {
    message: httpRequest("GET", target),
    wrong: (answer) => (answer.status === 200 && answer.body.equals(expected) ? null : shownAnswer(answer)),
  };
}
