import { OpenAPIHono } from "@hono/zod-openapi";
import { CSRF_HEADER } from "../src/identity/sessions/authenticate.ts";
import { CSRF_COOKIE, SESSION_COOKIE } from "../src/identity/sessions/cookie.ts";
import { USUAL_SECURITY } from "../src/platform/credential.ts";
import { routes } from "./routes.ts";

/** The API's OpenAPI 3.1 document, generated from the routes. Also runs in plain Node. */
export function openApiDocument(version = "0.1.0"): object {
  const app = new OpenAPIHono();
  const { openAPIRegistry: registry } = app;
  registry.registerComponent("securitySchemes", "bearerAuth", {
    type: "http",
    scheme: "bearer",
    description: "An API key: certctl_...",
  });
  registry.registerComponent("securitySchemes", "session", {
    type: "apiKey",
    in: "cookie",
    name: SESSION_COOKIE,
    description: `The cookie of a sign-in. POST, PUT and DELETE also need the header ${CSRF_HEADER} with the value of the cookie ${CSRF_COOKIE}.`,
  });
  for (const entry of routes) {
    for (const { name, scheme } of entry.credentials)
      if (scheme) registry.registerComponent("securitySchemes", name, { ...scheme });
    entry.register(registry);
  }
  return app.getOpenAPI31Document({
    openapi: "3.1.0",
    info: {
      title: "certctl-edge",
      version,
      description:
        "Certificate authority and certificate lifecycle control plane. Errors are one envelope: `{error, message, request_id}`.",
      license: { name: "Apache-2.0", url: "https://www.apache.org/licenses/LICENSE-2.0" },
    },
    servers: [{ url: "/" }],
    security: USUAL_SECURITY,
  });
}
