import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { type HttpAnswer, httpRequest } from "../test/support/connection.ts";
import { BOOTSTRAP_TOKEN, doorServer } from "./door-server.ts";
import { answered, certIdsOf, questionOf } from "./http.ts";
import { shown } from "./load.ts";
import { seed } from "./seed.ts";
import { type Case, inTurns, printTurns } from "./turns.ts";

const CERTIFICATES = 20;
const NONCES = 2_000;

/** A value of the worker's header `X-Without`, and whether its answer is an OCSP response. */
const CASES = [
  { what: "an answer, signed after its ledger look-up", without: "", real: true },
  { what: "without the ledger", without: "ledger", real: true },
  { what: "without the ledger and the signature", without: "ledger,signature", real: true },
  { what: "a request read, a response of that size written", without: "answer", real: false },
];

/** The cost of each part of a signed OCSP answer, left out in turn, on workerd's direct socket. */
export async function benchOcsp(seconds = Number(process.env.BENCH_SECONDS ?? 4)): Promise<void> {
  const directory = mkdtempSync(path.join(tmpdir(), "certctl-bench-"));
  const server = await doorServer(directory, false, "ocsp-worker.ts");
  const { port, runtime } = server;
  try {
    const { chains, issuerId } = await seed(`http://127.0.0.1:${port}`, BOOTSTRAP_TOKEN, CERTIFICATES);
    const certIds = certIdsOf(chains);
    const questions = Array.from({ length: NONCES }, (_, i) =>
      questionOf(certIds[i % certIds.length] as Uint8Array<ArrayBuffer>, randomBytes(32)),
    );
    const type = "application/ocsp-request";
    const cases = CASES.map(({ what, without, real }): Case => {
      const headers = { "X-Without": without };
      const asks = questions.map((question) => {
        const message = httpRequest("POST", `/.well-known/pki/ocsp/${issuerId}`, { type, body: question.der, headers });
        if (real) return answered(question, message);
        return { message, wrong: (answer: HttpAnswer) => (answer.status === 200 ? null : shown(answer)) };
      });
      return { what, port, pid: runtime.workerd.pid, asks };
    });
    printTurns("OCSP POST with a nonce", await inTurns(cases, seconds));
  } finally {
    await runtime.stop();
    rmSync(directory, { recursive: true, force: true });
  }
}
