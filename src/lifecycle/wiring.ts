import { and, eq, type SQL, sql } from "drizzle-orm";
import type { CaReference } from "../authority/ca.ts";
import type { Ending } from "../inventory/certificates/state.ts";
import type { Context } from "../platform/context.ts";
import { inList, type Statement } from "../platform/database.ts";
import { OPEN } from "./jobs.ts";
import { jobs } from "./table.ts";

/** What the wings above this one need to know of jobs; `worker/wiring.ts` hands it to them. */

/** Expression: the newest time at which an issuance or renewal was asked for that is open and not about to end. */
export function newestOpenIssuance(certificateId: SQL, ending: Ending): SQL {
  return sql`(select max(j.created_at) from ${jobs} j where j.certificate_id = ${certificateId}
    and j.status in ${sql.raw(`('${OPEN.join("', '")}')`)} and j.type in ('Issuance', 'Renewal')
    and not ${inList(sql`j.id`, ending.jobs)})`;
}

/** Expression: 1 where the newest issuance or renewal of the certificate has failed or is about to, else 0. */
export function lastIssuanceFailed(certificateId: SQL, ending: Ending): SQL {
  return sql`coalesce((select case when ${inList(sql`j.id`, ending.jobs)} then ${ending.failed ? 1 : 0}
      else j.status = 'Failed' end from ${jobs} j where j.certificate_id = ${certificateId}
    and j.type in ('Issuance', 'Renewal') order by j.created_at desc, j.id desc limit 1), 0)`;
}

/** The CAs of what was ordered for a certificate: a job stores it before anything is signed. */
export function orderedFrom(ctx: Context, certificateId: string): Promise<CaReference[]> {
  const part = (name: keyof CaReference) =>
    sql`json_extract(${jobs.approved}, ${`$.${name}`}) as ${sql.identifier(name)}`;
  return ctx.db.all<CaReference>(sql`
    select distinct ${part("issuer_id")}, ${part("ca_id")}, ${part("ca_key")} from ${jobs}
    where ${jobs.certificate_id} = ${certificateId} and ${jobs.approved} is not null`);
}

/** Whether a job of the certificate has begun to have it signed: it will be, whatever the CA says now. */
export async function isBeingSigned(ctx: Context, certificateId: string): Promise<boolean> {
  const running = and(eq(jobs.certificate_id, certificateId), eq(jobs.status, "Running"));
  return (await ctx.db.select({ id: jobs.id }).from(jobs).where(running).limit(1)).length > 0;
}

/** Jobs outlive their target: they name none then. */
export function forgetTarget(ctx: Context, id: string): Statement[] {
  return [ctx.db.update(jobs).set({ target_id: null }).where(eq(jobs.target_id, id))];
}
