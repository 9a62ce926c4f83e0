import { z } from "@hono/zod-openapi";
import { commit } from "../../platform/commit.ts";
import { created, noContent, ok, type Route, route } from "../../platform/route.ts";
import { etagOf, lineSchema } from "../../platform/rows.ts";
import { scopeType } from "../schemas.ts";
import { providerDocuments, stateOf } from "./discovery.ts";
import { dryRun } from "./dry-run.ts";
import { kidsOf } from "./key-set.ts";
import { addMapping, listMappings, removeMapping } from "./mappings.ts";
import { providerAnswer, providerCreate, providerUpdate } from "./provider-fields.ts";
import {
  createProvider,
  deleteProvider,
  listProviders,
  mustFindProvider,
  shownProvider,
  updateProvider,
} from "./providers.ts";

const PATH = "/api/v1/auth/oidc/providers";
const MAPPINGS = "/api/v1/auth/oidc/group-mappings";
const common = { tag: "OIDC" };
const params = z.object({ id: z.string() });
const time = z.string().openapi({ format: "date-time" });

const providerRoutes: Route[] = [
  route({
    ...common,
    operationId: "listOIDCProviders",
    method: "get",
    path: PATH,
    access: "auth.oidc.list",
    summary: "List identity providers",
    answers: { 200: { description: "All of them", schema: z.object({ providers: z.array(providerAnswer) }) } },
    handler: async (ctx) => ok({ providers: (await listProviders(ctx)).map(shownProvider) }),
  }),
  route({
    ...common,
    operationId: "createOIDCProvider",
    method: "post",
    path: PATH,
    access: "auth.oidc.create",
    summary: "Create an identity provider, enabled unless told",
    body: providerCreate,
    answers: { 201: { description: "Created", schema: providerAnswer } },
    errors: [409],
    handler: async (ctx, { body }) => {
      const row = await createProvider(ctx, body);
      return created(shownProvider(row), { ETag: etagOf(row) });
    },
  }),
  route({
    ...common,
    operationId: "updateOIDCProvider",
    method: "put",
    path: `${PATH}/{id}`,
    access: "auth.oidc.edit",
    summary:
      "Update an identity provider: an absent field keeps its value, and so does a blank or masked client_secret",
    description:
      "The actor must hold everything that the provider can give by its mappings and users. Disabling ends their sessions.",
    params,
    body: providerUpdate,
    answers: { 200: { description: "The provider as it is now", schema: providerAnswer } },
    errors: [409, 412],
    handler: async (ctx, input) => {
      const row = await updateProvider(ctx, input.params.id, input.body, input.ifMatch);
      return ok(shownProvider(row), { ETag: etagOf(row) });
    },
  }),
  route({
    ...common,
    operationId: "deleteOIDCProvider",
    method: "delete",
    path: `${PATH}/{id}`,
    access: "auth.oidc.delete",
    summary: "Delete an identity provider; 409 while it has users or mappings",
    params,
    answers: { 204: { description: "Deleted" } },
    errors: [409, 412],
    handler: async (ctx, input) => {
      await deleteProvider(ctx, input.params.id, input.ifMatch);
      return noContent();
    },
  }),
];

const jwksStatus = z
  .object({
    last_refresh_at: time.optional(),
    current_kids: z.array(z.string()),
    refresh_count: z.number().int(),
    last_error: z.string().optional(),
    rejected_jws_count: z.number().int(),
    iss_param_supported: z.boolean(),
  })
  .openapi("OIDCJWKSStatusSnapshot");

const dryRunResult = z
  .object({
    discovery_succeeded: z.boolean(),
    jwks_reachable: z.boolean(),
    supported_alg_values: z.array(z.string()),
    iss_param_supported: z.boolean(),
    issuer_echo: z.string().optional(),
    authorization_url: z.string().optional(),
    token_url: z.string().optional(),
    jwks_uri: z.string().optional(),
    userinfo_endpoint: z.string().optional(),
    current_kids: z.array(z.string()),
    errors: z.array(z.string()),
  })
  .openapi("OIDCTestDiscoveryResult");

