import { z } from "@hono/zod-openapi";
import { asIs, pageAnswer, pageOf, pageQuery } from "../../platform/paging.ts";
import { created, noContent, ok, type Route, route } from "../../platform/route.ts";
import { etagOf, idSchema, nameSchema } from "../../platform/rows.ts";
import { ISSUER_TYPES } from "../config.ts";
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

/** The configuration is parsed by its type's schema; the OpenAPI document shows the only type there is. */
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

/** Bytes. An imported CA brings its issuance history. */
const CREATE_LIMIT = 16 * 1024 * 1024;

const answered = (view: IssuerView) => ({ ETag: etagOf(view) });

export const issuerRoutes: Route[] = [
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
