import { createExecutionContext } from "cloudflare:test";
import { env, exports } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import type { Route } from "../../src/platform/route.ts";
import { makeApp } from "../../worker/app.ts";
import worker from "../../worker/index.ts";
import { openApiDocument } from "../../worker/openapi.ts";
import { routes } from "../../worker/routes.ts";
import { newActor } from "../support/actors.ts";
import { administrator } from "../support/api.ts";
import { newUser, signIn } from "../support/browser.ts";
import { foreignCredentials } from "../support/credentials.ts";
import { addAgent } from "../support/fleet.ts";
import {
  BODIES,
  CSRF_THOUGH_PUBLIC,
  LETTERS,
  MATRIX,
  type MatrixRow,
  PROTOCOL_MATRIX,
  ROLE_OF,
} from "../support/matrix.ts";
import { DECLARED, protocolRoutes } from "../support/protocols.ts";

/** What a request shows: headers. */
type Shown = Readonly<Record<string, string>>;

const bearer = (key: string | null): Shown => ({ Authorization: `Bearer ${key}` });

/** Letter to credential. */
const roles = new Map<string, Shown>();
/** What opens nothing, by name. */
let invalid: Readonly<Record<string, Shown>> = {};
let withoutRole: Shown = {};
let otherAgent: Shown = {};
/** A bootstrap credential of agents: who shows it is somebody, and may enrol and nothing else. */
let enrolling: Shown = {};
/** An administrator's session as another site would use it: the cookies, no CSRF token. */
let forged: Shown = {};
let agentId = "";

beforeAll(async () => {
  const admin = await administrator();
  for (const [letter, role_id] of Object.entries(ROLE_OF))
    roles.set(letter, bearer((await newActor([{ role_id }])).client.key));
  const own = await addAgent(admin, "matrix-1");
  agentId = own.agentId;
  roles.set("g", bearer(own.agent.key));
  otherAgent = bearer((await addAgent(admin, "matrix-2")).agent.key);
  withoutRole = bearer((await newActor([])).client.key);
  const credential = await admin.create("/api/v1/agent-credentials", { name: "matrix" });
  enrolling = bearer(String(credential.token));
  const { browser } = await signIn((await newUser(["r-admin"])).id);
  forged = { Cookie: [...browser.jar].map(([name, value]) => `${name}=${value}`).join("; ") };
  invalid = await foreignCredentials();
});

/** The Worker with everything switched on that can be, as the tests have it, and with all of that switched off. */
const switchedOn = (request: Request) => exports.default.fetch(request);
const off = { ...env, CERTCTL_BREAKGLASS_ENABLED: "false" };
const switchedOff = (request: Request) => worker.fetch(request, off, createExecutionContext());
const protocols = makeApp(protocolRoutes);
const atProtocols = (request: Request) => protocols.fetch(request, { ...env }, createExecutionContext());

/** A status, and the Content-Type of an error that is not in the row's form. */
type Outcome = number | string;

/** Sends a row's request with what is shown; ids in the path are of nothing, or the agent's own. */
async function ask(
  row: MatrixRow,
  shown: Shown,
  send: typeof switchedOn,
  { id = "absent-0", body }: { id?: string; body?: string } = {},
): Promise<Outcome> {
  const name = `${row.method} ${row.path}`;
  const path = row.path.replace("{id}", id).replaceAll(/\{[a-z_]+\}/g, "absent-0");
  const init: RequestInit = { method: row.method, headers: { ...shown }, redirect: "manual" };
  if (row.method !== "GET") {
    init.headers = { "Content-Type": "application/json", ...shown };
    init.body = body ?? JSON.stringify(BODIES[name] ?? {});
  }
  const response = await send(new Request(`http://localhost${path}`, init));
  await response.arrayBuffer();
  const { status } = response;
  const type = response.headers.get("Content-Type");
  return status < 400 || type === row.errorType ? status : `${status} ${type}`;
}

const forAgents = (row: MatrixRow) => row.letters.includes("g") && row.path.startsWith("/api/v1/agents/{id}/");

/** What everybody is answered: who it is to the outcome. */
async function answersOf(row: MatrixRow, send = switchedOn): Promise<Record<string, Outcome>> {
  const own = { id: agentId };
  const shown: [string, Shown, { id?: string; body?: string }?][] = [
    ["nobody", {}],
    ...Object.entries(invalid),
    ["an actor without a role", withoutRole],
    ["another agent", otherAgent, own],
    ["agentBootstrap", enrolling],
    ["an administrator's session from another site", forged],
    ...[...LETTERS].map((letter): [string, Shown, { id?: string }?] => [
      letter,
      roles.get(letter) ?? {},
      letter === "g" ? own : {},
    ]),
    ...declaredFor(row).flatMap(([name, { valid, invalid }]): [string, Shown, { body?: string }][] => [
      [name, valid.headers ?? {}, valid],
      [`${name}, not valid`, invalid.headers ?? {}, invalid],
    ]),
  ];
  const asked = shown.map(async ([who, credential, how]) => [who, await ask(row, credential, send, how)] as const);
  return Object.fromEntries(await Promise.all(asked));
}

