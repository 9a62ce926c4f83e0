import { z } from "@hono/zod-openapi";
import { isRecovering } from "../src/authority/local/recovery.ts";
import { unavailable } from "../src/platform/errors.ts";
import { ok, type Route, route } from "../src/platform/route.ts";
import { sealedUnder } from "../src/platform/sealing.ts";
import { recovering } from "../src/platform/whole.ts";

const status = z.object({ status: z.string() });

/** Liveness, readiness and version. */
export const systemRoutes: Route[] = [
  route({
    operationId: "getHealth",
    method: "get",
    path: "/health",
    access: { public: "a liveness probe has no credential" },
    tag: "System",
    summary: "The process is up",
    answers: { 200: { description: "Up", schema: status } },
    handler: async () => ok({ status: "healthy" }),
  }),
  route({
    operationId: "getReady",
    method: "get",
    path: "/ready",
    access: { public: "a readiness probe has no credential" },
    tag: "System",
    summary:
      "The database answers, everything that was sealed can be opened, and nothing that a restore lost is missing",
    answers: { 200: { description: "Ready", schema: status } },
    errors: [503],
    handler: async (ctx) => {
      let sealed: string[];
      try {
        sealed = await sealedUnder(ctx.db);
      } catch (cause) {
        throw unavailable("database_unavailable", "the database does not answer, or is not migrated", 5, cause);
      }
      const missing = sealed.filter((id) => !ctx.settings.sealingKeys.some((key) => key.id === id));
      if (missing.length > 0) {
        throw unavailable(
          "sealing_key_missing",
          `CERTCTL_SEALING_KEYS lacks the key ${missing.join(", ")} that sealed this state`,
          60,
        );
      }
      if (await isRecovering(ctx)) throw recovering();
      return ok({ status: "ready" });
    },
  }),
  route({
    operationId: "getVersion",
    method: "get",
    path: "/api/v1/version",
    access: { public: "monitoring and agents compare versions before they authenticate" },
    tag: "System",
    summary: "What runs here",
    answers: {
      200: {
        description: "The build",
        schema: z.object({
          version: z.string(),
          commit: z.string(),
          modified: z.boolean(),
          build_time: z.string(),
          go_version: z.string(),
        }),
      },
    },
    // go_version is a field of the contract; here it names the server's language runtime.
    handler: async ({ settings }) =>
      ok({
        version: settings.version,
        commit: settings.commit,
        modified: false,
        build_time: settings.buildTime,
        go_version: "none (workerd)",
      }),
  }),
];
