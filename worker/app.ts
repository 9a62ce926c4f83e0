import { Hono } from "hono";
import type { Route } from "../src/platform/route.ts";
import { authenticate } from "./authenticate.ts";
import type { Waiter } from "./context.ts";
import { type Env, readEnv } from "./env.ts";
import { admit, open } from "./middleware/admit.ts";
import { requestIdOf } from "./middleware/answer.ts";
import { body } from "./middleware/body.ts";
import { cors, preflight } from "./middleware/cors.ts";
import { failed } from "./middleware/failed.ts";
import { fallback, type MethodsOf } from "./middleware/fallback.ts";
import { found } from "./middleware/found.ts";
import { handle } from "./middleware/handle.ts";
import { hsts } from "./middleware/headers.ts";
import { limitAddress } from "./middleware/limits.ts";
import { TableRouter } from "./router.ts";
import { routes } from "./routes.ts";
import { hearOfStorage } from "./storage.ts";
import { afresh, type Door, type Middleware, receive } from "./visit.ts";

export interface App {
  fetch(request: Request, env: Env, waiter: Waiter): Promise<Response>;
}

export interface AppOptions {
  /** Authenticates requests; benchmarks replace it to measure its cost. */
  readonly authenticate?: typeof authenticate;
}

/** Assembles the API: middleware in the order a request passes it, the routes, and the fallback. */
export function makeApp(table: readonly Route[] = routes, options: AppOptions = {}): App {
  const methodsOf = methodsIn(table);
  const app = new Hono<Door>({ router: new TableRouter() });
  app.use(hsts);
  app.use(cors);
  app.use(limitAddress);
  app.options("*", preflight(methodsOf));
  for (const route of table) {
    const path = route.path.replace(/\{([a-z_]+)\}/g, ":$1");
    app.on([route.method.toUpperCase()], [path], ...passage(route, options.authenticate ?? authenticate));
  }
  app.notFound(fallback(methodsOf));
  app.onError(failed);
  return {
    async fetch(request, env, waiter) {
      const asking = hearOfStorage(readEnv(env).bindings);
      if (asking) await asking;
      const visit = receive(request, env, waiter, requestIdOf(request));
      const response = await app.fetch(request, visit);
      return visit.readAgain === "now" ? app.fetch(request, afresh(visit)) : response;
    },
  };
}

/** The middleware of one route; steps the route does not need are left out. */
function passage(route: Route, identify: typeof authenticate): Middleware[] {
  const isPublic = typeof route.access === "object" && "public" in route.access;
  const isKnownByBody = route.credentials.some(({ inBody }) => inBody);
  return [
    found(route),
    ...(isKnownByBody ? [body(route)] : []),
    ...(isPublic ? [] : [admit(route, identify)]),
    ...(route.before || route.whenFull === "refused" ? [open(route)] : []),
    ...(route.hasBody && !isKnownByBody ? [body(route)] : []),
    handle(route),
  ];
}

function methodsIn(table: readonly Route[]): MethodsOf {
  const patterns = table.map((route) => ({ route, pattern: pathPattern(route.path) }));
  return ({ ctx: { settings } }, request) => {
    const { pathname } = new URL(request.url);
    const methods = new Set(
      patterns
        .filter(({ route, pattern }) => pattern.test(pathname) && route.exists(settings))
        .map(({ route }) => route.method.toUpperCase()),
    );
    if (pathname === "/openapi.json") methods.add("GET");
    if (methods.has("GET")) methods.add("HEAD");
    return [...methods].sort();
  };
}

function pathPattern(path: string): RegExp {
  return new RegExp(`^${path.replaceAll(".", "\\.").replace(/\{[a-z_]+\}/g, "[^/]+")}$`);
}
