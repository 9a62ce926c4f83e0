import { and, eq, type SQL, sql } from "drizzle-orm";
import type { CaReference } from "../authority/ca.ts";
import type { Ending } from "../inventory/certificates/state.ts";
import type { Context } from "../platform/context.ts";
import { inList, type Statement } from "../platform/database.ts";
import { OPEN } from "./jobs.ts";
import { jobs } from "./table.ts";

/** What the wings above need to know of jobs; `worker/wiring.ts` passes it to them. */

/** Expression: request time of the newest issuance or renewal that is open and not about to end. */
export function newestOpenIssuance(certificateId: SQL, ending: Ending): SQL {
  return sql`(select max(j.created_at) from ${jobs} j where j.certificate_id = ${certificateId}
    and j.status in ${sql.raw(`('${OPEN.join("', '")}')`)} and j.type in ('Issuance', 'Renewal')
    and not ${inList(sql`j.id`, ending.jobs)})`;
}

/** Expression: 1 if the newest issuance or renewal of the certificate has failed or is about to fail, else 0. */
export function lastIssuanceFailed(certificateId: SQL, ending: Ending): SQL {
  return sql`coalesce((select case when ${inList(sql`j.id`, ending.jobs)} then ${ending.failed ? 1 : 0}
      else j.status = 'Failed' end from ${jobs} j where j.certificate_id = ${certificateId}
    and j.type in ('Issuance', 'Renewal') order by j.created_at desc, j.id desc limit 1), 0)`;
}

/** The CAs of a certificate's orders: a job stores its order before anything is signed. */
export function orderedFrom(ctx: Context, certificateId: string): Promise<CaReference[]> {
  const part = (name: keyof CaReference) =>
    sql`json_extract(${jobs.approved}, ${`$.${name}`}) as ${sql.identifier(name)}`;
  return ctx.db.all<CaReference>(sql`
    select distinct ${part("issuer_id")}, ${part("ca_id")}, ${part("ca_key")} from ${jobs}
    where ${jobs.certificate_id} = ${certificateId} and ${jobs.approved} is not null`);
}

/** Whether a job of the certificate has begun signing: it will be signed, whatever the CA says now. */
export async function isBeingSigned(ctx: Context, certificateId: string): Promise<boolean> {
  const running = and(eq(jobs.certificate_id, certificateId), eq(jobs.status, "Running"));
  return (await ctx.db.select({ id: jobs.id }).from(jobs).where(running).limit(1)).length > 0;
}

/** Jobs outlive their target: clears their reference to it. */
export function forgetTarget(ctx: Context, id: string): Statement[] {
  return [ctx.db.update(jobs).set({ target_id: null }).where(eq(jobs.target_id, id))];
}
