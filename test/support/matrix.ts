import { PLAIN_RESOURCES } from "./plain-resources.ts";

/**
 * Who may call what: one row for each operation of the OpenAPI document, written by hand from what the roles are meant to be
 * (docs/identity.md has the reasons), so that test/api/matrix.test.ts proves the code against it and not against itself.
 *
 * The rows of plain resources come of test/support/plain-resources.ts.
 *
 *     method, path, permission (or `public`, `authenticated`, `protocol`), who may, what those who may are answered, form of errors
 *
 * Who may, a letter each, a dot who may not (403):
 *
 *     A r-admin   O r-operator   V r-viewer   G r-agent, given to an API key   M r-mcp   C r-cli   U r-auditor
 *     g a real agent's key, asking for its own id where the path has one
 *
 * Ids in paths are of nothing that exists, bodies are `{}` where BODIES has no other: an answer of 400 or 404 is then that
 * of somebody who was let in. After a slash: what the real agent is answered, where that differs. With a `!`: the route exists
 * only where a setting switches it on, and is a 404 for everybody else, whoever they are.
 *
 * After a plus: credentials that the route declares, each of which opens it. Where it is a `protocol`, nothing else does: everybody
 * else is answered 401. Errors are in the envelope where no other form is named.
 */
const TABLE = `
GET    /health                                                  public                 AOVGgMCU  200
GET    /ready                                                   public                 AOVGgMCU  200
GET    /api/v1/version                                          public                 AOVGgMCU  200

GET    /.well-known/pki/crl/{issuer_id}                         public                 AOVGgMCU  404
GET    /.well-known/pki/crl/{issuer_id}/{shard}                 public                 AOVGgMCU  404
GET    /.well-known/pki/ca/{ca_id}                              public                 AOVGgMCU  404
GET    /.well-known/pki/ocsp/{issuer_id}/{serial}               public                 AOVGgMCU  404
POST   /.well-known/pki/ocsp/{issuer_id}                        public                 AOVGgMCU  404

GET    /api/v1/issuers                                          issuer.read            AOV..MC.  200
POST   /api/v1/issuers                                          issuer.edit            AO...MC.  400
GET    /api/v1/issuers/{id}                                     issuer.read            AOV..MC.  404
PUT    /api/v1/issuers/{id}                                     issuer.edit            AO...MC.  404
DELETE /api/v1/issuers/{id}                                     issuer.delete          A.......  404
POST   /api/v1/issuers/{id}/test                                issuer.edit            AO...MC.  404
POST   /api/v1/issuers/{id}/issued                              issuer.edit            AO...MC.  415
POST   /api/v1/issuers/{id}/revocations                         issuer.edit            AO...MC.  415
POST   /api/v1/issuers/{id}/revoke-serial                       cert.revoke            AO...MC.  400
POST   /api/v1/issuers/{id}/intermediates                       ca.hierarchy.manage    A.......  400
GET    /api/v1/issuers/{id}/intermediates                       ca.hierarchy.manage    A.......  404
GET    /api/v1/intermediates/{id}                               ca.hierarchy.manage    A.......  404
POST   /api/v1/intermediates/{id}/retire                        ca.hierarchy.manage    A.......  404
GET    /api/v1/admin/crl/cache                                  crl.admin              A.......  200
GET    /api/v1/admin/work                                       job.cancel             AO...MC.  200
POST   /api/v1/admin/work/{id}/requeue                          job.cancel             AO...MC.  404

GET    /api/v1/auth/info                                        public                 AOVGgMCU  200
GET    /api/v1/auth/bootstrap                                   public                 AOVGgMCU  200
POST   /api/v1/auth/bootstrap                                   public                 AOVGgMCU  410
GET    /api/v1/auth/check                                       authenticated          AOVGgMCU  200
GET    /api/v1/auth/me                                          authenticated          AOVGgMCU  200

GET    /api/v1/auth/permissions                                 authenticated          AOVGgMCU  200
GET    /api/v1/auth/runtime-config                              auth.role.assign       A.......  200
GET    /api/v1/auth/roles                                       auth.role.list         A.......  200
POST   /api/v1/auth/roles                                       auth.role.create       A.......  400
GET    /api/v1/auth/roles/{id}                                  auth.role.list         A.......  404
PUT    /api/v1/auth/roles/{id}                                  auth.role.edit         A.......  404
DELETE /api/v1/auth/roles/{id}                                  auth.role.delete       A.......  404
POST   /api/v1/auth/roles/{id}/permissions                      auth.role.edit         A.......  400
DELETE /api/v1/auth/roles/{id}/permissions/{perm}               auth.role.edit         A.......  404

GET    /api/v1/auth/keys                                        auth.key.list          A.....C.  200
POST   /api/v1/auth/keys                                        auth.key.create        A.....C.  400
POST   /api/v1/auth/keys/{id}/rotate                            auth.key.rotate        A.....C.  404
DELETE /api/v1/auth/keys/{id}                                   auth.key.delete        A.......  404
POST   /api/v1/auth/keys/{id}/roles                             auth.role.assign       A.......  400
DELETE /api/v1/auth/keys/{id}/roles/{role_id}                   auth.role.revoke       A.......  404

GET    /api/v1/auth/users                                       auth.user.read         AO....CU  200
GET    /api/v1/auth/users/{id}                                  auth.user.read         AO....CU  404
DELETE /api/v1/auth/users/{id}                                  auth.user.deactivate   A.......  404
POST   /api/v1/auth/users/{id}/reactivate                       auth.user.deactivate   A.......  404
GET    /api/v1/auth/users/{id}/roles                            auth.user.read         AO....CU  404
POST   /api/v1/auth/users/{id}/roles                            auth.role.assign       A.......  400
DELETE /api/v1/auth/users/{id}/roles/{role_id}                  auth.role.revoke       A.......  404

POST   /auth/breakglass/login                                   public                 AOVGgMCU  400!
GET    /api/v1/auth/breakglass/credentials                      auth.breakglass.admin  A.......  200!
POST   /api/v1/auth/breakglass/credentials                      auth.breakglass.admin  A.......  400!
POST   /api/v1/auth/breakglass/credentials/{actor_id}/unlock    auth.breakglass.admin  A.......  404!
DELETE /api/v1/auth/breakglass/credentials/{actor_id}           auth.breakglass.admin  A.......  404!

GET    /api/v1/auth/oidc/providers                              auth.oidc.list         A.......  200
POST   /api/v1/auth/oidc/providers                              auth.oidc.create       A.......  400
PUT    /api/v1/auth/oidc/providers/{id}                         auth.oidc.edit         A.......  404
DELETE /api/v1/auth/oidc/providers/{id}                         auth.oidc.delete       A.......  404
GET    /api/v1/auth/oidc/providers/{id}/jwks-status             auth.oidc.list         A.......  404
POST   /api/v1/auth/oidc/providers/{id}/refresh                 auth.oidc.edit         A.......  404
POST   /api/v1/auth/oidc/test                                   auth.oidc.create       A.......  400
GET    /api/v1/auth/oidc/group-mappings                         auth.oidc.list         A.......  400
POST   /api/v1/auth/oidc/group-mappings                         auth.oidc.edit         A.......  400
DELETE /api/v1/auth/oidc/group-mappings/{id}                    auth.oidc.edit         A.......  404

GET    /api/v1/auth/sessions                                    authenticated          AOVGgMCU  200
DELETE /api/v1/auth/sessions                                    authenticated          AOVGgMCU  400
DELETE /api/v1/auth/sessions/{id}                               authenticated          AOVGgMCU  400
POST   /auth/logout                                             public                 AOVGgMCU  204
GET    /auth/oidc/login                                         public                 AOVGgMCU  400
GET    /auth/oidc/callback                                      public                 AOVGgMCU  400
POST   /auth/oidc/back-channel-logout                           public                 AOVGgMCU  415

GET    /api/v1/certificates                                     cert.read              AOVG.MC.  200
POST   /api/v1/certificates                                     cert.issue             AO...MC.  400
GET    /api/v1/certificates/{id}                                cert.read              AOVG.MC.  404
PUT    /api/v1/certificates/{id}                                cert.edit              AO...MC.  404
DELETE /api/v1/certificates/{id}                                cert.delete            AO....C.  404
GET    /api/v1/certificates/{id}/versions                       cert.read              AOVG.MC.  404
GET    /api/v1/certificates/{id}/export/pem                     cert.read              AOVG.MC.  404
POST   /api/v1/certificates/{id}/export/pkcs12                  cert.read              AOVG.MC.  404
POST   /api/v1/certificates/{id}/renew                          cert.issue             AO...MC.  404
POST   /api/v1/certificates/{id}/csr                            cert.issue             AO...MC.  400
POST   /api/v1/certificates/{id}/revoke                         cert.revoke            AO...MC.  404
POST   /api/v1/certificates/{id}/release-hold                   cert.revoke            AO...MC.  404
GET    /api/v1/jobs                                             job.read               AOV..MC.  200
GET    /api/v1/jobs/{id}                                        job.read               AOV..MC.  404

GET    /api/v1/agents                                           agent.read             AOV..MC.  200
POST   /api/v1/agents                                           agent.edit+agentBootstrap AO....C.  400
GET    /api/v1/agents/retired                                   agent.read             AOV..MC.  200
POST   /api/v1/agent-credentials                                agent.edit             AO....C.  400
GET    /api/v1/agent-credentials                                agent.edit             AO....C.  200
GET    /api/v1/agent-credentials/{id}                           agent.edit             AO....C.  404
DELETE /api/v1/agent-credentials/{id}                           agent.edit             AO....C.  404
GET    /api/v1/agents/{id}                                      agent.read             AOV..MC.  404
DELETE /api/v1/agents/{id}                                      agent.retire           A.......  404
GET    /api/v1/agents/{id}/roles                                agent.read             AOV..MC.  404
POST   /api/v1/agents/{id}/roles                                auth.role.assign       A.......  400
DELETE /api/v1/agents/{id}/roles/{role_id}                      auth.role.revoke       A.......  404
POST   /api/v1/agents/{id}/heartbeat                            agent.heartbeat        A..Gg...  404/200
GET    /api/v1/agents/{id}/work                                 agent.job.poll         A..Gg...  404/200
POST   /api/v1/agents/{id}/csr                                  agent.job.poll         A..Gg...  404/400
GET    /api/v1/agents/{id}/certificates/{cert_id}               cert.read              AOVGgMC.  404
POST   /api/v1/targets/{id}/test                                target.edit            AO...MC.  404
`;

