import type { Actor, Caller, LookupContext } from "./context.ts";
import type { AppError } from "./errors.ts";

/**
 * Who may call a route, and by which credential. A route may declare credentials besides API keys and sessions, or in their
 * place: a protocol's own (HTTP Basic, a client certificate, a signed body), or one that is good for this route alone.
 */

/**
 * Who may call: whoever holds a permission of the catalogue, or anybody (with the reason why), or anybody who is authenticated.
 * `protocol` (with the reason why): API keys and sessions open nothing, only the credentials that the route declares.
 */
export type Access =
  | string
  | { readonly public: string }
  | { readonly authenticated: string }
  | { readonly protocol: string };

/** What a request shows before it is known whose it is. */
export interface Shown {
  readonly request: Request;
  readonly caller: Caller;
  /** The body, for a credential that is `inBody`; else empty. */
  readonly body: Uint8Array<ArrayBuffer>;
}

type SecurityScheme =
  | { readonly type: "http"; readonly scheme: string; readonly description: string }
  | { readonly type: "mutualTLS"; readonly description: string };

export interface Credential {
  readonly name: string;
  /** The security scheme of that name in the OpenAPI document; null where OpenAPI has none: a signed body. */
  readonly scheme: SecurityScheme | null;
  /** In the middle of a sentence: "an agent's bootstrap credential". */
  readonly title: string;
  /** The challenge of a 401 (RFC 9110 section 11.6.1), for a route that takes no API key; null where HTTP knows none. */
  readonly challenge: string | null;
  /** The credential is in the body, which is then read, up to the route's limit, before the caller is known. */
  readonly inBody?: boolean;
  /**
   * Whose the request is; null, at once, when it shows no credential of this kind. Rejects with 401 when it shows one that is
   * not valid. May be called more than once for a request, so it must not use anything up.
   */
  identify(ctx: LookupContext, shown: Shown): Promise<Actor> | null;
  /**
   * The error for a valid credential on a route that does not declare it. Only for one that is shown like an API key; others
   * are no credential there.
   */
  elsewhere?(): AppError;
}

/** What a route says of who may call it. */
export interface AccessRule {
  readonly operationId: string;
  readonly access: Access;
  /** Each of these opens the route without a permission. They are tried in order, before API keys and sessions. */
  readonly credentials?: readonly Credential[];
  /** An agent's key may call it, and its handler holds the agent to what is its own. No other route is open to one. */
  readonly forAgents?: boolean;
}

/** Throws for a route whose access and credentials contradict each other. */
export function checkAccess({ operationId, access, credentials = [] }: AccessRule): void {
  const isProtocol = typeof access === "object" && "protocol" in access;
  const isPublic = typeof access === "object" && "public" in access;
  if (isProtocol && credentials.length === 0) throw new Error(`${operationId}: no credential opens it`);
  if (isPublic && credentials.length > 0) throw new Error(`${operationId}: is public and takes a credential`);
}

function capitalised(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Who may call, in words for the OpenAPI document. */
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

/** API keys and sessions, by the names of their schemes in the OpenAPI document. */
export const USUAL_SECURITY: Security = [{ bearerAuth: [] }, { session: [] }];

/** The security of an operation; nothing where it is that of the whole document. */
export function securityOf({ access, credentials = [] }: AccessRule): { security?: Security } {
  const declared = credentials.flatMap(({ name, scheme }) => (scheme ? [{ [name]: [] }] : []));
  if (typeof access === "object" && !("authenticated" in access)) return { security: declared };
  return declared.length === 0 ? {} : { security: [...USUAL_SECURITY, ...declared] };
}

/** The token of a Bearer credential (RFC 6750 section 2.1); null without one. */
export function bearerToken(request: Request): string | null {
  return /^Bearer +(\S+) *$/i.exec(request.headers.get("Authorization") ?? "")?.[1] ?? null;
}
