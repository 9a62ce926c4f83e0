import { z } from "@hono/zod-openapi";
import { and, eq } from "drizzle-orm";
import { visible } from "../../platform/access.ts";
import { type Context, timestamp } from "../../platform/context.ts";
import { up } from "../../platform/cursor.ts";
import { describeError } from "../../platform/log.ts";
import { numberedQuery, numberedShape, type PageRequest } from "../../platform/paging.ts";
import { ok, route } from "../../platform/route.ts";
import { listPage } from "../../platform/rows.ts";
import { type CrlState, ledgerOf } from "../ledger.ts";
import { type CaAuthorityRow, certificateAuthorities } from "./table.ts";

const dateTime = z.string().openapi({ format: "date-time" });

const listState = z.object({
  issuer_id: z.string(),
  ca_id: z.string(),
  shard: z.number().int(),
  url: z.string(),
  crl_number: z.number().nullable().openapi({ type: "integer" }),
  crl_number_text: z.string().nullable().openapi({
    description: "The same in decimal digits: exact, also above 2^53",
  }),
  this_update: dateTime.nullable(),
  next_update: dateTime.nullable(),
  entries: z.number().int(),
  bytes: z.number().int(),
  dirty_since: dateTime.nullable(),
  last_error: z.string().nullable(),
  /** Seconds since thisUpdate. */
  age_seconds: z.number().int().nullable(),
});

export const cacheRoute = route({
  operationId: "listCRLCache",
  method: "get",
  path: "/api/v1/admin/crl/cache",
  access: "crl.admin",
  scope: "handler",
  tag: "Public PKI",
  summary: "The state of every list of the CAs of a page",
  query: z.object({ ...numberedQuery.shape, issuer_id: z.string().optional() }),
  answers: {
    200: {
      description: "One row a list",
      schema: z.object({
        cache_rows: z.array(listState),
        row_count: z.number().int().openapi({ description: "Of this page; `total` counts CAs" }),
        generated_at: dateTime,
        ...numberedShape,
      }),
    },
  },
  errors: [400],
  handler: async (ctx, { query: { issuer_id, ...page } }) => {
    const { cache_rows, total } = await listStates(ctx, page, issuer_id);
    return ok({ cache_rows, row_count: cache_rows.length, generated_at: timestamp(ctx), total, ...page });
  },
});

type ListState = z.output<typeof listState>;

async function listStates(
  ctx: Context,
  page: PageRequest,
  issuerId: string | undefined,
): Promise<{ cache_rows: ListState[]; total: number }> {
  const { issuer_id, ca_id } = certificateAuthorities;
  const { data: cas, total } = await listPage(ctx, certificateAuthorities, page, {
    where: and(
      visible(ctx.actor, "crl.admin", { issuer_id }),
      issuerId === undefined ? undefined : eq(issuer_id, issuerId),
    ),
    order: [up(issuer_id), up(ca_id)],
  });
  const listsOf = (ca: CaAuthorityRow) =>
    ledgerOf(ctx, ca.ledger_id)
      .crls()
      .catch((error) => {
        ctx.log.error("crl.state_failed", { ca_id: ca.ca_id, error: describeError(error) });
        return [];
      });
  const lists = await Promise.all(cas.map(listsOf));
  const now = ctx.clock.now().getTime();
  return { cache_rows: cas.flatMap((ca, at) => statesOf(ca, lists[at] ?? [], now)), total };
}

function statesOf(ca: CaAuthorityRow, lists: readonly CrlState[], now: number): ListState[] {
  return lists.map(({ number, ...list }) => ({
    issuer_id: ca.issuer_id,
    ca_id: ca.ca_id,
    ...list,
    crl_number: number === null ? null : Number(number),
    crl_number_text: number,
    age_seconds: list.this_update === null ? null : Math.floor((now - Date.parse(list.this_update)) / 1000),
  }));
}