/** The routes of test/support/protocols.ts. */
const PROTOCOLS = `
POST   /est/enrol                       protocol+basic+clientCertificate               ........  200    text
POST   /scep/enrol                      protocol+signedBody                            ........  200    text
POST   /acme/enrol                      protocol+signedBody                            ........  200    problem
`;

/** The columns of "who may", in their order; `g` is no role but an agent. */
export const LETTERS = "AOVGgMCU";

export const ROLE_OF: Readonly<Record<string, string>> = {
  A: "r-admin",
  O: "r-operator",
  V: "r-viewer",
  G: "r-agent",
  M: "r-mcp",
  C: "r-cli",
  U: "r-auditor",
};

export interface MatrixRow {
  readonly method: string;
  readonly path: string;
  /** A permission of the catalogue, `public`, `authenticated` or `protocol`. */
  readonly access: string;
  /** Names of the credentials that it declares. */
  readonly credentials: readonly string[];
  readonly letters: string;
  readonly answer: number;
  /** What the real agent is answered for its own id. */
  readonly agentAnswer: number;
  /** Off by default. */
  readonly switched: boolean;
  /** Content-Type of its errors. */
  readonly errorType: string;
}

const ROW =
  /^(GET|POST|PUT|DELETE) +(\/\S*) +([a-z_.]+)((?:\+[A-Za-z]+)*) +([A-Za-z.]{8}) +(\d{3})(?:\/(\d{3}))?(!?)(?: +(text|problem))?$/;

