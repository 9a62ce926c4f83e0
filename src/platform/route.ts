import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import type { ObjectScope } from "./access.ts";
import type { Context } from "./context.ts";
import { type Access, type AccessRule, accessText, type Credential, checkAccess, securityOf } from "./credential.ts";
import { ENVELOPE, type ErrorForm } from "./error-forms.ts";
import { AppError, invalid, tooLarge, unsupportedMediaType } from "./errors.ts";
import { queryOf, unknownParameter } from "./query.ts";
import { rangeText } from "./ranges.ts";
import { etagOf } from "./rows.ts";
import type { Settings } from "./settings.ts";
import { readUpTo } from "./text.ts";

/** A handler's result; the door serialises it. */
export interface Reply {
  readonly status: number;
  /** A JSON value, or bytes, a stream or text with its own Content-Type in `headers`. */
  readonly body: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  readonly raw?: boolean;
  /** Set-Cookie values. */
  readonly cookies?: readonly string[];
}

export const ok = (body: unknown, headers: Record<string, string> = {}): Reply => ({ status: 200, body, headers });
export const created = (body: unknown, headers: Record<string, string> = {}): Reply => ({ status: 201, body, headers });
export const accepted = (body: unknown): Reply => ({ status: 202, body });
export const noContent = (): Reply => ({ status: 204, body: null });
export const raw = (status: number, body: BodyInit | null, headers: Record<string, string>): Reply => ({
  status,
  body,
  headers,
  raw: true,
});

/**
 * How a route treats an actor who holds its permission only in the scope of a profile or issuer. A function returns the
 * scope of the object in the path (null: it does not exist), which the door checks. `handler`: the handler checks with
 * `may`, `mustHold` and `visible`. Without a rule the route needs a global permission.
 */
export type ScopeRule =
  | "handler"
  | ((ctx: Context, params: Readonly<Record<string, string>>) => Promise<ObjectScope | null>);

export interface Input<P, Q, B> {
  readonly params: P;
  readonly query: Q;
  readonly body: B;
  /** The If-Match header as sent, or null. */
  readonly ifMatch: string | null;
  readonly request: Request;
  /**
   * Authenticates and authorises the caller again, for bodies that take long to arrive. Throws if access has been
   * revoked.
   */
  stillAllowed(): Promise<void>;
}

/** Collects routes for the OpenAPI document. */
export type Registry = OpenAPIHono["openAPIRegistry"];

export type Method = "get" | "post" | "put" | "delete";

export interface RouteAnswer {
  readonly description: string;
  readonly schema?: z.ZodType;
  /** Content-Type; defaults to `application/json` if there is a schema. */
  readonly type?: string;
  /** Further representations of the same status: Content-Type to schema. */
  readonly also?: Readonly<Record<string, z.ZodType>>;
}

export interface RouteSpec<P extends z.ZodType, Q extends z.ZodType, B extends z.ZodType> extends AccessRule {
  readonly method: Method;
  /** In OpenAPI form: `/api/v1/teams/{id}`. */
  readonly path: string;
  readonly scope?: ScopeRule;
  readonly tag: string;
  readonly summary: string;
  readonly description?: string;
  readonly params?: P;
  readonly query?: Q;
  readonly body?: B;
  /** Content-Type of a non-JSON body, which is passed to the handler as bytes. */
  readonly bodyType?: string;
  /**
   * For a body of any length that the handler streams from `input.request`: its Content-Type and the schema of one
   * line.
   */
  readonly streams?: { readonly type: string; readonly line: z.ZodType };
  /** The body may be absent and is then `{}`; the schema must have only optional fields. */
  readonly bodyOptional?: boolean;
  /** Bytes; 1 MiB by default. */
  readonly bodyLimit?: number;
  /** Whether the route exists under these settings. If not, it answers 404 before any other check. */
  readonly exists?: (settings: Settings) => boolean;
  /** Throws while the route is closed to everyone, temporarily or for good. Runs before the body is read. */
  before?(ctx: Context): Promise<void>;
  /**
   * Behaviour while the disk is nearly full: `refused` answers 503 `storage_full`. Defaults to served for GET and
   * refused otherwise. Serve what only reads and what removes trust or rights.
   */
  readonly whenFull?: "served" | "refused";
  /** Accepts unknown fields: agents may be newer than the server. All other routes reject them. */
  readonly tolerant?: boolean;
  /**
   * The collection path of a created object; its id is appended. Adds Location and, if the answer has a version, an
   * ETag; replays under an Idempotency-Key include both.
   */
  readonly location?: string;
  readonly answers: Readonly<Record<number, RouteAnswer>>;
  /** Further error statuses. */
  readonly errors?: readonly number[];
  /** Error format; the envelope by default. Errors before a route is matched always use the envelope. */
  readonly errorForm?: ErrorForm;
  handler(ctx: Context, input: Input<z.output<P>, z.output<Q>, z.output<B>>): Promise<Reply>;
}

