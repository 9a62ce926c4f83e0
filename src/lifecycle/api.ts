import { z } from "@hono/zod-openapi";
import { agentAtWork } from "../fleet/agents.ts";
import { versionAnswer } from "../inventory/certificates/schemas.ts";
import { certificateScope } from "../inventory/certificates/scope.ts";
import { notFound } from "../platform/errors.ts";
import { pageAnswer, pageOf, pageQuery } from "../platform/paging.ts";
import { accepted, created, noContent, ok, type Route, route } from "../platform/route.ts";
import { submitCsr } from "./csr.ts";
import { findJob, JOB_STATUSES, JOB_TYPES, type Job, jobScope, listJobs } from "./jobs.ts";
import { certifyCsr } from "./record-csr.ts";
import { archiveCertificate, triggerRenewal } from "./renewal.ts";
import { retirementRoutes } from "./retirement-api.ts";
import { pickUp, workOf } from "./work.ts";

const params = z.object({ id: z.string() });
const time = z.string().openapi({ format: "date-time" });
const jobStatus = z.enum(JOB_STATUSES);
const jobType = z.enum(JOB_TYPES);

const jobAnswer = z
  .object({
    id: z.string(),
    type: jobType,
    certificate_id: z.string(),
    target_id: z.string().nullable(),
    agent_id: z.string().nullable(),
    version_id: z.string().nullable(),
    status: jobStatus,
    attempts: z.number().int(),
    max_attempts: z.number().int(),
    last_error: z.string().nullable(),
    scheduled_at: time,
    started_at: time.nullable(),
    completed_at: time.nullable(),
    created_at: time,
  })
  .openapi("Job");

const workItem = z
  .object({
    id: z.string(),
    type: jobType,
    certificate_id: z.string(),
    common_name: z.string(),
    sans: z.array(z.string()),
    target_id: z.string().nullable(),
    target_type: z.string().nullable(),
    target_config: z.record(z.string(), z.unknown()).nullable(),
    status: jobStatus,
  })
  .openapi("WorkItem");

function show(job: Job): z.infer<typeof jobAnswer> {
  return jobAnswer.parse(job);
}

const ignored = z
  .array(z.string())
  .optional()
  .openapi({ description: "What of the CSR has no influence on the certificate, as `extension keyUsage (2.5.29.15)`" });

/** `version_id` is null until the CA that took the order answers. */
const csrAnswer = z.object({
  status: z.enum(["csr_signed", "csr_ordered"]),
  job_id: z.string(),
  version_id: z.string().nullable(),
  ignored,
});

const certificateRoutes = [
  route({
    operationId: "archiveCertificate",
    method: "delete",
    path: "/api/v1/certificates/{id}",
    access: "cert.delete",
    scope: certificateScope,
    tag: "Certificates",
    summary: "Archive a certificate: final, its open jobs are cancelled, what was issued stays",
    params,
    answers: { 204: { description: "Archived" } },
    errors: [409, 412],
    handler: async (ctx, input) => {
      await archiveCertificate(ctx, input.params.id, input.ifMatch);
      return noContent();
    },
  }),
  route({
    operationId: "triggerRenewal",
    method: "post",
    path: "/api/v1/certificates/{id}/renew",
    access: "cert.issue",
    scope: certificateScope,
    tag: "Certificates",
    summary: "Ask the agents of the certificate's targets for CSRs: one job each",
    description: "`force` (query or body) also renews what expired, and starts anew what is under way.",
    params,
    query: z.object({ force: z.enum(["true", "false", "1", "0"]).optional() }),
    body: z.strictObject({ force: z.boolean().optional() }),
    bodyOptional: true,
    bodyLimit: 4096,
    answers: {
      202: {
        description: "The jobs that wait for a CSR now",
        schema: z.object({ status: z.string(), job_id: z.string(), job_ids: z.array(z.string()) }),
      },
    },
    errors: [409, 501],
    handler: async (ctx, { params: { id }, query, body }) => {
      const force = body.force === true || query.force === "true" || query.force === "1";
      return accepted(await triggerRenewal(ctx, id, force));
    },
  }),
  route({
    operationId: "certifyCertificateCSR",
    method: "post",
    path: "/api/v1/certificates/{id}/csr",
    access: "cert.issue",
    scope: certificateScope,
    tag: "Certificates",
    summary: "Have a CSR signed for a certificate without a target",
    description:
      "Where a certificate has targets, their agents make its keys. The same key and names again get the version that they have, while that is Active.",
    params,
    body: z.strictObject({ csr_pem: z.string().min(1).max(100_000) }),
    bodyLimit: 128 * 1024,
    answers: {
      201: {
        description: "The version: signed and stored",
        schema: z.object({ ...versionAnswer.shape, status: z.string(), version_id: z.string(), ignored }),
      },
      202: { description: "Ordered: the CA answers later, and the job tells of it", schema: csrAnswer },
    },
    errors: [409, 501, 503],
    handler: async (ctx, { params: { id }, body }) => {
      const outcome = await certifyCsr(ctx, id, body.csr_pem);
      if (!("version" in outcome)) return accepted(outcome);
      const { version, ...signed } = outcome;
      return created({ ...version, ...signed });
    },
  }),
];

