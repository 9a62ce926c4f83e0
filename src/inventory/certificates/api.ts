import { z } from "@hono/zod-openapi";
import { asIs, pageAnswer, pageOf, pageQuery } from "../../platform/paging.ts";
import { created, ok, type Route, raw, route } from "../../platform/route.ts";
import { cleared, etagOf, idSchema, isSortable, nameSchema, updateBodyOf, writable } from "../../platform/rows.ts";
import {
  CERTIFICATE_STATUSES,
  type CertificateFields,
  createCertificate,
  listCertificates,
  mustFindCertificate,
  SORT_KEYS,
  updateCertificate,
  viewOf,
} from "./certificates.ts";
import { exportPem, exportPkcs12 } from "./export.ts";
import { versionAnswer } from "./schemas.ts";
import { certificateScope } from "./scope.ts";
import { certificates } from "./table.ts";
import { listVersions } from "./versions.ts";

const path = "/api/v1/certificates";
const tag = "Certificates";
const params = z.object({ id: z.string() });
const time = z.string().openapi({ format: "date-time" });
const status = z.enum(CERTIFICATE_STATUSES);

export const certificateAnswer = z
  .object({
    id: z.string(),
    name: z.string(),
    common_name: z.string(),
    sans: z.array(z.string()),
    environment: z.string(),
    owner_id: z.string(),
    team_id: z.string(),
    issuer_id: z.string(),
    target_ids: z.array(z.string()),
    renewal_policy_id: z.string(),
    certificate_profile_id: z.string().nullable(),
    status,
    expires_at: time.nullable(),
    tags: z.record(z.string(), z.string()),
    last_renewal_at: time.nullable(),
    last_deployment_at: time.nullable(),
    revoked_at: time.nullable(),
    revocation_reason: z.string().nullable(),
    created_at: time,
    updated_at: time,
  })
  .openapi("ManagedCertificate");

const fields = z.object({
  name: nameSchema,
  common_name: z.string().min(1).max(2048),
  sans: z.array(z.string().min(1).max(2048)).max(250).default([]),
  environment: z.string().max(64).default(""),
  owner_id: z.string(),
  team_id: z.string(),
  issuer_id: z.string(),
  renewal_policy_id: z.string(),
  certificate_profile_id: z.string().nullable().default(null),
  tags: z
    .record(z.string().min(1).max(128), z.string().max(1024))
    .refine((tags) => Object.keys(tags).length <= 100, "may have at most 100 entries")
    .default({}),
  target_ids: z.array(z.string()).max(200).default([]),
});

/** Server-managed: accepted in a read-modify-write and ignored. */
const managed = {
  status: status.nullish(),
  expires_at: time.nullish(),
  last_renewal_at: time.nullish(),
  last_deployment_at: time.nullish(),
  revoked_at: time.nullish(),
  revocation_reason: z.string().nullish(),
  // A field of the version, not of the record; accepted because a known client sends it.
  serial_number: z.string().nullish(),
  created_at: time.nullish(),
  updated_at: time.nullish(),
};

const DEMANDED = ["name", "common_name", "renewal_policy_id", "issuer_id", "owner_id", "team_id"];

/** Any RFC 3339 time, converted to the form in rows. */
const instant = z.iso
  .datetime({ offset: true, error: "must be an RFC 3339 time such as 2026-01-31T12:00:00Z" })
  .refine((text) => isSortable(new Date(text)), "must be of the years 0 to 9999 (UTC)")
  .transform((text) => new Date(text).toISOString())
  .openapi({ type: "string", format: "date-time" });

/** Hex in any case, with or without colons. */
const hexSchema = (digits: number) =>
  z
    .string()
    .regex(/^[0-9a-fA-F]+(?:[:\s][0-9a-fA-F]+)*$/, "must be hex, with or without colons")
    .max(digits + digits / 2);

const query = z.object({
  ...pageQuery.shape,
  status: status.optional(),
  environment: z.string().optional(),
  owner_id: z.string().optional(),
  team_id: z.string().optional(),
  issuer_id: z.string().optional(),
  profile_id: z.string().optional(),
  agent_id: z.string().optional(),
  expires_before: instant.optional(),
  expires_after: instant.optional(),
  created_after: instant.optional(),
  updated_after: instant.optional(),
  expiring_within: z
    .string()
    .regex(/^[1-9][0-9]{0,4}[dh]?$/, "must be a number of days such as 30 or 30d, or of hours such as 12h")
    .transform((text) => Number.parseInt(text, 10) * (text.endsWith("h") ? 3_600 : 86_400))
    .optional()
    .openapi({ type: "string", description: "Ends within so many days (30, 30d) or hours (12h) and not before now" }),
  serial_number: hexSchema(40).optional().openapi({ description: "Of any version, in hex" }),
  fingerprint_sha256: hexSchema(64).optional().openapi({ description: "Of any version, in hex" }),
  san: z.string().min(1).max(2048).optional().openapi({ description: "One name of the certificate, whole" }),
  q: z.string().trim().min(1).max(255).optional().openapi({
    description: "Part of the record's name or id, or of one of its certificate's names; case does not matter",
  }),
  sort: z
    .string()
    .refine((text) => SORT_KEYS.includes(text.replace(/^-/, "")), `must be one of ${SORT_KEYS.join(", ")}, or -key`)
    .default("createdAt"),
  sort_desc: z.enum(["true", "false"]).optional(),
});

