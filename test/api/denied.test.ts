import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { noteDenied, recordDenied } from "../../src/identity/denied.ts";
import type { Context } from "../../src/platform/context.ts";
import { makeContext } from "../../worker/context.ts";
import { newActor } from "../support/actors.ts";
import { administrator } from "../support/api.ts";
import { contextAhead } from "../support/context.ts";
import { settled, visit } from "../support/door.ts";

interface Event {
  readonly id: string;
  readonly actor: string;
  readonly actor_type: string;
  readonly resource_type: string;
  readonly resource_id: string;
  readonly details: string;
}

async function denied(where = "1"): Promise<Event[]> {
  const query = `select * from audit_events where action = 'auth.denied' and ${where} order by seq`;
  return (await env.DB.prepare(query).all<Event>()).results;
}

async function gathered(): Promise<{ address: string; reason: string; count: number }[]> {
  const query = "select address, reason, sum(count) as count from denied_attempts group by 1, 2 order by 1, 2";
  return (await env.DB.prepare(query).all<{ address: string; reason: string; count: number }>()).results;
}

/** A context at a fixed time, of nobody; `done` resolves when what it deferred is done. */
function at(time: string): { ctx: Context; done: () => Promise<unknown> } {
  const work: Promise<unknown>[] = [];
  const waiter = { waitUntil: (one: Promise<unknown>) => void work.push(one) };
  return {
    ctx: makeContext({ ...env }, waiter, { clock: { now: () => new Date(time) } }),
    done: () => Promise.all(work),
  };
}

beforeAll(async () => void (await administrator()));

describe("an attempt beyond an actor's rights", () => {
  it("is one audit event for each actor, route and path in a minute, however often it is repeated", async () => {
    const viewer = await newActor([{ role_id: "r-viewer" }], "curious");
    const post = (path: string) => viewer.client.post(path, { name: "x" });
    for (let i = 0; i < 5; i++) expect((await post("/api/v1/teams")).status).toBe(403);
    expect((await viewer.client.delete("/api/v1/teams/t-one")).status).toBe(403);
    expect((await viewer.client.delete("/api/v1/teams/t-two")).status).toBe(403);
    const events = await denied("actor = 'curious'");
    // Two minutes at most, should the first repetition have begun a new one.
    expect(events.length).toBeGreaterThanOrEqual(3);
    expect(events.length).toBeLessThanOrEqual(4);
    expect(events.at(-1)).toMatchObject({ actor_type: "APIKey", resource_type: "route", resource_id: "deleteTeam" });
    expect(JSON.parse(events.at(-1)?.details ?? "")).toEqual({
      method: "DELETE",
      path: "/api/v1/teams/t-two",
      reason: "forbidden",
      address: "local",
    });
    expect(JSON.stringify(events)).not.toContain(viewer.client.key);
  });

  it("in a hundred places becomes one event a route, so that nobody fills the log", async () => {
    const viewer = await newActor([{ role_id: "r-viewer" }], "flooding");
    const minute = () => Math.floor(Date.now() / 60_000);
    const began = minute();
    // Ten at a time: attempts at once are counted as those one after the other.
    for (let i = 0; i < 300; i += 10)
      await Promise.all(Array.from({ length: 10 }, (_, k) => viewer.client.delete(`/api/v1/teams/t-${i + k}`)));
    const most = 101 * (minute() - began + 1);
    const events = await denied("actor = 'flooding'");
    expect(events.length).toBeGreaterThan(100);
    expect(events.length).toBeLessThanOrEqual(most);
    expect(JSON.parse(events.at(-1)?.details ?? "").path).toBe("*");
  });
});

