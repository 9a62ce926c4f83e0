/**
 * The import rules of docs/architecture.md for dependency-cruiser, and for every rule the smallest trees that must
 * break it.
 */
import type { IForbiddenRuleType } from "dependency-cruiser";
import { TABLE_PLANTS } from "./walls-tables.ts";

/** The wings in order: each may import only the ones before it. */
export const WINGS = [
  "identity",
  "record",
  "inventory",
  "authority",
  "upstream",
  "fleet",
  "lifecycle",
  "enrollment",
  "watch",
] as const;

/** The folders of the Worker itself, and all folders that the walls cover. */
export const PRODUCT = "^(src|worker|durable-objects)/";
export const ROOTS = ["src", "worker", "durable-objects", "scripts", "bench", "agent", "cli", "web", "test"] as const;

const anyOf = (names: readonly string[]): string => `(${names.join("|")})`;

function wallsBetweenWings(): IForbiddenRuleType[] {
  return WINGS.slice(0, -1).map((wing, at) => ({
    name: `${wing}-knows-no-later-wing`,
    comment: "A wing imports only wings listed above it.",
    severity: "error",
    from: { path: `^src/${wing}/` },
    to: { path: `^src/${anyOf(WINGS.slice(at + 1))}/` },
  }));
}

export const RULES: IForbiddenRuleType[] = [
  ...wallsBetweenWings(),
  {
    name: "src-holds-only-known-wings",
    comment: "A new folder of src takes its place in the order first.",
    severity: "error",
    from: {},
    to: { path: "^src/", pathNot: `^src/${anyOf(["platform", "pki", ...WINGS])}/` },
  },
  {
    name: "wings-meet-through-rules",
    comment: "Another wing's tables and routes are its own: import its rules file.",
    severity: "error",
    from: { path: "^src/([^/]+)/" },
    to: { path: ["^src/.+/tables?\\.ts$", "^src/.+[/-]api\\.ts$"], pathNot: "^src/($1|platform)/" },
  },
  {
    name: "platform-knows-no-wing",
    severity: "error",
    from: { path: "^src/platform/" },
    to: { path: `^src/${anyOf(WINGS)}/` },
  },
  {
    name: "pki-knows-only-itself",
    comment: "Bytes in, bytes out: no wing, no platform.",
    severity: "error",
    from: { path: "^src/pki/" },
    to: { path: "^src/", pathNot: "^src/pki/" },
  },
  {
    name: "pki-knows-no-runtime",
    comment:
      "It runs in plain Node and under a fuzzer; of Node it may use node:crypto, which the Web has not got whole.",
    severity: "error",
    from: { path: "^src/pki/" },
    to: {
      path: "^(cloudflare:|hono|@hono/|@cloudflare/|drizzle-orm)|node_modules/(@?hono|@cloudflare|drizzle-orm)/",
    },
  },
  {
    name: "pki-needs-of-node-only-crypto",
    comment: "Web APIs first; streamed signing alone has no Web API.",
    severity: "error",
    from: { path: "^src/pki/" },
    to: { dependencyTypes: ["core"], pathNot: "^(node:)?crypto$" },
  },
  {
    name: "src-knows-no-door",
    comment: "worker imports wings, never the other way; an object is reached through its binding.",
    severity: "error",
    from: { path: "^src/" },
    to: { path: "^(worker|durable-objects)/" },
  },
  {
    name: "objects-know-context-and-env",
    comment: "A Durable Object class makes its context as the door does, and knows nothing else of the door.",
    severity: "error",
    from: { path: "^durable-objects/" },
    to: { path: "^worker/", pathNot: "^worker/(context|env)\\.ts$" },
  },
  {
    name: "programs-know-no-server",
    comment: "agent, cli and web share nothing with the server but generated types.",
    severity: "error",
    from: { path: "^(agent|cli|web)/" },
    to: { path: PRODUCT },
  },
  {
    name: "product-knows-no-program",
    severity: "error",
    from: { path: PRODUCT },
    to: { path: "^(agent|cli|web|scripts|bench)/" },
  },
  {
    name: "product-knows-no-test",
    severity: "error",
    from: { path: "^(src|worker|durable-objects|scripts|agent|cli|web)/" },
    to: {
      path: "^test/|^(vitest|fast-check|@cloudflare/vitest)|node_modules/(vitest|fast-check|@cloudflare/vitest-[^/]+)/",
    },
  },
  {
    name: "product-declares-what-it-uses",
    comment: "What runs in the Worker stands under dependencies in package.json.",
    severity: "error",
    from: { path: PRODUCT },
    to: { dependencyTypes: ["npm-dev", "npm-no-pkg", "npm-unknown"], pathNot: "@cloudflare/workers-types" },
  },
  { name: "no-circle", severity: "error", from: {}, to: { circular: true } },
  {
    name: "everything-resolves",
    comment: "An import that cannot be followed hides what stands behind it.",
    severity: "error",
    from: { pathNot: "\\.d\\.ts$" },
    to: { couldNotResolve: true, pathNot: "^cloudflare:" },
  },
];

/** A tree of files that breaks a rule. */
export interface Plant {
  readonly rule: string;
  readonly files: Readonly<Record<string, string>>;
}

