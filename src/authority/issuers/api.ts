import { z } from "@hono/zod-openapi";
import { invalid } from "../../platform/errors.ts";
import { asIs, pageAnswer, pageOf, pageQuery } from "../../platform/paging.ts";
import { created, noContent, ok, type Route, route } from "../../platform/route.ts";
import { etagOf, idSchema, nameSchema, textSchema } from "../../platform/rows.ts";
import { caSubject, ISSUER_TYPES, keyAlgorithm, revocationReason } from "./config.ts";
import { caScope, createIntermediate, listCas, mustFindCa, retireCa, viewOf } from "./intermediates.ts";
import {
  createIssuer,
  deleteIssuer,
  getIssuer,
  type IssuerView,
  issuerScope,
  listIssuers,
  testIssuer,
  updateIssuer,
} from "./issuers.ts";
import { pastRoutes } from "./past-api.ts";

const dateTime = z.string().openapi({ format: "date-time" });
const type = z.enum(ISSUER_TYPES).openapi("IssuerType");
const tag = "Issuers";
const params = z.object({ id: z.string() });

const managed = {
  last_tested_at: dateTime.nullish(),
  test_status: z.string().nullish(),
  created_at: dateTime.nullish(),
  updated_at: dateTime.nullish(),
  warnings: z.array(z.string()).nullish(),
  problems: z.array(z.unknown()).nullish(),
};

const answer = z
  .object({
    id: z.string(),
    name: z.string(),
    type,
    config: z.record(z.string(), z.unknown()),
    enabled: z.boolean(),
    last_tested_at: dateTime.nullable(),
    test_status: z.enum(["untested", "success", "failed"]),
    created_at: dateTime,
    updated_at: dateTime,
    warnings: z.array(z.string()).optional().openapi({
      description: "What of the CA's chain should be known, as a root without keyUsage; absent where nothing is",
    }),
    problems: z
      .array(z.object({ ca_id: z.string(), task: z.string(), since: dateTime, error: z.string() }))
      .optional()
      .openapi({
        description:
          "What its CAs have failed to do for two minutes and more, and go on trying: `list:<shard>`, `ocsp_responder`, `inventory`, `outbox`; absent where that is nothing",
      }),
  })
  .openapi("Issuer");

/** The configuration is parsed by the schema of its type; the document shows the one type that there is. */
const createBody = z.strictObject({
  id: idSchema.optional(),
  name: nameSchema,
  type,
  config: z.record(z.string(), z.unknown()).default({}),
  enabled: z.boolean().default(true),
  ...managed,
});

const updateBody = z.strictObject({
  id: z.string().nullish(),
  name: nameSchema.nullish(),
  type: type.nullish(),
  config: z.record(z.string(), z.unknown()).nullish(),
  enabled: z.boolean().nullish(),
  force: z
    .boolean()
    .optional()
    .openapi({ description: "Takes a CA certificate that ends before those that the CA issued" }),
  ...managed,
});

/** A CA that is brought in comes with its past. */
const CREATE_LIMIT = 16 * 1024 * 1024;

const answered = (view: IssuerView) => ({ ETag: etagOf(view) });

