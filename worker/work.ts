import { z } from "@hono/zod-openapi";
import { and, eq, sql } from "drizzle-orm";
import { commit } from "../src/platform/commit.ts";
import { up } from "../src/platform/cursor.ts";
import { conflict, notFound } from "../src/platform/errors.ts";
import { pageAnswer, pageOf, pageQuery } from "../src/platform/paging.ts";
import { ok, type Route, route } from "../src/platform/route.ts";
import { listPage } from "../src/platform/rows.ts";
import { work } from "../src/platform/tables.ts";
import { requeueStatement, wake } from "../src/platform/work/work.ts";

/** Routes that list queued work and requeue dead work. */

const path = "/api/v1/admin/work";
const tag = "System";
const access = "job.cancel";
const state = z.enum(["due", "dead"]);
const time = z.string().openapi({ format: "date-time" });

const item = z
  .object({
    id: z.string(),
    kind: z.string(),
    state,
    attempts: z.number().int(),
    due_at: time.openapi({ description: "The next attempt; of work that somebody has, the end of its lease" }),
    last_error: z.string().nullable(),
    created_at: time,
  })
  .openapi("Work");

const counts = z.array(z.object({ kind: z.string(), state, count: z.number().int() }));

type Row = typeof work.$inferSelect;

const shown = ({ payload: _, fence: __, lease_until, ...row }: Row) => ({
  ...row,
  due_at: lease_until !== null && lease_until > row.due_at ? lease_until : row.due_at,
});

export const workRoutes: Route[] = [
  route({
    operationId: "listWork",
    method: "get",
    path,
    access,
    tag,
    summary: "Queued work, the oldest first: due, or dead after thirty attempts",
    query: z.object({ ...pageQuery.shape, state: state.optional(), kind: z.string().max(100).optional() }),
    answers: {
      200: {
        description: "One page, and how much there is of each kind and state, whatever is asked for",
        schema: z.object({ ...pageOf(item).shape, counts }),
      },
    },
    errors: [400],
    handler: async (ctx, { query }) => {
      const where = and(
        query.state === undefined ? undefined : eq(work.state, query.state),
        query.kind === undefined ? undefined : eq(work.kind, query.kind),
      );
      const [page, all] = await Promise.all([
        listPage(ctx, work, query, { where, order: [up(work.created_at), up(work.id)] }),
        ctx.db
          .select({ kind: work.kind, state: work.state, count: sql<number>`count(*)` })
          .from(work)
          .groupBy(work.kind, work.state)
          .orderBy(work.kind, work.state),
      ]);
      return ok({ ...pageAnswer(query, page, shown), counts: all });
    },
  }),
  route({
    operationId: "requeueWork",
    method: "post",
    path: `${path}/{id}/requeue`,
    access,
    tag,
    summary: "Have dead work tried again, at once and from the first attempt",
    params: z.object({ id: z.string() }),
    answers: { 200: { description: "It is due", schema: z.object({ status: z.string() }) } },
    errors: [409],
    handler: async (ctx, { params: { id } }) => {
      const [row] = await ctx.db.select().from(work).where(eq(work.id, id));
      if (!row) throw notFound("work", id);
      if (row.state !== "dead") throw conflict("not_dead", `work ${id} is due at ${row.due_at}: it needs no help`);
      await commit(ctx, [
        requeueStatement(ctx, id),
        ctx.audit("work.requeue", id, { kind: row.kind, attempts: row.attempts }),
      ]);
      wake(ctx, [id]);
      return ok({ status: "due" });
    },
  }),
];
