import { z } from "@hono/zod-openapi";
import { invalid } from "../../platform/errors.ts";
import { created, ok, type Route, route } from "../../platform/route.ts";
import { nameSchema, textSchema } from "../../platform/rows.ts";
import { revocationReason } from "../config.ts";
import { issuerScope } from "../issuers/issuers.ts";
import { caSubject, keyAlgorithm } from "./config.ts";
import { caScope, createIntermediate, listCas, mustFindCa, retireCa, viewOf } from "./intermediates.ts";

const dateTime = z.string().openapi({ format: "date-time" });
const tag = "Issuers";
const params = z.object({ id: z.string() });

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

/** Refuses a field of the issuer's own CA: an intermediate has none. */
function refuseOwnCaField(field: string, value: string | null | undefined): void {
  if (value === undefined || value === null) return;
  throw invalid(field, "a CA of one's own is brought in by the issuer's config (ca_cert_pem, ca_key_pem)");
}

export const intermediateRoutes: Route[] = [
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