const ownRoutes: Route[] = [
  route({
    operationId: "listIssuers",
    method: "get",
    path: "/api/v1/issuers",
    access: "issuer.read",
    scope: "handler",
    tag,
    summary: "List issuers",
    query: pageQuery,
    answers: { 200: { description: "One page", schema: pageOf(answer) } },
    errors: [400],
    handler: async (ctx, { query }) => {
      return ok(pageAnswer(query, await listIssuers(ctx, query), asIs));
    },
  }),
  route({
    operationId: "createIssuer",
    method: "post",
    path: "/api/v1/issuers",
    access: "issuer.edit",
    tag,
    summary: "Create an issuer",
    description:
      "Type GenericCA: a root made inside, a CA brought in (`ca_cert_pem`, `ca_key_pem`), or a subordinate whose request `config.ca_csr_pem` answers. The other types are not available in this version.",
    body: createBody,
    bodyLimit: CREATE_LIMIT,
    location: "/api/v1/issuers",
    answers: { 201: { description: "Created", schema: answer } },
    errors: [409],
    handler: async (ctx, { body }) => created(await createIssuer(ctx, { ...body, id: body.id })),
  }),
  route({
    operationId: "getIssuer",
    method: "get",
    path: "/api/v1/issuers/{id}",
    access: "issuer.read",
    scope: issuerScope,
    tag,
    summary: "Get an issuer, secrets masked",
    params,
    answers: { 200: { description: "The issuer", schema: answer } },
    errors: [400],
    handler: async (ctx, input) => {
      const view = await getIssuer(ctx, input.params.id);
      return ok(view, answered(view));
    },
  }),
  route({
    operationId: "updateIssuer",
    method: "put",
    path: "/api/v1/issuers/{id}",
    access: "issuer.edit",
    scope: issuerScope,
    tag,
    summary:
      "Update an issuer: an absent field keeps its value, in its configuration too; a subordinate's certificate comes in here",
    params,
    body: updateBody,
    answers: { 200: { description: "The issuer as it is now", schema: answer } },
    errors: [409, 412],
    handler: async (ctx, input) => {
      const view = await updateIssuer(ctx, input.params.id, input.body, input.ifMatch);
      return ok(view, answered(view));
    },
  }),
  route({
    operationId: "deleteIssuer",
    method: "delete",
    path: "/api/v1/issuers/{id}",
    access: "issuer.delete",
    scope: issuerScope,
    tag,
    summary: "Delete an issuer; 409 while certificates or intermediates need it",
    params,
    answers: { 204: { description: "Deleted" } },
    errors: [400, 409, 412],
    handler: async (ctx, input) => {
      await deleteIssuer(ctx, input.params.id, input.ifMatch);
      return noContent();
    },
  }),
  route({
    operationId: "testIssuerConnection",
    method: "post",
    path: "/api/v1/issuers/{id}/test",
    access: "issuer.edit",
    scope: issuerScope,
    tag,
    summary: "Check that an issuer can sign and answer for what it signed",
    params,
    answers: { 200: { description: "It can", schema: z.object({ status: z.string() }) } },
    errors: [400],
    handler: async (ctx, input) => {
      await testIssuer(ctx, input.params.id);
      return ok({ status: "success" });
    },
  }),
];

const constraintValues = z.array(z.string().max(512)).max(500);

const ca = z
  .object({
    id: z.string(),
    issuer_id: z.string(),
    owning_issuer_id: z.string(),
    parent_ca_id: z.string().nullable(),
    name: z.string(),
    subject: z.record(z.string(), z.unknown()),
    state: z.enum(["awaiting_certificate", "active", "retiring", "retired"]),
    cert_pem: z.string(),
    chain_pem: z.string(),
    csr_pem: z.string().nullable(),
    serial_number: z.string().nullable(),
    not_before: dateTime.nullable(),
    not_after: dateTime.nullable(),
    path_len_constraint: z.number().int().nullable(),
    name_constraints: z.array(z.object({ permitted: z.array(z.string()), excluded: z.array(z.string()) })),
    algorithm: z.string(),
    crl_url: z.string(),
    ocsp_responder_url: z.string(),
    ca_issuers_url: z.string(),
    metadata: z.record(z.string(), z.unknown()),
    note: z.string().nullable(),
    retired_at: dateTime.nullable(),
    revoked_at: dateTime.nullable(),
    revocation_reason: z.string().nullable(),
    created_at: dateTime,
    updated_at: dateTime,
  })
  .openapi("IntermediateCA");

/** What belongs to the issuer's own CA; an intermediate has neither. */
function refuseOwnCaField(field: string, value: string | null | undefined): void {
  if (value === undefined || value === null) return;
  throw invalid(field, "a CA of one's own is brought in by the issuer's config (ca_cert_pem, ca_key_pem)");
}

