import { z } from "@hono/zod-openapi";
import { asIs, pageAnswer, pageOf, pageQuery } from "../../platform/paging.ts";
import { created, noContent, ok, type Route, route } from "../../platform/route.ts";
import type { Settings } from "../../platform/settings.ts";
import { endReplaced } from "../sessions/sessions.ts";
import { listCredentials, remove, setPassword, unlock } from "./credentials.ts";
import { login } from "./login.ts";

const tag = "Break-glass";
const path = "/api/v1/auth/breakglass/credentials";
const OFF = "Off by default: it does not exist (404) unless the server runs with CERTCTL_BREAKGLASS_ENABLED=true.";
const exists = ({ auth }: Settings) => auth.breakglass.enabled;

const actor_id = z.string().min(1).max(128);
const params = z.object({ actor_id: z.string() });
const time = z.string().openapi({ format: "date-time" });
/** The exact byte limits apply when a password is set; longer input matches no password. */
const password = z.string().min(1).max(1024).openapi({ format: "password" });

const credential = z
  .object({
    id: z.string(),
    actor_id: z.string(),
    created_by: z.string(),
    created_at: time,
    updated_at: time,
    last_used_at: time.nullable(),
    failed_attempts: z.number().int(),
    locked_until: time.nullable(),
  })
  .openapi("BreakglassCredential");

export const breakglassRoutes: Route[] = [
  route({
    operationId: "breakglassLogin",
    method: "post",
    path: "/auth/breakglass/login",
    access: { public: "signs in while the identity provider is down; the password is the credential" },
    exists,
    tag,
    summary: "Sign in with a break-glass password",
    description: OFF,
    body: z.strictObject({ actor_id, password }),
    bodyLimit: 8192,
    answers: { 204: { description: "Signed in: the session and CSRF cookies are set" } },
    errors: [400, 401, 404, 429, 503],
    handler: async (ctx, { body, request }) => {
      const session = await login(ctx, body.actor_id, body.password);
      await endReplaced(ctx, request, { id: body.actor_id, type: "User" });
      return { ...noContent(), cookies: session.cookies };
    },
  }),
  route({
    operationId: "listBreakglassCredentials",
    method: "get",
    path,
    access: "auth.breakglass.admin",
    exists,
    tag,
    summary: "List who has a break-glass password, and whose account is locked",
    description: OFF,
    query: pageQuery,
    answers: { 200: { description: "One page", schema: pageOf(credential) } },
    errors: [400, 404],
    handler: async (ctx, { query }) => {
      return ok(pageAnswer(query, await listCredentials(ctx, query), asIs));
    },
  }),
  route({
    operationId: "setBreakglassPassword",
    method: "post",
    path,
    access: "auth.breakglass.admin",
    exists,
    tag,
    summary: "Give a user a break-glass password, or another one",
    description: `Needs every right of that user: nobody gives what they lack. Ends the user's sessions.\n\n${OFF}`,
    body: z.strictObject({ actor_id, password }),
    bodyLimit: 8192,
    answers: {
      200: { description: "The user has another password now", schema: credential },
      201: { description: "The user has a password now", schema: credential },
    },
    errors: [400, 404, 409, 503],
    handler: async (ctx, { body }) => {
      const set = await setPassword(ctx, body.actor_id, body.password);
      return set.created ? created(set.credential) : ok(set.credential);
    },
  }),
  route({
    operationId: "unlockBreakglassCredential",
    method: "post",
    path: `${path}/{actor_id}/unlock`,
    access: "auth.breakglass.admin",
    exists,
    tag,
    summary: "Let a locked account try again",
    description: OFF,
    params,
    answers: { 204: { description: "Unlocked" } },
    handler: async (ctx, input) => {
      await unlock(ctx, input.params.actor_id);
      return noContent();
    },
  }),
  route({
    operationId: "removeBreakglassCredential",
    method: "delete",
    path: `${path}/{actor_id}`,
    whenFull: "served",
    access: "auth.breakglass.admin",
    exists,
    tag,
    summary: "Take a user's break-glass password away, and end the user's sessions",
    description: OFF,
    params,
    answers: { 204: { description: "Removed" } },
    handler: async (ctx, input) => {
      await remove(ctx, input.params.actor_id);
      return noContent();
    },
  }),
];
