import { z } from "@hono/zod-openapi";
import { isLoopback } from "../../platform/demo.ts";
import { AppError, invalid } from "../../platform/errors.ts";
import { checkSecureUrl } from "../../platform/outbound.ts";
import { lineSchema, nameSchema, updateBodyOf } from "../../platform/rows.ts";
import type { Settings } from "../../platform/settings.ts";
import { type GroupsClaim, jsonPathSteps } from "./groups.ts";

/** Fields of an identity provider in the API, and their validation. */

/** Placeholder for the secret when a client sends back what it read. */
const MASK = "********";

const CALLBACK_PATH = "/auth/oidc/callback";
const DOMAIN = /^(?=.{1,253}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;
/** RFC 6749 section 3.3. */
const SCOPE_TOKEN = /^[\x21\x23-\x5b\x5d-\x7e]{1,128}$/;

const issuerUrl = z.string().min(1).max(2000).openapi({
  description:
    "The provider's issuer identifier, exactly as its metadata has it. https, and no reserved address unless OUTBOUND_ALLOW has it.",
});

const clientSecret = z.string().max(1024).openapi({ format: "password" });

const scopes = z
  .array(z.string().regex(SCOPE_TOKEN, "must be scope tokens (RFC 6749 section 3.3)"))
  .max(50)
  .transform((list) => [...new Set(list)])
  .refine((list) => list.includes("openid"), "must have openid");

const domains = z
  .array(
    z
      .string()
      .trim()
      .toLowerCase()
      .regex(DOMAIN, "must be domains such as example.com (an international one in its xn-- form)"),
  )
  .max(200)
  .transform((list) => [...new Set(list)]);

const redirectUri = z
  .string()
  .max(2000)
  .superRefine((text, issues) => {
    const problem = redirectProblem(text);
    if (problem !== null) issues.addIssue({ code: "custom", message: problem });
  });

/** Checks a redirect_uri: this server's callback, over TLS unless it is on loopback. */
function redirectProblem(text: string): string | null {
  const url = URL.parse(text);
  if (!url || (url.protocol !== "https:" && !(url.protocol === "http:" && isLoopback(url.hostname))))
    return "must be an https URL, or http on localhost, 127.0.0.1 or [::1]";
  if (url.username !== "" || url.password !== "") return "must not carry credentials";
  if (/[?#]/.test(text)) return "must have neither query nor fragment";
  return url.pathname === CALLBACK_PATH ? null : `its path must be ${CALLBACK_PATH}`;
}

/** Fields of a create body, with defaults. The client secret is separate because it is sealed. */
export const providerFields = z.object({
  name: nameSchema,
  issuer_url: issuerUrl,
  client_id: lineSchema.min(1).max(255),
  redirect_uri: redirectUri,
  groups_claim_path: lineSchema.min(1).max(255).default("groups").openapi({
    description:
      "A claim's name, or names with dots between them for nested objects; with json-path also a JSONPath of names, indexes and wildcards: $.realm_access.roles, $['urn:example:roles'], $.groups[*].name",
  }),
  groups_claim_format: z.enum(["string-array", "json-path"]).default("string-array").openapi({
    description:
      "string-array: a list of texts, or one text. json-path: these, or an object, whose names are the groups.",
  }),
  fetch_userinfo: z.boolean().default(false),
  scopes: scopes.default(["openid", "profile", "email"]),
  allowed_email_domains: domains.default([]),
  iat_window_seconds: z.number().int().min(1).max(600).default(300),
  jwks_cache_ttl_seconds: z.number().int().min(60).max(2_592_000).default(3600),
  enabled: z.boolean().default(true),
});

const time = z.string().openapi({ format: "date-time" });

const managed = { tenant_id: z.string().nullish(), created_at: z.string().nullish(), updated_at: z.string().nullish() };

export const providerCreate = z
  .strictObject({
    ...providerFields.shape,
    client_secret: clientSecret
      .refine((text) => text !== MASK, "is the mask of a secret, not a secret")
      .openapi({
        description: "Sealed, and never shown again. Blank for a public client.",
      }),
    ...managed,
  })
  .openapi("OIDCProviderRequest");

export const providerUpdate = updateBodyOf(
  z.object({ ...providerFields.shape, client_secret: clientSecret }),
  managed,
  ["name", "issuer_url", "client_id", "client_secret", "redirect_uri"],
);

export const providerAnswer = z
  .object({
    id: z.string(),
    tenant_id: z.string(),
    name: z.string(),
    issuer_url: z.string(),
    client_id: z.string(),
    redirect_uri: z.string(),
    groups_claim_path: z.string(),
    groups_claim_format: z.string(),
    fetch_userinfo: z.boolean(),
    scopes: z.array(z.string()),
    allowed_email_domains: z.array(z.string()),
    iat_window_seconds: z.number().int(),
    jwks_cache_ttl_seconds: z.number().int(),
    enabled: z.boolean(),
    created_at: time,
    updated_at: time,
  })
  .openapi("OIDCProviderResponse");

/** The change of the secret that an update requests: `keep` if absent, blank or masked; null clears it. */
export function secretChange(sent: unknown): "keep" | { readonly value: string | null } {
  if (sent === null) return { value: null };
  return typeof sent !== "string" || sent === "" || sent === MASK ? "keep" : { value: sent };
}

/**
 * Throws 400 unless the URL is allowed and valid as an issuer (OpenID Connect Discovery 1.0 section 3: no query, no
 * fragment).
 */
export function checkIssuerUrl(settings: Settings, issuer_url: string): void {
  try {
    checkSecureUrl(issuer_url, settings.outboundAllow);
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    throw invalid("issuer_url", error.message.replace(/^url: /, ""), error.code);
  }
  if (/[?#\s]/.test(issuer_url)) throw invalid("issuer_url", "must have neither query nor fragment nor blanks");
}

/** Throws 400 for a path that looks like a JSONPath but is not supported. */
export function checkGroupsClaim({ groups_claim_path: path, groups_claim_format: format }: GroupsClaim): void {
  if (format === "json-path" && path.startsWith("$") && jsonPathSteps(path) === null)
    throw invalid("groups_claim_path", "must be a JSONPath of names, indexes and *: $.a.b, $['a.b'], $.a[0], $.a[*].b");
}