/** The five routes of each plain resource. */
const PLAIN = Object.values(PLAIN_RESOURCES).flatMap(({ path, permission, may }) => [
  `GET ${path} ${permission}.read ${may.read} 200`,
  `POST ${path} ${permission}.edit ${may.edit} 400`,
  `GET ${path}/{id} ${permission}.read ${may.read} 404`,
  `PUT ${path}/{id} ${permission}.edit ${may.edit} 404`,
  `DELETE ${path}/{id} ${permission}.delete ${may.delete} 404`,
]);

const ERROR_TYPES: Readonly<Record<string, string>> = {
  envelope: "application/json",
  text: "text/plain; charset=utf-8",
  problem: "application/problem+json",
};

function rowsOf(table: string): readonly MatrixRow[] {
  return table
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const [, method, path, access, plus, letters, answer, agentAnswer, mark, form] = ROW.exec(line) ?? [];
      if (!method || !path || !access || !letters || !answer) throw new Error(`not a row of the matrix: ${line}`);
      const credentials = plus ? plus.slice(1).split("+") : [];
      const answers = { answer: Number(answer), agentAnswer: Number(agentAnswer ?? answer) };
      const errorType = String(ERROR_TYPES[form ?? "envelope"]);
      return { method, path, access, credentials, letters, ...answers, switched: mark === "!", errorType };
    });
}

export const MATRIX = rowsOf([TABLE, ...PLAIN].join("\n"));
export const PROTOCOL_MATRIX = rowsOf(PROTOCOLS);

/** Bodies that are not `{}`, by method and path. */
export const BODIES: Readonly<Record<string, unknown>> = {
  "POST /api/v1/agents/{id}/csr": { csr_pem: "none", job_id: "absent-0" },
};

/** Public, and yet for a session that holds its CSRF token is needed: another site must not sign people out. */
export const CSRF_THOUGH_PUBLIC = "POST /auth/logout";