const intermediateRoutes: Route[] = [
  route({
    operationId: "createIntermediateCA",
    method: "post",
    path: "/api/v1/issuers/{id}/intermediates",
    access: "ca.hierarchy.manage",
    scope: issuerScope,
    tag,
    summary: "Create a CA below one of the issuer's; the issuer's own is the parent where none is named",
    params,
    body: z.strictObject({
      name: nameSchema,
      parent_ca_id: z.string().max(64).nullish(),
      root_cert_pem: z.string().nullish(),
      key_driver_id: z.string().nullish(),
      subject: caSubject.nullish(),
      algorithm: keyAlgorithm.nullish(),
      ttl_days: z.number().int().min(1).max(36_525).nullish(),
      path_len_constraint: z.number().int().min(0).max(10).nullish(),
      name_constraints: z
        .array(z.strictObject({ permitted: constraintValues.optional(), excluded: constraintValues.optional() }))
        .max(10)
        .nullish(),
      ocsp_responder_url: z
        .url({ protocol: /^https?$/ })
        .max(1024)
        .nullish(),
      metadata: z.record(z.string(), z.unknown()).nullish(),
    }),
    location: "/api/v1/intermediates",
    answers: { 201: { description: "Created", schema: ca } },
    errors: [409],
    handler: async (ctx, input) => {
      const { root_cert_pem, key_driver_id, ...body } = input.body;
      refuseOwnCaField("root_cert_pem", root_cert_pem);
      refuseOwnCaField("key_driver_id", key_driver_id);
      const name_constraints = body.name_constraints?.map(({ permitted = [], excluded = [] }) => ({
        permitted,
        excluded,
      }));
      const row = await createIntermediate(ctx, input.params.id, { ...body, name_constraints });
      return created(viewOf(ctx, row));
    },
  }),
  route({
    operationId: "listIntermediateCAs",
    method: "get",
    path: "/api/v1/issuers/{id}/intermediates",
    access: "ca.hierarchy.manage",
    scope: issuerScope,
    tag,
    summary: "Every CA of an issuer, its own first",
    params,
    answers: { 200: { description: "The CAs", schema: z.object({ data: z.array(ca) }) } },
    handler: async (ctx, input) => {
      const rows = await listCas(ctx, input.params.id);
      return ok({ data: rows.map((row) => viewOf(ctx, row)) });
    },
  }),
  route({
    operationId: "getIntermediateCA",
    method: "get",
    path: "/api/v1/intermediates/{id}",
    access: "ca.hierarchy.manage",
    scope: caScope,
    tag,
    summary: "Get a CA",
    params,
    answers: { 200: { description: "The CA", schema: ca } },
    handler: async (ctx, input) => ok(viewOf(ctx, await mustFindCa(ctx, input.params.id))),
  }),
  route({
    operationId: "retireIntermediateCA",
    method: "post",
    path: "/api/v1/intermediates/{id}/retire",
    whenFull: "served",
    access: "ca.hierarchy.manage",
    scope: caScope,
    tag,
    summary: "Retire a CA in two phases; with a reason the second one also revokes it at its parent",
    params,
    body: z.strictObject({
      note: textSchema.nullish(),
      confirm: z.boolean().nullish().openapi({ default: false }),
      reason: revocationReason.nullish(),
    }),
    bodyOptional: true,
    answers: { 200: { description: "The CA as it is now", schema: ca } },
    errors: [409],
    handler: async (ctx, input) => {
      const { note = null, confirm, reason = null } = input.body;
      const row = await retireCa(ctx, input.params.id, { note, confirm: confirm ?? false, reason });
      return ok(viewOf(ctx, row));
    },
  }),
];

export const issuerRoutes: Route[] = [...ownRoutes, ...intermediateRoutes, ...pastRoutes];
