import { z } from "@hono/zod-openapi";

/** What several routes of identity say in the same words. */

export const actorType = z.enum(["User", "System", "Agent", "APIKey", "Anonymous"]);

export const scopeType = z.enum(["global", "profile", "issuer"]);