const pemAnswer = z
  .object({ cert_pem: z.string(), chain_pem: z.string(), full_pem: z.string() })
  .openapi("CertificateExport");

const binary = z.string().openapi({ format: "binary" });
const attachment = (id: string, extension: string) => `attachment; filename="${id}.${extension}"`;

export const certificateRoutes: Route[] = [
  route({
    operationId: "listCertificates",
    method: "get",
    path,
    access: "cert.read",
    scope: "handler",
    tag,
    summary: "List certificates",
    query,
    answers: { 200: { description: "One page", schema: pageOf(certificateAnswer) } },
    errors: [400],
    handler: async (ctx, { query }) => {
      const { sort, sort_desc } = query;
      const descending = sort.startsWith("-") !== (sort_desc === "true");
      const order = { key: sort.replace(/^-/, ""), descending };
      return ok(pageAnswer(query, await listCertificates(ctx, query, query, order), asIs));
    },
  }),
  route({
    operationId: "createCertificate",
    method: "post",
    path,
    access: "cert.issue",
    scope: "handler",
    tag,
    summary: "Create a certificate record; nothing is issued yet",
    description:
      "In a scope: the body's profile or issuer must be of it. Owner, team, renewal policy and targets may be any that exist.",
    body: z.strictObject({ id: idSchema.optional(), ...fields.shape, ...managed }),
    location: path,
    answers: { 201: { description: "Created", schema: certificateAnswer } },
    errors: [409],
    handler: async (ctx, { body }) => {
      const view = await createCertificate(ctx, body.id, writable(fields, body) as unknown as CertificateFields);
      return created(view);
    },
  }),
  route({
    operationId: "getCertificate",
    method: "get",
    path: `${path}/{id}`,
    access: "cert.read",
    scope: certificateScope,
    tag,
    summary: "Get a certificate",
    params,
    answers: { 200: { description: "The certificate", schema: certificateAnswer } },
    handler: async (ctx, input) => {
      const row = await mustFindCertificate(ctx, input.params.id);
      return ok(await viewOf(ctx, row), { ETag: etagOf(row) });
    },
  }),
  route({
    operationId: "updateCertificate",
    method: "put",
    path: `${path}/{id}`,
    access: "cert.edit",
    scope: certificateScope,
    tag,
    summary: "Update a certificate record: an absent field keeps its value, null clears it",
    description:
      "What was issued already stays as it is; the next issuance follows the record. In a scope: another profile or issuer must leave the certificate in it.",
    params,
    body: updateBodyOf(fields, managed, DEMANDED),
    answers: { 200: { description: "The certificate as it is now", schema: certificateAnswer } },
    errors: [409, 412],
    handler: async (ctx, input) => {
      const values = cleared(certificates, fields, writable(fields, input.body));
      if (values.target_ids === null) values.target_ids = [];
      const view = await updateCertificate(
        ctx,
        input.params.id,
        values as unknown as Partial<CertificateFields>,
        input.ifMatch,
      );
      return ok(view, { ETag: etagOf(view) });
    },
  }),
  route({
    operationId: "listCertificateVersions",
    method: "get",
    path: `${path}/{id}/versions`,
    access: "cert.read",
    scope: certificateScope,
    tag,
    summary: "What was issued for a certificate, the newest first",
    params,
    query: pageQuery,
    answers: { 200: { description: "One page", schema: pageOf(versionAnswer) } },
    errors: [400],
    handler: async (ctx, input) => {
      await mustFindCertificate(ctx, input.params.id);
      return ok(pageAnswer(input.query, await listVersions(ctx, input.params.id, input.query), asIs));
    },
  }),
  route({
    operationId: "exportCertificatePEM",
    method: "get",
    path: `${path}/{id}/export/pem`,
    access: "cert.read",
    scope: certificateScope,
    tag,
    summary: "The newest version with its chain as PEM, as JSON or as a file",
    params,
    query: z.object({ download: z.enum(["true", "false"]).optional() }),
    answers: {
      200: {
        description: "Leaf, chain, and both: the leaf first, then each issuer up to and including the root",
        schema: pemAnswer,
        also: { "application/x-pem-file": binary },
      },
    },
    errors: [400],
    handler: async (ctx, input) => {
      const pem = await exportPem(ctx, input.params.id);
      if (input.query.download !== "true") return ok(pem);
      return raw(200, pem.full_pem, {
        "Content-Type": "application/x-pem-file",
        "Content-Disposition": attachment(input.params.id, "pem"),
      });
    },
  }),
  route({
    operationId: "exportCertificatePKCS12",
    method: "post",
    path: `${path}/{id}/export/pkcs12`,
    whenFull: "served",
    access: "cert.read",
    scope: certificateScope,
    tag,
    summary: "The newest version with its chain as a PKCS#12 trust store; it holds no key",
    params,
    body: z.strictObject({ password: z.string().max(1024).default("") }),
    bodyOptional: true,
    bodyLimit: 16_384,
    answers: { 200: { description: "The store", schema: binary, type: "application/x-pkcs12" } },
    handler: async (ctx, input) => {
      const { id } = input.params;
      const store = await exportPkcs12(ctx, id, input.body.password);
      return raw(200, store, {
        "Content-Type": "application/x-pkcs12",
        "Content-Disposition": attachment(id, "p12"),
      });
    },
  }),
];
