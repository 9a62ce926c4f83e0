import { z } from "@hono/zod-openapi";
import { resource } from "../platform/resource.ts";
import { nameSchema, textSchema } from "../platform/rows.ts";
import { teams as table } from "./table.ts";

/** Groups of people; certificates and owners belong to them. */
export const teams = resource({
  name: "Team",
  idPrefix: "t-",
  table,
  answer: z
    .object({
      id: z.string(),
      name: z.string(),
      description: z.string(),
      created_at: z.string().openapi({ format: "date-time" }),
      updated_at: z.string().openapi({ format: "date-time" }),
    })
    .openapi("Team"),
  create: z.object({ name: nameSchema, description: textSchema.default("") }),
});