describe("attempts without a valid credential", () => {
  it("are counted by address and reason, a missing credential too, and become one audit event each", async () => {
    const from = "192.0.2.77";
    const bad = { Authorization: `Bearer certctl_${"a".repeat(43)}` };
    for (let i = 0; i < 4; i++) await visit("/api/v1/auth/me", { from, headers: bad });
    for (let i = 0; i < 3; i++) await visit("/api/v1/teams", { from });
    await visit("/api/v1/teams", { from, headers: { Authorization: "Basic eDp5" } });
    await visit("/api/v1/teams", { from: "2001:db8:5:5::1" });
    await visit("/api/v1/teams", { from: "2001:db8:5:5::2" });
    await settled();
    const counted = await gathered();
    expect(counted).toEqual(
      expect.arrayContaining([
        { address: from, reason: "api_key_invalid", count: 4 },
        { address: from, reason: "credential_malformed", count: 1 },
        { address: from, reason: "unauthorized", count: 3 },
        { address: "2001:db8:5:5::/64", reason: "unauthorized", count: 2 },
      ]),
    );
    expect(await denied(`resource_id = '${from}'`)).toEqual([]);

    // A minute that is not over is left alone; two sweeps at the same time record each count once.
    const later = contextAhead(130);
    await Promise.all([recordDenied(later), recordDenied(contextAhead(130))]);
    await recordDenied(later);
    const events = await denied(`resource_id = '${from}'`);
    const total = events.reduce((sum, { details }) => sum + Number(JSON.parse(details).count), 0);
    expect(total).toBe(8);
    expect(events[0]).toMatchObject({ actor: "anonymous", resource_type: "address" });
    expect(new Set(events.map(({ details }) => JSON.parse(details).reason))).toEqual(
      new Set(["api_key_invalid", "credential_malformed", "unauthorized"]),
    );
    expect(await gathered()).toEqual([]);
  });

  it("a crash between sweeps records nothing twice: the event's id is the minute's own", async () => {
    const minute = "2026-11-01T10:00:00.000Z";
    const put = () =>
      env.DB.prepare("insert into denied_attempts values ('192.0.2.1', 'unauthorized', ?, 5, 'req-1')")
        .bind(minute)
        .run();
    const { ctx } = at("2026-11-01T10:01:30.000Z");
    await put();
    expect(await recordDenied(ctx)).toBeNull();
    await put();
    expect(await recordDenied(ctx)).toBeNull();
    expect(await gathered()).toEqual([]);
    const events = await denied("resource_id = '192.0.2.1'");
    expect(events.map(({ details }) => JSON.parse(details))).toEqual([
      { reason: "unauthorized", minute, count: 5, request_id: "req-1" },
    ]);
  });

  it("a minute stays open until its counts are complete", async () => {
    await env.DB.prepare(
      "insert into denied_attempts values ('192.0.2.2', 'unauthorized', '2026-11-01T11:00:00.000Z', 1, 'r')",
    ).run();
    for (const time of ["2026-11-01T11:00:59.000Z", "2026-11-01T11:01:05.000Z"]) await recordDenied(at(time).ctx);
    expect(await denied("resource_id = '192.0.2.2'")).toEqual([]);
    await recordDenied(at("2026-11-01T11:01:10.000Z").ctx);
    expect(await denied("resource_id = '192.0.2.2'")).toHaveLength(1);
  });

  it("from a thousand addresses in a minute keep the memory bounded: the last ones are `other`, none is lost", async () => {
    const { ctx, done } = at("2026-11-01T12:00:30.000Z");
    for (let i = 0; i < 1000; i++) noteDenied(ctx, { address: `10.0.${i >> 8}.${i & 255}` }, "unauthorized");
    await done();
    const rows = await gathered();
    expect(rows.length).toBe(501);
    expect(rows.find(({ address }) => address === "other")?.count).toBe(500);
    expect(rows.reduce((sum, { count }) => sum + count, 0)).toBe(1000);
    const sweeper = at("2026-11-01T12:02:00.000Z").ctx;
    while ((await recordDenied(sweeper)) === "more");
    expect(await denied("resource_id = 'other'")).toHaveLength(1);
    expect(await gathered()).toEqual([]);
  });

  it("a database that is away loses no count and refuses nobody twice", async () => {
    const { ctx, done } = at("2026-11-01T13:00:00.000Z");
    const away = { ...ctx, db: { run: () => Promise.reject(new Error("away")) } as unknown as Context["db"] };
    noteDenied(away, { address: "192.0.2.3" }, "unauthorized");
    noteDenied(ctx, { address: "192.0.2.3" }, "unauthorized");
    // Its rounds are over after a few tries; the counts wait for whoever comes next.
    await done();
    const next = at("2026-11-01T13:00:40.000Z");
    noteDenied(next.ctx, { address: "192.0.2.3" }, "unauthorized");
    await next.done();
    expect(await gathered()).toEqual([{ address: "192.0.2.3", reason: "unauthorized", count: 3 }]);
  });
});
