import { createExecutionContext } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { sql } from "drizzle-orm";
import { describe, expect, it } from "vitest";
import { commit, IdempotencyRace, pruneIdempotencyKeys, recordedAnswer } from "../../src/platform/commit.ts";
import type { Context } from "../../src/platform/context.ts";
import { guard, runBatch, UniqueViolation } from "../../src/platform/database.ts";
import { ChangedMeanwhile, conflict, notFound } from "../../src/platform/errors.ts";
import { utf8 } from "../../src/platform/text.ts";
import { enqueue } from "../../src/platform/work/work.ts";
import { makeContext } from "../../worker/context.ts";
import { errorResponse } from "../../worker/middleware/answer.ts";

const start = Date.parse("2026-11-01T00:00:00Z");
let offset = 0;
const clock = { now: () => new Date(start + offset) };
const context = (idempotency: Context["idempotency"] = null) =>
  makeContext({ ...env }, createExecutionContext(), { clock, idempotency });

describe("batches", () => {
  it("inv 3: a guard that does not hold rolls everything back", async () => {
    const ctx = context();
    const { statement, id } = enqueue(ctx, "never", {});
    await expect(runBatch(ctx.db, [statement, guard(sql`1 = 0`)])).rejects.toBeInstanceOf(ChangedMeanwhile);
    expect(await ctx.db.all(sql`select id from work where id = ${id}`)).toEqual([]);
    await expect(runBatch(ctx.db, [statement, statement])).rejects.toBeInstanceOf(UniqueViolation);
  });

  it("the error is that of the first guard that does not hold, made only then", async () => {
    const { db } = context();
    const made: string[] = [];
    const told = (name: string) => async () => {
      made.push(name);
      return name === "b" ? notFound("team", name) : conflict("in_use", name);
    };
    const batch = (a: number, b: number, c: number) => [
      guard(sql`${a}`, told("a")),
      db.select({ n: sql`1` }).from(sql`(select 1)`),
      guard(sql`${b}`, told("b")),
      guard(sql`${c}`, told("c")),
    ];
    expect(await runBatch(db, batch(1, 1, 1))).toHaveLength(4);
    expect(made).toEqual([]);
    await expect(runBatch(db, batch(1, 0, 0))).rejects.toMatchObject({
      status: 404,
      message: 'team "b" does not exist',
    });
    await expect(runBatch(db, batch(1, 1, 0))).rejects.toMatchObject({ status: 409, message: "c" });
    await expect(runBatch(db, batch(0, 1, 0))).rejects.toMatchObject({ message: "a" });
    expect(made).toEqual(["b", "c", "a"]);
  });

  it("an Idempotency-Key repeats its answer, sealed at rest, refuses another request, and is forgotten after a day", async () => {
    const asked = { key: "key-1", request: utf8("a") };
    const ctx = context(asked);
    await commit(ctx, [], { answer: { status: 201, body: { api_key: "certctl_secret" } } });
    expect(await recordedAnswer(context(asked))).toEqual({ status: 201, body: { api_key: "certctl_secret" } });
    expect(JSON.stringify(await ctx.db.all(sql`select * from idempotency_keys`))).not.toContain("certctl_secret");
    await expect(commit(context(asked), [], { answer: { status: 201, body: {} } })).rejects.toBeInstanceOf(
      IdempotencyRace,
    );
    await expect(recordedAnswer(context({ key: "key-1", request: utf8("b") }))).rejects.toMatchObject({ status: 409 });
    offset += 25 * 3_600_000;
    await pruneIdempotencyKeys(context());
    expect(await recordedAnswer(context(asked))).toBeNull();
  });
});

describe("inv 10: an error that nobody expected", () => {
  it("is a 503 with Retry-After where its source says that it passes, else a 500; it tells nothing of itself", async () => {
    const inner = Object.assign(new Error("secret text"), { overloaded: true });
    const cases: [unknown, number, string | null][] = [
      [inner, 503, "2"],
      [new Error("Failed query", { cause: inner }), 503, "2"],
      [Object.assign(new Error("secret text"), { retryable: true }), 503, "2"],
      [new Error("secret text"), 500, null],
      [null, 500, null],
    ];
    for (const [error, status, retry] of cases) {
      const answer = errorResponse(error, "req-12345678");
      expect([answer.status, answer.headers.get("Retry-After")]).toEqual([status, retry]);
      expect(await answer.text()).not.toContain("secret");
    }
  });
});
