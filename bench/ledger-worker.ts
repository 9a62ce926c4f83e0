import { Issuer as Ledger } from "../durable-objects/issuer.ts";
import type { Ledger as LedgerCalls } from "../src/authority/ledger.ts";
import { encodeCrlEntry } from "../src/pki/crl.ts";
import { generateKeyPair } from "../src/pki/keys.ts";
import { NO_INVENTORY } from "../test/support/inventory.ts";
import { makeApp } from "../worker/app.ts";
import type { Env } from "../worker/env.ts";
import { systemRoutes } from "../worker/system.ts";

/** The ledger itself, driven from inside workerd, for `npm run bench -- ledger`. */
export class Issuer extends Ledger {
  constructor(...args: ConstructorParameters<typeof Ledger>) {
    super(...args);
    this.core.inventory = NO_INVENTORY;
  }

  /** Fills the list of revoked certificates with `count` entries, without issuing certificates. */
  async fill(count: number): Promise<number> {
    const { sql } = this.core;
    const at = new Date(Date.now() - 1000);
    const expires = Date.now() + 90 * 86_400_000;
    let bytes = 0;
    for (let from = 0; from < count; from += 1000) {
      this.core.storage.transactionSync(() => {
        for (let i = from; i < Math.min(from + 1000, count); i++) {
          const serial = `5a${crypto.randomUUID().replaceAll("-", "")}`;
          const entry = encodeCrlEntry(serial, at, 4);
          bytes += entry.length;
          sql.exec(
            "insert into crl_entries (serial, shard, not_after, entry) values (?, 0, ?, ?)",
            serial,
            expires,
            entry,
          );
        }
      });
      await scheduler.wait(0);
    }
    sql.exec(
      "update crls set live_entries = live_entries + ?, live_bytes = live_bytes + ?, changes = changes + 1, due_at = ?, dirty_since = ? where shard = 0",
      count,
      bytes,
      Date.now() + 3_600_000,
      Date.now(),
    );
    return count;
  }

  /**
   * Publishes the list now; returns its duration in milliseconds, and the longest time for which it blocked this
   * object's other work.
   */
  async publish(): Promise<{ ms: number; longestBlockMs: number; entries: number }> {
    let last = performance.now();
    let longest = 0;
    let running = true;
    const watch = (async () => {
      while (running) {
        await scheduler.wait(0);
        const now = performance.now();
        longest = Math.max(longest, now - last);
        last = now;
      }
    })();
    this.core.sql.exec("update crls set due_at = 0 where shard = 0");
    const began = performance.now();
    await this.alarm();
    const ms = performance.now() - began;
    running = false;
    await watch;
    const [state] = await this.crls();
    if (state?.last_error) throw new Error(state.last_error);
    return { ms, longestBlockMs: longest, entries: state?.entries ?? 0 };
  }
}

export { Once } from "../durable-objects/once.ts";
export { Purge } from "../durable-objects/purge.ts";
export { Session } from "../durable-objects/session.ts";
export { Writer } from "../durable-objects/writer.ts";

type BenchLedger = LedgerCalls & { fill(count: number): Promise<number>; publish(): Promise<unknown> };
type BenchEnv = Env & { readonly ISSUER: DurableObjectNamespace };

const app = makeApp(systemRoutes);

let spki: Uint8Array<ArrayBuffer> | null = null;
let turn = 0;

export default {
  async fetch(request: Request, env: BenchEnv, ctx: ExecutionContext): Promise<Response> {
    const { pathname, searchParams } = new URL(request.url);
    const ledger = env.ISSUER.getByName("led-bench") as unknown as BenchLedger;
    // The trivial route, through the product's middleware.
    if (pathname === "/health") return app.fetch(request, env, ctx);
    if (pathname === "/create") {
      const made = await ledger.createRoot({
        ledger_id: "led-bench",
        ca_id: "iss-bench",
        crl_shards: 1,
        pss: false,
        subject: { common_name: "Bench Root" },
        algorithm: "ECDSA-P256",
        ttl_seconds: 315_360_000,
        path_len: null,
      });
      return Response.json({ ok: made.ok });
    }
    if (pathname === "/issue") {
      spki ??= (await generateKeyPair("ECDSA-P256")).spki;
      const [result] = await ledger.issue([requestFor(`${crypto.randomUUID()}-${turn++}`, spki)]);
      return new Response(null, { status: result?.ok ? 200 : 500, headers: { "Content-Length": "0" } });
    }
    if (pathname === "/fill") return Response.json(await ledger.fill(Number(searchParams.get("n"))));
    if (pathname === "/publish") return Response.json(await ledger.publish());
    return new Response(null, { status: 404 });
  },
};

function requestFor(request_id: string, key: Uint8Array<ArrayBuffer>) {
  const name = `${request_id}.bench.example.com`;
  return {
    request_id,
    certificate_id: request_id,
    subject: { common_name: name },
    sans: [{ type: "dns" as const, value: name }],
    spki: key,
    ekus: ["serverAuth"],
    must_staple: false,
    ttl_seconds: 90 * 86_400,
    settle: {},
  };
}
