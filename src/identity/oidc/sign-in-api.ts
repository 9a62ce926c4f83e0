import { z } from "@hono/zod-openapi";
import { invalid, unsupportedMediaType } from "../../platform/errors.ts";
import { type Route, raw, route } from "../../platform/route.ts";
import { backChannelLogout } from "./back-channel.ts";
import { finishSignIn, startSignIn } from "./sign-in.ts";

const tag = "Sign-in";

const octets = z.instanceof(Uint8Array).openapi({ type: "object", properties: { logout_token: { type: "string" } } });

export const signInRoutes: Route[] = [
  route({
    operationId: "startOIDCLogin",
    method: "get",
    path: "/auth/oidc/login",
    whenFull: "refused",
    access: { public: "nobody is signed in before signing in" },
    tag,
    summary: "Begin a sign-in with an identity provider",
    description: "Redirects the browser to the provider. `provider` may be absent where only one is enabled.",
    query: z.object({
      provider: z.string().min(1).max(255).optional().openapi({ description: "Id or name of the provider" }),
      return_to: z.string().max(2000).default("/").openapi({ description: "The path to come back to" }),
    }),
    answers: { 302: { description: "To the provider, with a cookie that binds the sign-in to this browser" } },
    errors: [400, 404, 409, 429, 502],
    handler: async (ctx, { query }) => startSignIn(ctx, query.provider, query.return_to),
  }),
  route({
    operationId: "finishOIDCLogin",
    method: "get",
    path: "/auth/oidc/callback",
    whenFull: "refused",
    access: { public: "the provider's answer, bound to the sign-in that this browser began, is the credential" },
    tag,
    summary: "The way back from the identity provider",
    description: "Opens a session. What fails ends at `/login?error=oidc_failed&reason=...`.",
    query: z.object({
      code: z.string().max(4096).optional(),
      state: z.string().max(512).optional(),
      iss: z.string().max(2048).optional(),
      error: z.string().max(512).optional(),
    }),
    answers: { 302: { description: "Signed in, or to the login page with the reason" } },
    errors: [400],
    handler: async (ctx, { query, request }) => finishSignIn(ctx, query, request),
  }),
  route({
    operationId: "oidcBackChannelLogout",
    method: "post",
    path: "/auth/oidc/back-channel-logout",
    whenFull: "served",
    access: { public: "the provider's signature on the logout token is the credential" },
    tag,
    summary: "A provider tells that somebody has signed out (OpenID Connect Back-Channel Logout 1.0)",
    bodyType: "application/x-www-form-urlencoded",
    body: octets,
    bodyLimit: 64 * 1024,
    answers: { 200: { description: "Their sessions have ended, or there were none" } },
    handler: async (ctx, { body, request }) => {
      await backChannelLogout(ctx, logoutToken(request, body));
      return raw(200, null, {});
    },
  }),
];

function logoutToken(request: Request, body: Uint8Array): string {
  const type = request.headers.get("Content-Type") ?? "";
  if (!/^application\/x-www-form-urlencoded\s*(?:;|$)/i.test(type))
    throw unsupportedMediaType("application/x-www-form-urlencoded");
  const [token, ...others] = new URLSearchParams(new TextDecoder().decode(body)).getAll("logout_token");
  if (!token || others.length > 0) throw invalid("logout_token", "is required, once", "invalid_logout_token");
  return token;
}
