import { env } from "cloudflare:workers";
import { makeApp } from "../../worker/app.ts";

const app = makeApp();

export interface Visitor {
  readonly method?: string;
  readonly headers?: Record<string, string>;
  readonly body?: unknown;
  /** As if Cloudflare had handed the request over, from this address. */
  readonly from?: string;
  /** Settings and bindings over those of the tests. */
  readonly vars?: Record<string, unknown>;
  /** `http://localhost` unless told. */
  readonly origin?: string;
}

const deferred: Promise<unknown>[] = [];

/** Resolves when everything that the visits deferred is done. */
export async function settled(): Promise<void> {
  while (deferred.length > 0) await Promise.all(deferred.splice(0));
}

/** One request to the door with settings of its own. */
export async function visit(path: string, visitor: Visitor = {}): Promise<Response> {
  const { method = visitor.body === undefined ? "GET" : "POST", origin = "http://localhost", from } = visitor;
  const headers = new Headers(visitor.headers);
  if (from !== undefined) headers.set("CF-Connecting-IP", from);
  if (visitor.body !== undefined && !headers.has("Content-Type")) headers.set("Content-Type", "application/json");
  const request = new Request(origin + path, {
    method,
    headers,
    ...(visitor.body === undefined ? {} : { body: JSON.stringify(visitor.body) }),
    ...(from === undefined ? {} : { cf: { colo: "TEST" } }),
  });
  return app.fetch(request, envWith(visitor.vars ?? {}), {
    waitUntil: (work) => void deferred.push(work),
  });
}

const environments = new Map<string, Record<string, unknown>>();

/** The same settings give the same object, as in an isolate: what is made for it once is made once. */
function envWith(vars: Record<string, unknown>): Record<string, unknown> {
  if (Object.values(vars).some((value) => typeof value !== "string")) return { ...env, ...vars };
  const key = JSON.stringify(vars);
  const made = environments.get(key) ?? { ...env, ...vars };
  environments.set(key, made);
  return made;
}

export async function errorOf(response: Response): Promise<{ error: string; message: string; request_id: string }> {
  return await response.json();
}
