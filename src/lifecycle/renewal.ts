import { signingCa, signingQueries } from "../authority/ca.ts";
import { isAtWork } from "../fleet/agents.ts";
import { agentsOfCertificate, type MappedAgent } from "../fleet/mapping.ts";
import {
  type Certificate,
  certificateQuery,
  mustFindCertificate,
  policyQuery,
  referenceOf,
  unchangedSince,
} from "../inventory/certificates/certificates.ts";
import { placeOf } from "../inventory/certificates/scope.ts";
import { archiveStatement, changeStatements, factsQuery } from "../inventory/certificates/state.ts";
import { hasVersion } from "../inventory/certificates/versions.ts";
import { mustHold } from "../platform/access.ts";
import { commit } from "../platform/commit.ts";
import { type Context, timestamp } from "../platform/context.ts";
import { guard, type Statement } from "../platform/database.ts";
import { AppError, conflict, notFound } from "../platform/errors.ts";
import { repeatedly } from "../platform/race.ts";
import { checkIfMatch } from "../platform/rows.ts";
import { readTogether } from "../platform/writer.ts";
import { type Job, newCsrJob, openJobs, transition } from "./jobs.ts";

export interface Triggered {
  readonly status: "renewal_triggered";
  readonly job_id: string;
  readonly job_ids: readonly string[];
}

/**
 * Asks each agent of the certificate for a CSR: one job an agent, in one transaction. `force` also renews an expired
 * certificate and restarts a renewal under way. 400 for an archived certificate, for an expired one without `force`,
 * and if all agents are retired; 409 without a target and, without `force`, while a renewal is under way; the issuer's
 * own refusal if it cannot sign; 403 unless the actor holds cert.issue for the record.
 */
export async function triggerRenewal(ctx: Context, id: string, force: boolean): Promise<Triggered> {
  return repeatedly(async () => {
    const [[certificate], [facts], mapped, open, [policy], ...signing] = await readTogether(
      ctx,
      certificateQuery(ctx, id),
      factsQuery(ctx, id),
      agentsOfCertificate(ctx, id, (agentId) => hasVersion(id, agentId)),
      openJobs(ctx, id),
      policyQuery(ctx, id),
      ...signingQueries(ctx, referenceOf(id, "issuer_id")),
    );
    if (!certificate || !facts) throw notFound("certificate", id);
    mustHold(ctx.actor, "cert.issue", placeOf(certificate));
    checkRenewable(ctx, certificate, force);
    const agents = agentsToAsk(certificate, mapped);
    await signingCa(ctx, certificate.issuer_id, signing);
    const created = agents.map((agent) =>
      newCsrJob(ctx, {
        type: agent.served ? "Renewal" : "Issuance",
        certificate_id: id,
        agent_id: agent.id,
        max_attempts: 1 + (policy?.max_retries ?? 0),
      }),
    );
    const job_ids = created.map(({ job }) => job.id);
    const asked_at =
      created
        .map(({ job }) => job.created_at)
        .sort()
        .at(-1) ?? null;
    const statements = [
      ...changeStatements(ctx, facts, { asked_at }),
      ...agents.map((agent) => guard(isAtWork(agent.id))),
      ...cancelled(ctx, open, "another renewal took its place"),
      ...created.flatMap(({ statements }) => statements),
      ctx.audit("certificate.renew", id, { force, job_ids }),
    ];
    await commit(ctx, statements, { together: true });
    return { status: "renewal_triggered", job_id: job_ids[0] ?? "", job_ids };
  });
}

function checkRenewable(ctx: Context, certificate: Certificate, force: boolean): void {
  const { id, status, expires_at } = certificate;
  if (status === "Archived")
    throw new AppError(
      400,
      "certificate_archived",
      `certificate ${JSON.stringify(id)} is archived: it is renewed no more`,
    );
  if (force) return;
  if (status === "Expired" || (expires_at !== null && expires_at <= timestamp(ctx)))
    throw new AppError(
      400,
      "certificate_expired",
      `certificate ${JSON.stringify(id)} expired at ${expires_at}; ?force=true renews it all the same`,
    );
  if (status === "RenewalInProgress") throw underWay(id);
}

function underWay(id: string): AppError {
  return conflict(
    "renewal_in_progress",
    `certificate ${JSON.stringify(id)} is being renewed already; ?force=true cancels that and starts anew`,
  );
}

function agentsToAsk(certificate: Certificate, agents: readonly MappedAgent[]): readonly MappedAgent[] {
  if (agents.length === 0)
    throw conflict(
      "certificate_without_target",
      `target_ids: the certificate has no target, so no agent can make its key: send a CSR to POST /api/v1/certificates/${certificate.id}/csr, or map a target`,
    );
  const working = agents.filter((agent) => agent.retired_at === null);
  if (working.length === 0)
    throw new AppError(400, "agents_retired", "target_ids: every agent of the certificate's targets is retired");
  return working;
}

/** Archives the certificate: final; record and versions stay. Cancels its open jobs. Idempotent. */
export async function archiveCertificate(ctx: Context, id: string, ifMatch: string | null): Promise<void> {
  await repeatedly(async () => {
    const certificate = await mustFindCertificate(ctx, id);
    mustHold(ctx.actor, "cert.delete", placeOf(certificate));
    checkIfMatch(certificate, ifMatch);
    if (certificate.status === "Archived") return;
    await commit(ctx, [
      guard(unchangedSince(certificate)),
      archiveStatement(ctx, certificate),
      ...cancelled(ctx, await openJobs(ctx, id), "the certificate was archived"),
      ctx.audit("certificate.archive", id, { name: certificate.name, from: certificate.status }),
    ]);
  });
}

function cancelled(ctx: Context, open: readonly Job[], why: string): Statement[] {
  return open.flatMap((job) => transition(ctx, job, "Cancelled", { last_error: why }));
}