type Presented = { readonly headers?: Shown; readonly body?: string };

/** Credentials of protocols, shown everywhere; in a body only where a route reads bodies of that kind. */
function declaredFor(row: MatrixRow) {
  const all: [string, { valid: Presented; invalid: Presented }][] = Object.entries(DECLARED);
  return all.filter(([, { valid }]) => valid.body === undefined || row.access === "protocol");
}

/** What the table says that they are answered. */
function expectedOf(row: MatrixRow): Record<string, number> {
  const open = row.access === "public";
  const denied = open ? row.answer : 401;
  const beyond = row.access === "protocol" ? 401 : 403;
  const permitted = (may: boolean) => (may ? row.answer : beyond);
  return {
    nobody: denied,
    ...Object.fromEntries(Object.keys(invalid).map((name) => [name, denied])),
    "an actor without a role": permitted(open || row.access === "authenticated"),
    agentBootstrap: permitted(open || row.credentials.includes("agentBootstrap")),
    "an administrator's session from another site": permitted(
      row.access !== "protocol" && (row.method === "GET" || (open && nameOf(row) !== CSRF_THOUGH_PUBLIC)),
    ),
    "another agent": permitted((open || row.access === "authenticated") && !forAgents(row)),
    ...Object.fromEntries(
      [...LETTERS].map((letter, at) => [
        letter,
        row.letters[at] !== letter ? beyond : letter === "g" ? row.agentAnswer : row.answer,
      ]),
    ),
    ...Object.fromEntries(
      declaredFor(row).flatMap(([name]) => [
        [name, row.credentials.includes(name) ? row.answer : denied],
        [`${name}, not valid`, denied],
      ]),
    ),
  };
}

const nameOf = ({ method, path }: { method: string; path: string }) => `${method.toUpperCase()} ${path}`;
const accessOf = ({ access, credentials, errorForm }: Route) => ({
  access: typeof access === "string" ? access : Object.keys(access)[0],
  credentials: credentials.map(({ name }) => name),
  errorType: errorForm.type,
});

describe("inv 7: who may call what", () => {
  it("each operation of the OpenAPI document is a route and a row, and there are no others", () => {
    const { paths } = openApiDocument() as { paths: Record<string, Record<string, unknown>> };
    const documented = Object.entries(paths).flatMap(([path, item]) =>
      Object.keys(item).map((method) => nameOf({ method, path })),
    );
    const rows = MATRIX.map(nameOf);
    expect(rows.toSorted()).toEqual(routes.map(nameOf).toSorted());
    expect(rows.toSorted()).toEqual(documented.toSorted());
    expect(new Set(rows).size).toBe(rows.length);
  });

  it("the table agrees with itself: one permission opens its routes to the same roles, and each letter stands in its column", () => {
    for (const { letters, access, ...row } of MATRIX) {
      for (const [at, letter] of [...letters].entries())
        expect([".", LETTERS[at]], `${nameOf(row)} column ${at}`).toContain(letter);
      const others = MATRIX.filter((other) => other.access === access).map((other) => withoutAgent(other.letters));
      expect(new Set(others), access).toEqual(new Set([withoutAgent(letters)]));
    }
  });

  it("each route names the permission, the credentials and the form of errors that its row names", () => {
    const declared = new Map([...routes, ...protocolRoutes].map((route) => [nameOf(route), accessOf(route)]));
    for (const row of [...MATRIX, ...PROTOCOL_MATRIX]) {
      const { access, credentials, errorType } = row;
      expect(declared.get(nameOf(row)), nameOf(row)).toEqual({ access, credentials, errorType });
    }
  });

  it.each(MATRIX.map((row) => [nameOf(row), row] as const))("%s", async (_, row) => {
    if (row.switched) expect(new Set(Object.values(await answersOf(row, switchedOff)))).toEqual(new Set([404]));
    expect(await answersOf(row)).toEqual(expectedOf(row));
  });

  it.each(PROTOCOL_MATRIX.map((row) => [nameOf(row), row] as const))(
    "%s, as a protocol declares it",
    async (_, row) => {
      expect(await answersOf(row, atProtocols)).toEqual(expectedOf(row));
    },
  );
});

const withoutAgent = (letters: string) => letters.replace("g", ".");
