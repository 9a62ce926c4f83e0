import type { EffectivePermission } from "../platform/context.ts";

/** The permission catalogue and the built-in roles. A table in docs/identity.md is generated from it. */

/** All permissions: namespace to actions. */
const CATALOGUE = {
  cert: ["read", "issue", "edit", "revoke", "delete", "bulk_revoke"],
  profile: ["read", "edit", "delete"],
  issuer: ["read", "edit", "delete"],
  target: ["read", "edit", "delete"],
  agent: ["read", "edit", "retire", "heartbeat", "job.poll", "job.complete", "job.report"],
  audit: ["read", "export"],
  "auth.role": ["list", "create", "edit", "delete", "assign", "revoke"],
  "auth.key": ["list", "create", "rotate", "delete"],
  "auth.bootstrap": ["use"],
  "auth.session": ["list", "list.all", "revoke"],
  "auth.oidc": ["list", "create", "edit", "delete"],
  "auth.breakglass": ["admin", "login"],
  "auth.user": ["read", "deactivate"],
  crl: ["admin"],
  scep: ["admin"],
  est: ["admin"],
  "ca.hierarchy": ["manage"],
  job: ["read", "cancel"],
  approval: ["read", "approve", "reject"],
  policy: ["read", "edit", "delete"],
  team: ["read", "edit", "delete"],
  owner: ["read", "edit", "delete"],
  notification: ["read", "edit"],
  discovery: ["read", "run", "claim"],
  network_scan: ["read", "edit", "run"],
  healthcheck: ["read", "edit", "delete", "acknowledge"],
  digest: ["read", "send"],
  verification: ["read", "run"],
  stats: ["read"],
  metrics: ["read"],
} as const;

export interface Permission {
  readonly id: string;
  readonly name: string;
  readonly namespace: string;
}

/** The catalogue as the API shows it. */
export const PERMISSION_LIST: readonly Permission[] = Object.entries(CATALOGUE).flatMap(([namespace, actions]) =>
  actions.map((action) => ({
    id: `p-${namespace}.${action}`.replaceAll(".", "-"),
    name: `${namespace}.${action}`,
    namespace,
  })),
);

export const PERMISSIONS: readonly string[] = PERMISSION_LIST.map(({ name }) => name);

/** A permission by name (`cert.read`) or id (`p-cert-read`), or null. */
export function findPermission(nameOrId: string): Permission | null {
  return PERMISSION_LIST.find(({ name, id }) => name === nameOrId || id === nameOrId) ?? null;
}

export interface BuiltinRole {
  readonly id: string;
  readonly name: string;
  readonly description: string;
  readonly permissions: readonly string[];
}

/** `cert: "read issue"` gives `cert.read` and `cert.issue`; `*` gives the whole namespace. */
function pick(wanted: Readonly<Partial<Record<keyof typeof CATALOGUE, string>>>): readonly string[] {
  return Object.entries(wanted).flatMap(([namespace, actions]) => {
    const all: readonly string[] = CATALOGUE[namespace as keyof typeof CATALOGUE];
    const chosen = actions === "*" ? all : actions.split(" ");
    const unknown = chosen.find((action) => !all.includes(action));
    if (unknown !== undefined) throw new Error(`no permission ${namespace}.${unknown}`);
    return chosen.map((action) => `${namespace}.${action}`);
  });
}

const OPERATOR = {
  cert: "read issue edit revoke delete",
  profile: "read edit",
  issuer: "read edit",
  target: "*",
  agent: "read edit",
  audit: "read",
  job: "*",
  approval: "*",
  policy: "*",
  notification: "*",
  discovery: "*",
  network_scan: "*",
  digest: "*",
  verification: "*",
  stats: "read",
  metrics: "read",
  "auth.user": "read",
} as const;

/** The seven built-in roles. Defined in code, so that they cannot be renamed, emptied or deleted. */
export const BUILTIN_ROLES: readonly BuiltinRole[] = [
  {
    id: "r-admin",
    name: "Administrator",
    description: "Everything, and so the one who gives others their roles",
    permissions: PERMISSIONS,
  },
  {
    id: "r-operator",
    name: "Operator",
    description: "Runs certificates and what belongs to them day by day; manages neither people nor the CA hierarchy",
    permissions: pick({ ...OPERATOR, team: "*", owner: "*", healthcheck: "*" }),
  },
  {
    id: "r-viewer",
    name: "Viewer",
    description: "Reads the inventory and what happens to it; changes nothing",
    permissions: pick({
      cert: "read",
      profile: "read",
      issuer: "read",
      target: "read",
      agent: "read",
      audit: "read",
      job: "read",
      approval: "read",
      policy: "read",
      team: "read",
      owner: "read",
      notification: "read",
      discovery: "read",
      network_scan: "read",
      healthcheck: "read",
      digest: "read",
      verification: "read",
      stats: "read",
      metrics: "read",
    }),
  },
  {
    id: "r-agent",
    name: "Agent",
    description: "An agent's own work; its key reaches the routes of that one agent only",
    permissions: pick({
      cert: "read",
      agent: "heartbeat job.poll job.complete job.report",
      discovery: "run",
      verification: "run",
    }),
  },
  {
    id: "r-mcp",
    name: "Assistant",
    description: "What an assistant behind a model context protocol server needs: day-by-day work without deletions",
    permissions: pick({
      cert: "read issue edit revoke",
      profile: "read edit",
      issuer: "read edit",
      target: "read edit",
      agent: "read",
      audit: "read",
      job: "*",
      approval: "*",
      policy: "read",
      team: "read",
      owner: "read",
      notification: "*",
      discovery: "read claim",
      network_scan: "read run",
      healthcheck: "read acknowledge",
      digest: "read",
      verification: "*",
      stats: "read",
      metrics: "read",
    }),
  },
  {
    id: "r-cli",
    name: "Command line",
    description: "What an operator does from a command line, and making and rotating API keys of no more than that",
    permissions: pick({
      ...OPERATOR,
      team: "read edit",
      owner: "read edit",
      healthcheck: "read edit acknowledge",
      "auth.key": "list create rotate",
    }),
  },
  {
    id: "r-auditor",
    name: "Auditor",
    description: "Reads and exports the audit log and sees who there is",
    permissions: pick({ audit: "*", "auth.user": "read" }),
  },
];

const BUILTIN = new Map(BUILTIN_ROLES.map((role) => [role.id, role]));

export function builtinRole(id: string): BuiltinRole | null {
  return BUILTIN.get(id) ?? null;
}

/** The global permissions of each built-in role; shared and read-only. */
export const BUILTIN_PERMISSIONS: ReadonlyMap<string, readonly EffectivePermission[]> = new Map(
  BUILTIN_ROLES.map((role) => [
    role.id,
    role.permissions.map((permission) => ({ permission, scope_type: "global" as const })),
  ]),
);