const agentRoutes = [
  route({
    operationId: "agentGetWork",
    method: "get",
    path: "/api/v1/agents/{id}/work",
    access: "agent.job.poll",
    forAgents: true,
    tag: "Agents",
    summary: "What waits for this agent",
    params,
    answers: {
      200: {
        description: "The oldest first, at most 500",
        schema: z.object({ jobs: z.array(workItem), count: z.number().int() }),
      },
    },
    errors: [400, 410],
    handler: async (ctx, input) => {
      const jobs = await workOf(ctx, await agentAtWork(ctx, input.params.id));
      return ok({ jobs, count: jobs.length });
    },
  }),
  route({
    operationId: "agentSubmitCSR",
    method: "post",
    path: "/api/v1/agents/{id}/csr",
    access: "agent.job.poll",
    forAgents: true,
    tag: "Agents",
    summary: "Submit the CSR that a job waits for; the certificate is stored when this is answered",
    description:
      "`job_id` names the job; without it `certificate_id` means this agent's job that waits for a CSR of it.",
    params,
    body: z.object({
      csr_pem: z.string().min(1).max(100_000),
      certificate_id: z.string().optional(),
      job_id: z.string().optional(),
    }),
    bodyLimit: 128 * 1024,
    tolerant: true,
    answers: {
      202: {
        description:
          "Signed and stored; `csr_ordered` without a version: the CA answers later, and the job tells of it",
        schema: csrAnswer,
      },
    },
    errors: [409, 410, 501, 503],
    handler: async (ctx, input) => {
      return accepted(await submitCsr(ctx, input.params.id, input.body));
    },
  }),
  route({
    operationId: "agentPickupCertificate",
    method: "get",
    path: "/api/v1/agents/{id}/certificates/{cert_id}",
    access: "cert.read",
    forAgents: true,
    tag: "Agents",
    summary: "This agent's current version of a certificate",
    params: z.object({ id: z.string(), cert_id: z.string() }),
    answers: {
      200: {
        description: "The leaf first, then each issuer up to and including the root",
        schema: z.object({ certificate_pem: z.string() }),
      },
    },
    errors: [400, 410],
    handler: async (ctx, { params: { id, cert_id } }) => {
      return ok({ certificate_pem: await pickUp(ctx, id, cert_id) });
    },
  }),
];

const jobRoutes = [
  route({
    operationId: "listJobs",
    method: "get",
    path: "/api/v1/jobs",
    access: "job.read",
    scope: "handler",
    tag: "Jobs",
    summary: "List jobs",
    query: z.object({
      ...pageQuery.shape,
      status: jobStatus.optional(),
      type: jobType.optional(),
      certificate_id: z.string().optional(),
    }),
    answers: { 200: { description: "One page", schema: pageOf(jobAnswer) } },
    errors: [400],
    handler: async (ctx, { query }) => {
      return ok(pageAnswer(query, await listJobs(ctx, query, query), show));
    },
  }),
  route({
    operationId: "getJob",
    method: "get",
    path: "/api/v1/jobs/{id}",
    access: "job.read",
    scope: jobScope,
    tag: "Jobs",
    summary: "Get a job",
    params,
    answers: { 200: { description: "The job", schema: jobAnswer } },
    errors: [400],
    handler: async (ctx, input) => {
      const job = await findJob(ctx, input.params.id);
      if (!job) throw notFound("job", input.params.id);
      return ok(show(job));
    },
  }),
];

export const lifecycleRoutes: Route[] = [...certificateRoutes, ...agentRoutes, ...retirementRoutes, ...jobRoutes];
