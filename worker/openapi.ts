import { OpenAPIHono } from "@hono/zod-openapi";
import { routes } from "./routes.ts";

/** The truth about the API: OpenAPI 3.1, made from the routes themselves. Runs in plain Node too. */
export function openApiDocument(version = "0.1.0"): object {
  const app = new OpenAPIHono();
  const { openAPIRegistry: registry } = app;
  registry.registerComponent("securitySchemes", "bearerAuth", {
    type: "http",
    scheme: "bearer",
    description: "An API key: certctl_...",
  });
  for (const entry of routes) entry.register(registry);
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
    security: [{ bearerAuth: [] }],
  });
}
