import { makeApp } from "./app.ts";
import { tick } from "./cron.ts";
import type { Env } from "./env.ts";
import { consume } from "./queue.ts";

export { Issuer, Purge } from "../durable-objects/stub.ts";
export { PublicPki } from "./public-pki.ts";

const app = makeApp();

export default {
  fetch: (request: Request, env: Env, ctx: ExecutionContext) => app.fetch(request, env, ctx),
  queue: consume,
  scheduled: tick,
};
