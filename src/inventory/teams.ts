import { z } from "@hono/zod-openapi";
import { resource } from "../platform/resource.ts";
import { nameSchema, textSchema } from "../platform/rows.ts";
import { teams as table } from "./table.ts";

/** Groups of people that certificates and owners belong to. */
export const teams = resource({
  kind: "team",
  type: "team",
  path: "/api/v1/teams",
  tag: "Teams",
  idPrefix: "t-",
  operations: { list: "listTeams", create: "createTeam", get: "getTeam", update: "updateTeam", delete: "deleteTeam" },
  permissions: { read: "team.read", edit: "team.edit", delete: "team.delete" },
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
  unique: ["name"],
  blocks: [
    { table: "owners", column: "team_id", kind: "owner" },
    { table: "certificates", column: "team_id", kind: "certificate" },
  ],
});
