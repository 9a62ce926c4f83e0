import { z } from "@hono/zod-openapi";
import { resource } from "../platform/resource.ts";
import { nameSchema } from "../platform/rows.ts";
import { owners as table } from "./table.ts";

/** The people responsible for certificates. */
export const owners = resource({
  name: "Owner",
  idPrefix: "o-",
  table,
  answer: z
    .object({
      id: z.string(),
      name: z.string(),
      email: z.string(),
      team_id: z.string().nullable(),
      created_at: z.string().openapi({ format: "date-time" }),
      updated_at: z.string().openapi({ format: "date-time" }),
    })
    .openapi("Owner"),
  create: z.object({
    name: nameSchema,
    email: z.union([z.literal(""), z.email("must be an e-mail address").max(254)]).default(""),
    team_id: z.string().optional(),
  }),
  filters: ["team_id"],
});