const documentRoutes: Route[] = [
  route({
    ...common,
    operationId: "getOIDCProviderJWKSStatus",
    method: "get",
    path: `${PATH}/{id}/jwks-status`,
    access: "auth.oidc.list",
    summary: "What is kept of a provider's keys; counted over all isolates",
    params,
    answers: { 200: { description: "The state", schema: jwksStatus } },
    errors: [400],
    handler: async (ctx, input) => {
      const provider = await mustFindProvider(ctx, input.params.id);
      const state = await stateOf(ctx, provider);
      return ok({
        current_kids: state?.keys ? kidsOf(state.keys) : [],
        refresh_count: state?.refresh_count ?? 0,
        rejected_jws_count: state?.rejected_jws_count ?? 0,
        iss_param_supported: state?.discovery?.authorization_response_iss_parameter_supported ?? false,
        ...(state?.fetched_at ? { last_refresh_at: state.fetched_at } : {}),
        ...(state?.last_error ? { last_error: state.last_error } : {}),
      });
    },
  }),
  route({
    ...common,
    operationId: "refreshOIDCProvider",
    method: "post",
    path: `${PATH}/{id}/refresh`,
    access: "auth.oidc.edit",
    summary: "Fetch a provider's metadata and keys now; 502 with what the provider does wrong",
    params,
    answers: { 200: { description: "Fetched", schema: z.object({ refreshed: z.boolean() }) } },
    errors: [400, 502],
    handler: async (ctx, input) => {
      const provider = await mustFindProvider(ctx, input.params.id);
      const { keys } = await providerDocuments(ctx, provider, { refresh: true });
      await commit(ctx, [ctx.audit("auth.oidc_provider.refresh", provider.id, { kids: kidsOf(keys) })]);
      return ok({ refreshed: true });
    },
  }),
  route({
    ...common,
    operationId: "testOIDCProvider",
    method: "post",
    path: "/api/v1/auth/oidc/test",
    access: "auth.oidc.create",
    summary: "Dry run: what a provider would be like",
    description:
      "Asks for metadata and keys, at most ten seconds; `errors` names everything that is wrong. Stores nothing and sends no secret: client_id and client_secret may come along and have no effect.",
    body: z
      .strictObject({
        issuer_url: z.string().min(1).max(2000),
        client_id: z.string().max(255).optional(),
        client_secret: z.string().max(1024).optional().openapi({ format: "password" }),
        scopes: z.array(z.string().max(128)).max(50).optional(),
      })
      .openapi("OIDCTestRequest"),
    answers: { 200: { description: "What was found", schema: dryRunResult } },
    handler: async (ctx, { body }) => ok(await dryRun(ctx, body.issuer_url, body.scopes)),
  }),
];

const mapping = z
  .object({
    id: z.string(),
    tenant_id: z.string(),
    provider_id: z.string(),
    group_name: z.string(),
    role_id: z.string(),
    scope_type: scopeType,
    scope_id: z.string().optional(),
    created_at: time,
  })
  .openapi("OIDCGroupMappingResponse");

const mappingRoutes: Route[] = [
  route({
    ...common,
    operationId: "listOIDCGroupMappings",
    method: "get",
    path: MAPPINGS,
    access: "auth.oidc.list",
    summary: "Which groups of a provider give which roles",
    query: z.object({ provider_id: z.string().min(1) }),
    answers: { 200: { description: "All of them", schema: z.object({ mappings: z.array(mapping) }) } },
    errors: [400],
    handler: async (ctx, { query }) => ok({ mappings: await listMappings(ctx, query.provider_id) }),
  }),
  route({
    ...common,
    operationId: "addOIDCGroupMapping",
    method: "post",
    path: MAPPINGS,
    access: "auth.oidc.edit",
    summary: "Let a group give a role, from each member's next sign-in on",
    description: "The actor must hold everything that the role gives in its scope.",
    body: z
      .strictObject({
        provider_id: z.string().min(1),
        group_name: lineSchema.min(1).max(512),
        role_id: z.string().min(1),
        scope_type: scopeType.optional(),
        scope_id: z.string().nullish(),
      })
      .openapi("OIDCGroupMappingRequest"),
    answers: { 201: { description: "Created", schema: mapping } },
    errors: [409],
    handler: async (ctx, { body }) => created(await addMapping(ctx, body)),
  }),
  route({
    ...common,
    operationId: "removeOIDCGroupMapping",
    method: "delete",
    path: `${MAPPINGS}/{id}`,
    access: "auth.oidc.edit",
    summary: "Remove a mapping, and at once every grant that came of it",
    params,
    answers: { 204: { description: "Removed" } },
    errors: [400, 409],
    handler: async (ctx, input) => {
      await removeMapping(ctx, input.params.id);
      return noContent();
    },
  }),
];

export const oidcRoutes: Route[] = [...providerRoutes, ...documentRoutes, ...mappingRoutes];
