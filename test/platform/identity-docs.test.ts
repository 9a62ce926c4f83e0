import { readFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { withRolesTable } from "../../scripts/roles-table.ts";
import { PERMISSIONS } from "../../src/identity/permissions.ts";
import { EVENTS } from "../../src/platform/events.ts";
import { routes } from "../../worker/routes.ts";

const PROJECT = path.resolve(import.meta.dirname, "../..");
const page = readFileSync(path.join(PROJECT, "docs/identity.md"), "utf8");

describe("docs/identity.md", () => {
  it("has the roles and permissions of the catalogue: `node scripts/roles-table.ts` writes them", () => {
    expect(page).toBe(withRolesTable(page));
  });

  it("names no permission, audit action and path that does not exist", () => {
    const named = [...page.matchAll(/`((?:auth\.[a-z]+|cert|agent|issuer|profile)\.[a-z_]+(?:\.[a-z]+)?)`/g)].map(
      ([, name = ""]) => name,
    );
    expect(named.filter((name) => !PERMISSIONS.includes(name) && !(name in EVENTS))).toEqual([]);
    const served = new Set(routes.map((route) => `${route.method.toUpperCase()} ${route.path}`));
    const calls = [...page.matchAll(/`(GET|POST|PUT|DELETE) (\/[^`? ]*)[^`]*`/g)].map(
      ([, method, path]) => `${method} ${path}`,
    );
    expect(calls.filter((call) => !served.has(call))).toEqual([]);
    expect(calls.length).toBeGreaterThan(20);
  });
});
