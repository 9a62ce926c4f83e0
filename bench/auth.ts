import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { doorServer, type Shown, trivialCases } from "./door-server.ts";
import { inTurns, printTurns } from "./turns.ts";

/**
 * The cost of checking a credential: one trivial route with a warm API key and with a session, against the same route
 * without the check, in one workerd and one run; once without rate limits and once with them. `seconds` is the length
 * of each measurement.
 */
export async function benchAuth(seconds = Number(process.env.BENCH_SECONDS ?? 4)): Promise<void> {
  const directory = mkdtempSync(path.join(tmpdir(), "certctl-bench-"));
  try {
    for (const limits of [false, true]) {
      const server = await doorServer(path.join(directory, String(limits)), limits);
      try {
        const shown = JSON.parse(await server.get("/prepare")) as Shown;
        const measured = await inTurns(trivialCases(server, shown), seconds);
        printTurns(`one trivial route, rate limits ${limits ? "counted" : "off"}`, measured);
      } finally {
        await server.runtime.stop();
      }
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