/** A route as the door, the OpenAPI document and the tests see it. */
export interface Route {
  readonly operationId: string;
  readonly method: Method;
  readonly path: string;
  readonly access: Access;
  readonly scope: ScopeRule | null;
  readonly creates: boolean;
  readonly forAgents: boolean;
  readonly credentials: readonly Credential[];
  readonly errorForm: ErrorForm;
  readonly whenFull: "served" | "refused";
  exists(settings: Settings): boolean;
  readonly before: ((ctx: Context) => Promise<void>) | null;
  /** Null if the route declares this reply; otherwise what is wrong with it. */
  undeclared(reply: Reply): string | null;
  register(registry: Registry): void;
  /** Headers derived from the body of a 201. */
  createdHeaders(body: unknown): Readonly<Record<string, string>>;
  run(
    ctx: Context,
    request: Request,
    params: Record<string, string>,
    body: Uint8Array<ArrayBuffer>,
    stillAllowed: () => Promise<void>,
  ): Promise<Reply>;
  readonly bodyLimit: number;
  readonly hasBody: boolean;
}

const DEFAULT_BODY_LIMIT = 1024 * 1024;

const ERROR_TEXT: Readonly<Record<number, string>> = {
  400: "The request is not valid; the message names the field",
  401: "No credential, or one that is not valid",
  403: "The actor may not do this",
  404: "It does not exist",
  405: "The path has other methods; Allow names them",
  409: "It conflicts with the present state",
  410: "It is gone for good",
  412: "If-Match names another state than the present one",
  429: "Too many requests; Retry-After says when to try again",
  413: "The body is larger than this route allows",
  415: "The Content-Type is not one that this route reads",
  500: "An error of ours; the request id finds it in the logs",
  501: "Not available for this issuer",
  502: "A server that we asked did not answer, or not what it should; the message says what it did",
  503: "Not available at the moment; Retry-After says when to try again",
};

/** Declares a route. The route table drives dispatch, authentication and the OpenAPI document. */
export function route<
  P extends z.ZodType = z.ZodObject,
  Q extends z.ZodType = z.ZodObject,
  B extends z.ZodType = z.ZodObject,
>(spec: RouteSpec<P, Q, B>): Route {
  checkAccess(spec);
  const checkQuery = queryCheck(spec);
  return {
    operationId: spec.operationId,
    method: spec.method,
    path: spec.path,
    access: spec.access,
    scope: spec.scope ?? null,
    forAgents: spec.forAgents ?? false,
    credentials: spec.credentials ?? [],
    errorForm: spec.errorForm ?? ENVELOPE,
    whenFull: spec.whenFull ?? (spec.method === "get" ? "served" : "refused"),
    exists: spec.exists ?? (() => true),
    before: spec.before ?? null,
    creates: spec.method === "post" && 201 in spec.answers,
    hasBody: spec.body !== undefined,
    bodyLimit: spec.bodyLimit ?? DEFAULT_BODY_LIMIT,
    undeclared: (reply) => {
      const answer = spec.answers[reply.status];
      if (!answer) return `status ${reply.status} is not declared`;
      if (reply.raw || !answer.schema) return null;
      const result = answer.schema.safeParse(JSON.parse(JSON.stringify(reply.body)));
      return result.success ? null : result.error.message;
    },
    register: (registry) => registry.registerPath(definition(spec)),
    createdHeaders: (body) => createdHeaders(spec.location, body),
    run: async (ctx, request, params, body, stillAllowed) => {
      if (spec.streams && mediaType(request) !== spec.streams.type) throw unsupportedMediaType(spec.streams.type);
      const asked = queryOf(request.url);
      checkQuery(asked);
      const input = {
        params: (spec.params ? parse(spec.params, params, "") : {}) as z.output<P>,
        query: (spec.query ? parse(spec.query, asked, "") : {}) as z.output<Q>,
        body: (spec.body
          ? parse(spec.body, spec.bodyType ? body : jsonBody(spec, request, body), "", spec.tolerant)
          : {}) as z.output<B>,
        ifMatch: request.headers.get("If-Match"),
        request,
        stillAllowed,
      };
      const reply = await spec.handler(ctx, input);
      if (reply.status !== 201) return reply;
      return { ...reply, headers: { ...createdHeaders(spec.location, reply.body), ...reply.headers } };
    },
  };
}

