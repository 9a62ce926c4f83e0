import { z } from "@hono/zod-openapi";

/** Schemas shared by several identity routes. */

export const actorType = z.enum(["User", "System", "Agent", "APIKey", "Anonymous"]);

export const scopeType = z.enum(["global", "profile", "issuer"]);
