import type { Actor, EffectivePermission, ScopeType } from "../platform/context.ts";

/** Every permission there is, by namespace. A route that names another one does not start. */
export const PERMISSIONS = [
  ...named("cert", ["read", "issue", "edit", "revoke", "delete", "bulk_revoke"]),
  ...named("profile", ["read", "edit", "delete"]),
  ...named("issuer", ["read", "edit", "delete"]),
  ...named("target", ["read", "edit", "delete"]),
  ...named("agent", ["read", "edit", "retire", "heartbeat", "job.poll", "job.complete", "job.report"]),
  ...named("audit", ["read", "export"]),
  ...named("auth.role", ["list", "create", "edit", "delete", "assign", "revoke"]),
  ...named("auth.key", ["list", "create", "rotate", "delete"]),
  ...named("auth.bootstrap", ["use"]),
  ...named("auth.session", ["list", "list.all", "revoke"]),
  ...named("auth.oidc", ["list", "create", "edit", "delete"]),
  ...named("auth.breakglass", ["admin", "login"]),
  ...named("auth.user", ["read", "deactivate"]),
  ...named("crl", ["admin"]),
  ...named("scep", ["admin"]),
  ...named("est", ["admin"]),
  ...named("ca.hierarchy", ["manage"]),
  ...named("job", ["read", "cancel"]),
  ...named("approval", ["read", "approve", "reject"]),
  ...named("policy", ["read", "edit", "delete"]),
  ...named("team", ["read", "edit", "delete"]),
  ...named("owner", ["read", "edit", "delete"]),
  ...named("notification", ["read", "edit"]),
  ...named("discovery", ["read", "run", "claim"]),
  ...named("network_scan", ["read", "edit", "run"]),
  ...named("healthcheck", ["read", "edit", "delete", "acknowledge"]),
  ...named("digest", ["read", "send"]),
  ...named("verification", ["read", "run"]),
  ...named("stats", ["read"]),
  ...named("metrics", ["read"]),
] as const;

function named(namespace: string, actions: readonly string[]): string[] {
  return actions.map((action) => `${namespace}.${action}`);
}

/** What the built-in roles may do, everywhere. */
const ROLES: Readonly<Record<string, (permission: string) => boolean>> = {
  "r-admin": () => true,
  "r-operator": (permission) =>
    /^(target|agent|job|approval|policy|team|owner|notification|discovery|network_scan|healthcheck|digest|verification|stats|metrics)\./.test(
      permission,
    )
      ? !["agent.retire", "agent.heartbeat", "agent.job.poll", "agent.job.complete", "agent.job.report"].includes(
          permission,
        )
      : [
          "cert.read",
          "cert.issue",
          "cert.edit",
          "cert.revoke",
          "cert.delete",
          "profile.read",
          "profile.edit",
          "issuer.read",
          "issuer.edit",
        ].includes(permission) ||
        permission === "audit.read" ||
        permission === "auth.user.read",
  "r-viewer": (permission) =>
    /^(cert|profile|issuer|target|agent|audit|job|approval|policy|team|owner|notification|discovery|network_scan|healthcheck|digest|verification|stats|metrics)\.read$/.test(
      permission,
    ),
  "r-agent": (permission) =>
    [
      "cert.read",
      "agent.heartbeat",
      "agent.job.poll",
      "agent.job.complete",
      "agent.job.report",
      "discovery.run",
      "verification.run",
    ].includes(permission),
};

/** What a grant of `role` in a scope amounts to. */
export function permissionsOf(role: string, scope_type: ScopeType, scope_id: string | null): EffectivePermission[] {
  const holds = ROLES[role];
  if (!holds) return [];
  return PERMISSIONS.filter(holds).map((permission) =>
    scope_id === null ? { permission, scope_type } : { permission, scope_type, scope_id },
  );
}

/** Whether the actor holds the permission everywhere. */
export function holds(actor: Actor, permission: string): boolean {
  return actor.permissions.some((held) => held.permission === permission && held.scope_type === "global");
}