/** The Content-Type without parameters, or null. */
function mediaType(request: Request): string | null {
  return request.headers.get("Content-Type")?.split(";")[0]?.trim().toLowerCase() ?? null;
}

interface QuerySpec {
  readonly query?: z.ZodType;
  readonly access: Access;
  readonly tolerant?: boolean;
}

const UNLIMITED = "/.well-known/pki/";

/** Throws 400 for an unknown query parameter. Public routes accept extra parameters that other parties may add. */
function queryCheck({ query, access, tolerant }: QuerySpec): (asked: Readonly<Record<string, string>>) => void {
  if (tolerant || (typeof access === "object" && "public" in access)) return () => {};
  const known = query instanceof z.ZodObject ? Object.keys(query.shape) : [];
  return (asked) => {
    const problem = unknownParameter(Object.keys(asked), known);
    if (problem !== null) throw invalid("query", problem, "unknown_parameter");
  };
}

function createdHeaders(location: string | undefined, body: unknown): Record<string, string> {
  const { id, updated_at } = body as { id?: unknown; updated_at?: unknown };
  if (location === undefined || typeof id !== "string") return {};
  return {
    Location: `${location}/${id}`,
    ...(typeof updated_at === "string" ? { ETag: etagOf({ id, updated_at }) } : {}),
  };
}

function definition<P extends z.ZodType, Q extends z.ZodType, B extends z.ZodType>(spec: RouteSpec<P, Q, B>) {
  const isPublic = typeof spec.access === "object" && "public" in spec.access;
  const form = spec.errorForm ?? ENVELOPE;
  const errors = new Set([
    ...(spec.errors ?? []),
    ...(isPublic ? [] : [401, 403]),
    ...(spec.body || spec.streams ? [400, 413, 415] : []),
    ...(spec.params ? [404] : []),
    // Relying parties are never rate limited (wire.md): routes below this path have no default limit.
    ...(spec.path.startsWith(UNLIMITED) ? [] : [429]),
    500,
  ]);
  const responses: Record<number, { description: string; content?: Record<string, { schema: z.ZodType }> }> = {};
  for (const status of [...errors].sort()) {
    responses[status] = {
      description: ERROR_TEXT[status] ?? "Error",
      content: { [form.type]: { schema: form.schema } },
    };
  }
  for (const [status, answer] of Object.entries(spec.answers)) {
    const content: Record<string, { schema: z.ZodType }> = {};
    if (answer.schema) content[answer.type ?? "application/json"] = { schema: answer.schema };
    for (const [type, schema] of Object.entries(answer.also ?? {})) content[type] = { schema };
    responses[Number(status)] =
      Object.keys(content).length > 0
        ? { description: answer.description, content }
        : { description: answer.description };
  }
  return createRoute({
    operationId: spec.operationId,
    method: spec.method,
    path: spec.path,
    tags: [spec.tag],
    summary: spec.summary,
    description: [spec.description, ...accessText(spec, spec.scope !== undefined)].filter(Boolean).join("\n\n"),
    ...securityOf(spec),
    request: {
      ...(spec.params instanceof z.ZodObject ? { params: spec.params } : {}),
      ...(spec.query instanceof z.ZodObject ? { query: spec.query } : {}),
      ...(spec.streams
        ? { body: { required: true, content: { [spec.streams.type]: { schema: spec.streams.line } } } }
        : {}),
      ...(spec.body
        ? {
            body: {
              required: !spec.bodyOptional,
              content: { [spec.bodyType ?? "application/json"]: { schema: spec.body } },
            },
          }
        : {}),
    },
    responses,
  });
}

/** Triggers the closer check: an escape, or `__proto__`, which assignment to a plain object silently drops. */
const SUSPICIOUS = /\\u|__proto__/;

