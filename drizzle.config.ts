import { defineConfig } from "drizzle-kit";

export default defineConfig({
  dialect: "sqlite",
  schema: ["./src/platform/tables.ts", "./src/*/table.ts", "./src/*/*/table.ts"],
  out: "./migrations",
});
