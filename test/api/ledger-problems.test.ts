import { runDurableObjectAlarm } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { expect, it } from "vitest";
import type { Issuer } from "../../durable-objects/issuer.ts";
import { inside, setClock } from "../ledger/support.ts";
import { administrator } from "../support/api.ts";

const { DB, ISSUER } = env as unknown as { DB: D1Database; ISSUER: DurableObjectNamespace<Issuer> };

interface View {
  readonly id: string;
  readonly problems?: readonly { ca_id: string; task: string; since: string; error: string }[];
}

it("whoever looks at an issuer sees what its CAs cannot do, as long as they cannot", async () => {
  const api = await administrator();
  const issuer = await api.create<View>("/api/v1/issuers", { name: "Stuck", type: "GenericCA" });
  const sound = await api.create<View>("/api/v1/issuers", { name: "Sound", type: "GenericCA" });
  const below = await api.create<View>(`/api/v1/issuers/${issuer.id}/intermediates`, { name: "Stuck Below" });
  const row = await DB.prepare("select ledger_id from certificate_authorities where id = ?")
    .bind(below.id)
    .first<{ ledger_id: string }>();
  const stub = ISSUER.getByName(row?.ledger_id ?? "");
  const views = async () => [
    (await api.get<View>(`/api/v1/issuers/${issuer.id}`)).body,
    ...(await api.get<{ data: View[] }>("/api/v1/issuers")).body.data,
  ];
  expect((await views()).map((view) => view.problems)).toEqual([undefined, undefined, undefined]);

  const bytes = await inside(stub, (ledger) => {
    const { bytes } = ledger.core;
    Object.assign(ledger.core, {
      bytes: { head: () => Promise.reject(new Error("the store is away")) },
      log: { info() {}, warn() {}, error() {} },
    });
    ledger.core.sql.exec("update crls set due_at = 0");
    return bytes;
  });
  const since = Date.now();
  for (const at of [since, since + 180_000]) {
    await setClock(stub, at);
    await runDurableObjectAlarm(stub);
  }
  const problem = { ca_id: below.id, task: "list:0", since: new Date(since).toISOString() };
  const [one, ...all] = await views();
  expect(one?.problems).toEqual([{ ...problem, error: "Error: the store is away" }]);
  expect(all.find((view) => view.id === issuer.id)?.problems).toEqual(one?.problems);
  expect(all.find((view) => view.id === sound.id)).not.toHaveProperty("problems");
  // What was read may be sent back: the field is the server's.
  expect((await api.put(`/api/v1/issuers/${issuer.id}`, { name: "Stuck", problems: one?.problems })).status).toBe(200);

  await inside(stub, (ledger) => Object.assign(ledger.core, { bytes }));
  await setClock(stub, since + 600_000);
  await runDurableObjectAlarm(stub);
  expect((await views()).map((view) => view.problems)).toEqual([undefined, undefined, undefined]);
});