/** One planted file that imports another. */
const edge = (rule: string, from: string, to: string, kind: "value" | "type" = "value"): Plant => {
  const path = `${"../".repeat(from.split("/").length - 1)}${to}`;
  const line = kind === "type" ? `import type { T } from "${path}";` : `import { v } from "${path}";`;
  const use = kind === "type" ? "export type U = T;" : "export const w = v;";
  return { rule, files: { [from]: `${line}\n${use}\n`, [to]: "export const v = 1;\nexport type T = number;\n" } };
};
const lone = (rule: string, from: string, specifier: string): Plant => ({
  rule,
  files: { [from]: `import * as it from "${specifier}";\nexport const w = it;\n` },
});

export const PLANTS: Plant[] = [
  ...WINGS.slice(0, -1).map((wing, at) =>
    edge(`${wing}-knows-no-later-wing`, `src/${wing}/a.ts`, `src/${WINGS[at + 1] ?? ""}/b.ts`),
  ),
  edge("record-knows-no-later-wing", "src/record/deep/a.ts", "src/watch/b.ts", "type"),
  edge("src-holds-only-known-wings", "worker/a.ts", "src/elsewhere/b.ts"),
  edge("wings-meet-through-rules", "src/lifecycle/jobs.ts", "src/inventory/certificates/table.ts"),
  edge("wings-meet-through-rules", "src/lifecycle/jobs.ts", "src/inventory/table.ts", "type"),
  edge("wings-meet-through-rules", "src/fleet/agents/agents.ts", "src/identity/api.ts"),
  edge("wings-meet-through-rules", "src/fleet/agents.ts", "src/identity/roles-api.ts"),
  edge("platform-knows-no-wing", "src/platform/a.ts", "src/record/audit.ts"),
  edge("pki-knows-only-itself", "src/pki/a.ts", "src/platform/text.ts"),
  edge("pki-knows-only-itself", "src/pki/lint/a.ts", "src/authority/issue.ts"),
  lone("pki-knows-no-runtime", "src/pki/a.ts", "cloudflare:workers"),
  lone("pki-needs-of-node-only-crypto", "src/pki/a.ts", "node:fs"),
  lone("pki-knows-no-runtime", "src/pki/a.ts", "hono"),
  edge("src-knows-no-door", "src/authority/a.ts", "durable-objects/issuer.ts"),
  edge("src-knows-no-door", "src/identity/a.ts", "worker/env.ts", "type"),
  edge("objects-know-context-and-env", "durable-objects/issuer.ts", "worker/app.ts"),
  edge("programs-know-no-server", "agent/main.ts", "src/platform/text.ts"),
  edge("programs-know-no-server", "web/main.ts", "worker/openapi.ts"),
  edge("product-knows-no-program", "worker/app.ts", "scripts/a.ts"),
  edge("product-knows-no-test", "src/inventory/a.ts", "test/support/b.ts"),
  lone("product-knows-no-test", "src/inventory/a.ts", "vitest"),
  lone("product-declares-what-it-uses", "src/fleet/a.ts", "croner"),
  {
    rule: "no-circle",
    files: {
      "src/pki/a.ts": 'import { b } from "./b.ts";\nexport const a = (): unknown => b;\n',
      "src/pki/b.ts": 'import { c } from "./c.ts";\nexport const b = (): unknown => c;\n',
      "src/pki/c.ts": 'import { a } from "./a.ts";\nexport const c = (): unknown => a;\n',
    },
  },
  lone("everything-resolves", "src/fleet/a.ts", "./gone.ts"),
  ...TABLE_PLANTS,
];

/** A tree that breaks nothing: every rule must pass it. */
export const CLEAN: Readonly<Record<string, string>> = {
  "src/pki/a.ts": 'import { createSign } from "node:crypto";\nexport const a = createSign;\n',
  "src/platform/b.ts": 'import { a } from "../pki/a.ts";\nexport const b = a;\n',
  "src/identity/table.ts": `import { sqliteTable } from "drizzle-orm/sqlite-core";
import { b } from "../platform/b.ts";
export const t = [b, sqliteTable("users", { id: rowOf("certificates").id })];
`,
  "src/inventory/table.ts": `import { sql } from "drizzle-orm";
import { sqliteTable } from "drizzle-orm/sqlite-core";
export const certificates = [sqliteTable("certificates", {}), sql\`select 'users' from certificates\`];
`,
  "src/identity/keys.ts": 'import { t } from "./table.ts";\nexport const k = t;\n',
  "src/authority/issuers/issuers.ts": 'import { k } from "../../identity/keys.ts";\nexport const i = k;\n',
  "src/authority/issuers/api.ts": 'import { i } from "./issuers.ts";\nexport const routes = i;\n',
  "worker/env.ts": 'import { routes } from "../src/authority/issuers/api.ts";\nexport const e = routes;\n',
  "durable-objects/issuer.ts":
    'import { DurableObject } from "cloudflare:workers";\nimport { e } from "../worker/env.ts";\nexport const o = [e, DurableObject];\n',
  "worker/index.ts":
    'import { Hono } from "hono";\nimport { o } from "../durable-objects/issuer.ts";\nexport const x = [o, Hono];\n',
  "test/api/a.test.ts":
    'import { it } from "vitest";\nimport { x } from "../../worker/index.ts";\nexport const y = [x, it];\n',
};
