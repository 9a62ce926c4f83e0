import type { Actor, Caller, LookupContext } from "./context.ts";
import type { AppError } from "./errors.ts";

/**
 * Access rules of routes. A route may declare credentials in addition to API keys and sessions, or instead of them: a
 * protocol's own (HTTP Basic, a client certificate, a signed body), or one valid for this route alone.
 */

/**
 * A permission of the catalogue; or open to everyone or to every authenticated actor, each with the reason. `protocol`
 * (with the reason): only the credentials declared by the route are accepted, not API keys or sessions.
 */
export type Access =
  | string
  | { readonly public: string }
  | { readonly authenticated: string }
  | { readonly protocol: string };

/** What a credential is checked against, before the caller is known. */
export interface Shown {
  readonly request: Request;
  readonly caller: Caller;
  /** The body if the credential is `inBody`; otherwise empty. */
  readonly body: Uint8Array<ArrayBuffer>;
}

type SecurityScheme =
  | { readonly type: "http"; readonly scheme: string; readonly description: string }
  | { readonly type: "mutualTLS"; readonly description: string };

export interface Credential {
  readonly name: string;
  /** The OpenAPI security scheme of that name; null if OpenAPI has none, as for a signed body. */
  readonly scheme: SecurityScheme | null;
  /** Used mid-sentence: "an agent's bootstrap credential". */
  readonly title: string;
  /**
   * WWW-Authenticate challenge of a 401 (RFC 9110 section 11.6.1) on a route that takes no API key; null if HTTP
   * defines none.
   */
  readonly challenge: string | null;
  /** The credential is in the body, so the body is read, up to the route's limit, before the caller is known. */
  readonly inBody?: boolean;
  /**
   * The actor of the request. Returns null synchronously if the request carries no credential of this kind; rejects
   * with 401 if the credential is invalid. May be called more than once per request, so it must not consume anything.
   */
  identify(ctx: LookupContext, shown: Shown): Promise<Actor> | null;
  /**
   * The error for a valid credential on a route that does not declare it. Only for credentials sent like an API key; on
   * such a route other kinds are not credentials at all.
   */
  elsewhere?(): AppError;
}

/** Who may call a route. */
export interface AccessRule {
  readonly operationId: string;
  readonly access: Access;
  /** Credentials that open the route without a permission, tried in order before API keys and sessions. */
  readonly credentials?: readonly Credential[];
  /**
   * An agent's key may call it; the handler restricts the agent to its own objects. Agents may call no other routes.
   */
  readonly forAgents?: boolean;
}

/** Throws if a route's access and credentials contradict each other. */
export function checkAccess({ operationId, access, credentials = [] }: AccessRule): void {
  const isProtocol = typeof access === "object" && "protocol" in access;
  const isPublic = typeof access === "object" && "public" in access;
  if (isProtocol && credentials.length === 0) throw new Error(`${operationId}: no credential opens it`);
  if (isPublic && credentials.length > 0) throw new Error(`${operationId}: is public and takes a credential`);
}

function capitalised(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Describes the access rule for the OpenAPI document. */
export function accessText({ access, credentials = [], forAgents }: AccessRule, isScoped: boolean): string[] {
  const isProtocol = typeof access === "object" && "protocol" in access;
  const agents = forAgents ? ["An agent's key reaches it, for what is that agent's own."] : [];
  return [
    ...(typeof access === "string"
      ? [`Permission: \`${access}\`${isScoped ? ", also in the scope of a profile or issuer" : ""}.`]
      : []),
    ...(typeof access === "object" && "authenticated" in access ? ["Any authenticated actor."] : []),
    ...agents,
    ...credentials.map(({ title }) => `${capitalised(title)} opens it${isProtocol ? "" : " too"}.`),
  ];
}

type Security = Record<string, string[]>[];

/** API keys and sessions, by the names of their OpenAPI security schemes. */
export const USUAL_SECURITY: Security = [{ bearerAuth: [] }, { session: [] }];

/** The OpenAPI security of an operation; empty if it equals that of the whole document. */
export function securityOf({ access, credentials = [] }: AccessRule): { security?: Security } {
  const declared = credentials.flatMap(({ name, scheme }) => (scheme ? [{ [name]: [] }] : []));
  if (typeof access === "object" && !("authenticated" in access)) return { security: declared };
  return declared.length === 0 ? {} : { security: [...USUAL_SECURITY, ...declared] };
}

/** The token of a Bearer credential (RFC 6750 section 2.1), or null. */
export function bearerToken(request: Request): string | null {
  return /^Bearer +(\S+) *$/i.exec(request.headers.get("Authorization") ?? "")?.[1] ?? null;
}
