import type { Ledger } from "../src/authority/ledger.ts";
import { makeApp } from "../worker/app.ts";
import { makeDoor } from "../worker/door.ts";
import type { Env } from "../worker/env.ts";

export { Issuer } from "../durable-objects/issuer.ts";
export { Once } from "../durable-objects/once.ts";
export { Purge } from "../durable-objects/purge.ts";
export { Session } from "../durable-objects/session.ts";
export { Writer } from "../durable-objects/writer.ts";
export { tick as scheduled } from "../worker/cron.ts";
export { Inventory } from "../worker/inventory.ts";
export { PublicPki } from "../worker/public-pki.ts";

/**
 * The product without the parts of an OCSP answer that the header `X-Without` names: `ledger` and `signature`, or
 * `answer`, which leaves only the cost of reading a request and writing a response of that size. One case runs at a
 * time.
 */

const door = makeDoor(makeApp());
const { subtle } = crypto;
const realSign = subtle.sign.bind(subtle);
const SIGNATURE = new Uint8Array(64).fill(7).buffer;
const ANSWER = new Uint8Array(750);
const ANSWER_HEADERS = {
  "Content-Type": "application/ocsp-response",
  "Cache-Control": "no-store, no-cache, max-age=0",
};
let without = "";
/** The environment with a stub in place of the ledger that knows every serial. */
let unasked: Env | null = null;

Object.defineProperty(subtle, "sign", {
  value: (...of: Parameters<typeof realSign>) =>
    without.includes("signature") ? Promise.resolve(SIGNATURE) : realSign(...of),
});

function withoutLedger(env: Env): Env {
  const real = env.ISSUER as DurableObjectNamespace;
  const getByName = (name: string): Pick<Ledger, "status" | "responder"> => ({
    status: async () => "good",
    responder: () => (real.getByName(name) as unknown as Ledger).responder(),
  });
  return { ...env, ISSUER: { getByName } };
}

export default {
  async fetch(request: Request, env: Env, ctx: ExecutionContext): Promise<Response> {
    without = request.headers.get("X-Without") ?? "";
    if (without === "answer") {
      await request.arrayBuffer();
      return new Response(ANSWER, { headers: ANSWER_HEADERS });
    }
    if (!without.includes("ledger")) return door(request, env, ctx);
    unasked ??= withoutLedger(env);
    return door(request, unasked, ctx);
  },
};