/** Rejects lone surrogates (the database would store different text) and `__proto__`. */
function wellFormed(name: string, value: unknown): unknown {
  if (name === "__proto__") throw new SyntaxError("no field may be called __proto__");
  if (!name.isWellFormed()) throw new SyntaxError("half a surrogate pair in a name");
  if (typeof value === "string" && !value.isWellFormed()) throw new SyntaxError("half a surrogate pair in a string");
  return value;
}

/** No valid body nests deeper. JSON that nests thousands deep can be parsed but not serialised again. */
const MAX_JSON_DEPTH = 64;

function checkDepth(text: string): void {
  let depth = 0;
  let quoted = false;
  for (let i = 0; i < text.length; i++) {
    const character = text.charCodeAt(i);
    if (quoted) {
      if (character === 0x5c) i++;
      else if (character === 0x22) quoted = false;
    } else if (character === 0x22) quoted = true;
    else if (character === 0x5b || character === 0x7b) {
      if (++depth > MAX_JSON_DEPTH) throw new SyntaxError(`nests deeper than ${MAX_JSON_DEPTH} levels`);
    } else if (character === 0x5d || character === 0x7d) depth--;
  }
}

function jsonBody(spec: { bodyOptional?: boolean }, request: Request, body: Uint8Array): unknown {
  const type = request.headers.get("Content-Type");
  if (body.length === 0 && spec.bodyOptional) return {};
  if (body.length === 0 && type === null) throw invalid("body", "a JSON body is required", "missing_body");
  if (type === null || !/^application\/(?:[a-z0-9.+-]*\+)?json\s*(?:;|$)/i.test(type))
    throw unsupportedMediaType("application/json");
  if (body.length === 0) throw invalid("body", "a JSON body is required", "missing_body");
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: false }).decode(body);
    checkDepth(text);
    return JSON.parse(text, SUSPICIOUS.test(text) ? wellFormed : undefined);
  } catch (cause) {
    throw invalid(
      "body",
      `is not valid JSON in UTF-8 (${cause instanceof SyntaxError ? cause.message.slice(0, 120) : "bad encoding"})`,
      "malformed_json",
    );
  }
}

/**
 * Parses with zod and turns the first issues into a 400 naming the fields. Unknown fields are dropped if `tolerant`.
 */
function parse(schema: z.ZodType, value: unknown, prefix: string, tolerant = false): unknown {
  const result = schema.safeParse(tolerant ? dropUnknown(schema, value) : value);
  if (result.success) return result.data;
  const problems = result.error.issues.slice(0, 5).map((issue) => describeIssue(schema, issue, prefix));
  throw invalid("", problems.join("; "));
}

function dropUnknown(schema: z.ZodType, value: unknown): unknown {
  if (!(schema instanceof z.ZodObject) || typeof value !== "object" || value === null || Array.isArray(value))
    return value;
  const known: Record<string, z.ZodType> = schema.shape;
  return Object.fromEntries(Object.entries(value).filter(([name]) => Object.hasOwn(known, name)));
}

function describeIssue(schema: z.ZodType, issue: z.core.$ZodIssue, prefix: string): string {
  const path = [prefix, ...issue.path.map(String)].filter((part) => part !== "").join(".");
  if (issue.code === "unrecognized_keys") {
    return issue.keys
      .map((key) => `${path === "" ? key : `${path}.${key}`}: is not a field of this request`)
      .join("; ");
  }
  const message = rangeText(schema, issue) ?? issue.message.replace(/^Invalid input: /, "");
  return `${path === "" ? "body" : path}: ${message}`;
}

/** Reads a body of up to `limit` bytes. Throws 413 as soon as the limit is exceeded and 400 for an incomplete body. */
export async function readBody(request: Request, limit: number): Promise<Uint8Array<ArrayBuffer>> {
  const declared = request.headers.get("Content-Length");
  if (declared !== null && Number(declared) > limit) throw tooLarge(limit);
  if (!request.body) return new Uint8Array(0);
  const all = await whole(
    declared === null ? readUpTo(request.body, limit) : request.arrayBuffer().then((octets) => new Uint8Array(octets)),
  );
  if (all === null || all.length > limit) throw tooLarge(limit);
  return all;
}

async function whole<T>(reading: Promise<T>): Promise<T> {
  try {
    return await reading;
  } catch (cause) {
    // The runtime marks this error as an overload of its own, but the client disconnected.
    throw new AppError(400, "body_incomplete", "the request ended before its body was complete", { cause });
  }
}
