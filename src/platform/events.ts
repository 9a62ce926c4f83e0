/**
 * The catalogue of audit events: action, resource type and the category used for filtering. An event is one row of the
 * audit log, written in the batch of the change it records, in commit order.
 */

export type AuditCategory = "cert_lifecycle" | "auth" | "config";

type About = readonly [resourceType: string, category: AuditCategory];

const about =
  (category: AuditCategory) =>
  <R extends string>(resourceType: R): About => [resourceType, category];

const lifecycle = about("cert_lifecycle");
const auth = about("auth");
const config = about("config");

export const EVENTS = {
  "certificate.archive": lifecycle("certificate"),
  "certificate.create": lifecycle("certificate"),
  "certificate.export": lifecycle("certificate"),
  "certificate.issue": lifecycle("certificate"),
  "certificate.refuse": lifecycle("certificate"),
  "certificate.release_hold": lifecycle("certificate"),
  "certificate.renew": lifecycle("certificate"),
  "certificate.restore": lifecycle("certificate"),
  "certificate.revoke": lifecycle("certificate"),
  "certificate.status": lifecycle("certificate"),
  "certificate.update": lifecycle("certificate"),
  "issuer.revoke_serial": lifecycle("issuer"),
  "job.awaitingapproval": lifecycle("job"),
  "job.awaitingcsr": lifecycle("job"),
  "job.cancelled": lifecycle("job"),
  "job.completed": lifecycle("job"),
  "job.create": lifecycle("job"),
  "job.failed": lifecycle("job"),
  "job.pending": lifecycle("job"),
  "job.running": lifecycle("job"),

  "agent.enrol": config("agent"),
  "agent.register": config("agent"),
  "agent.retire": config("agent"),
  "agent.update": config("agent"),
  "intermediate_ca.create": config("intermediate_ca"),
  "intermediate_ca.restore": config("intermediate_ca"),
  "intermediate_ca.retire": config("intermediate_ca"),
  "intermediate_ca.retiring": config("intermediate_ca"),
  "inventory.restored": config("inventory"),
  "issuer.create": config("issuer"),
  "issuer.delete": config("issuer"),
  "issuer.import": config("issuer"),
  "issuer.import_begun": config("issuer"),
  "issuer.restore": config("issuer"),
  "issuer.test": config("issuer"),
  "issuer.update": config("issuer"),
  "ledger.end": config("ledger"),
  "ledger.restored": config("ledger"),
  "target.retire": config("target"),
  "work.requeue": config("work"),

  "auth.agent_credential.create": auth("agent_credential"),
  "auth.agent_credential.revoke": auth("agent_credential"),
  "auth.breakglass.locked": auth("user"),
  "auth.breakglass.login": auth("user"),
  "auth.breakglass.login_failed": auth("user"),
  "auth.breakglass.password_set": auth("user"),
  "auth.breakglass.removed": auth("user"),
  "auth.breakglass.unlocked": auth("user"),
  "auth.denied": auth("address"),
  "auth.grant.create": auth("actor"),
  "auth.grant.revoke": auth("actor"),
  "auth.key.create": auth("api_key"),
  "auth.key.delete": auth("api_key"),
  "auth.key.rotate": auth("api_key"),
  "auth.last_admin_kept": auth("user"),
  "auth.oidc.back_channel_logout": auth("oidc_provider"),
  "auth.oidc.login": auth("user"),
  "auth.oidc.login_failed": auth("oidc_provider"),
  "auth.oidc.roles_removed": auth("user"),
  "auth.oidc_mapping.add": auth("oidc_group_mapping"),
  "auth.oidc_mapping.remove": auth("oidc_group_mapping"),
  "auth.oidc_provider.create": auth("oidc_provider"),
  "auth.oidc_provider.delete": auth("oidc_provider"),
  "auth.oidc_provider.refresh": auth("oidc_provider"),
  "auth.oidc_provider.update": auth("oidc_provider"),
  "auth.role.create": auth("role"),
  "auth.role.delete": auth("role"),
  "auth.role.permission_add": auth("role"),
  "auth.role.permission_remove": auth("role"),
  "auth.role.update": auth("role"),
  "auth.runtime_config.read": auth("auth_runtime_config"),
  "auth.scope.end": auth("scope"),
  "auth.session.open": auth("session"),
  "auth.session.revoke": auth("session"),
  "auth.session_key.rotate": auth("session_key"),
  "auth.user.deactivate": auth("user"),
  "auth.user.reactivate": auth("user"),
  "bootstrap.consume": auth("api_key"),
  "bootstrap.oidc_first_admin": auth("user"),
} as const satisfies Readonly<Record<string, About>>;

/**
 * An event of a plain resource, such as `team.create`. Resources define their own; the catalogue above lists none of
 * them.
 */
export type PlainEvent = `${string}.${"create" | "update" | "delete"}` & { readonly plain: unique symbol };

/** The event of a plain resource (platform/resource.ts); its category is config. */
export function plainEvent(resource: string, verb: "create" | "update" | "delete"): PlainEvent {
  return `${resource}.${verb}` as PlainEvent;
}

export type EventAction = keyof typeof EVENTS | PlainEvent;

/** The resource type and category of an event. */
export function aboutOf(action: EventAction): About {
  const known: Readonly<Record<string, About>> = EVENTS;
  return known[action] ?? [action.replace(/\.[a-z]+$/, ""), "config"];
}
