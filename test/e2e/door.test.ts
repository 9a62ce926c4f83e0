import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type RunningServer, startServer } from "../support/server.ts";
import { bootstrap } from "./support/api.ts";
import { type Front, startHaproxy, startNginx } from "./support/fronts.ts";
import { type RawAnswer, rawRequest, sendRaw } from "./support/raw.ts";
import { describeWith, Scratch } from "./support/shell.ts";

const CA = "/.well-known/pki/ca/iss-door";
const OCSP = "/.well-known/pki/ocsp/iss-door/01";
const HTTP_DATE =
  /^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4} \d\d:\d\d:\d\d GMT$/;
const ROOT = { ca_common_name: "Door Root", key_algorithm: "ECDSA-P256" };

let server: RunningServer;
let key: string;

beforeAll(async () => {
  server = await startServer();
  const admin = await bootstrap(server.url, server.bootstrapToken);
  key = admin.key ?? "";
  await admin.post("/api/v1/issuers", { id: "iss-door", name: "Door", type: "GenericCA", config: ROOT });
});
afterAll(() => server?.stop());

function expectEnvelope(what: string, answer: RawAnswer, status: number, error: string): void {
  expect([what, answer.status, answer.headers.get("Content-Type"), JSON.parse(answer.text)]).toEqual([
    what,
    status,
    "application/json",
    { error, message: expect.any(String), request_id: expect.stringMatching(/^req-/) },
  ]);
}

/** A Host that is no plain authority: with a path, a user, a bad port, more than one, none. */
const BAD_HOSTS = [
  ...[
    "x/health?",
    "x/health#",
    "x/",
    "x?",
    "x#",
    "/health",
    "//x",
    "http://x",
    "x\\health",
    "x%2fhealth",
    "x/api/v1/auth/me?",
  ],
  ...["u@x", "u:p@x", "x:", "x:abc", "x:99999", "x:80:80", "x:-1", "[::1", "::1", "[x]", "x]", "[::1]x"],
  ...["x y", "x\ty", "x\x01", "b\xfccher", "x,y", "x;y", "x<", "*", "1.2.3.999", "0x7f.1", "127.1", "x\r\nHost: y", ""],
];

describe("straight at the socket", () => {
  it("a Host that is not a plain authority is a 400 before anything else", async () => {
    for (const host of [...BAD_HOSTS, null]) {
      for (const path of [CA, "/api/v1/auth/me", "/"]) {
        const answer = await sendRaw(server.port, rawRequest(`GET ${path}`, host));
        expectEnvelope(`${path} at ${host}`, answer, 400, "invalid_host");
      }
    }
  });

  it("any plain authority will do", async () => {
    const hosts = [
      "localhost",
      "LOCALHOST:1",
      "pki.example.com",
      "pki.example.com.:65535",
      "under_score",
      "127.0.0.1:80",
    ];
    for (const host of [...hosts, "[::1]", "[2001:DB8:0::1]:8787"]) {
      const answer = await sendRaw(server.port, rawRequest(`GET ${CA}`, host));
      expect([host, answer.status, answer.headers.get("Content-Type")]).toEqual([host, 200, "application/pkix-cert"]);
      expect([host, (await sendRaw(server.port, rawRequest("GET /health", host))).status]).toEqual([host, 200]);
    }
  });

  it("a request target that is no path, or another path once a parser has read it, is a 400", async () => {
    const targets = [
      ...["*", "http://localhost/health", "HTTP://localhost/health", "https://localhost/health", `http://evil${CA}`],
      ...["ftp://x/y", "http://x:99999/", "http:health", "health", "@x", ":80", "x:99999", "localhost:443", "mailto:x"],
      ...["/../health", "/x/../health", "/./health", "/%2e%2e/health", "/x/%2E./health", "/\\health", "/x\\..\\health"],
    ];
    for (const target of targets) {
      for (const method of ["GET", "OPTIONS", "POST"]) {
        const answer = await sendRaw(server.port, rawRequest(`${method} ${target}`, "localhost"));
        expectEnvelope(`${method} ${target}`, answer, 400, "invalid_request_target");
      }
    }
  });

  it("bad escapes, doubled slashes and dots below the public PKI are no path of ours", async () => {
    const paths = [
      "/%",
      "/%zz",
      "/%00",
      "/%ff",
      "//health",
      "//evil/health",
      "///",
      "/api/v1//teams",
      "/api%2fv1/teams",
    ];
    for (const path of [...paths, "/.well-known/pki/../../health", "/.well-known/pki/%2e%2e/%2e%2e/health"]) {
      expectEnvelope(path, await sendRaw(server.port, rawRequest(`GET ${path}`, "localhost")), 404, "not_found");
    }
    for (const id of ["%", "%zz", "%00", "%ff", "%c3%28", "%E0%80%80", "%2e%2e%2f", "%ud800"]) {
      const headers = [`Authorization: Bearer ${key}`];
      const answer = await sendRaw(server.port, rawRequest(`GET /api/v1/teams/${id}`, "localhost", headers));
      expect([id, answer.status, JSON.parse(answer.text)]).toEqual([
        id,
        expect.toSatisfy((status: number) => status >= 400 && status < 500),
        { error: expect.any(String), message: expect.any(String), request_id: expect.any(String) },
      ]);
    }
  });

  it("bytes that make no request, and methods that nobody knows, are answered in the envelope as well", async () => {
    for (const target of [
      "",
      "?x",
      "#x",
      "\\health",
      "http://",
      "http:///x",
      "/\x01",
      "/\x7f",
      "/\xff",
      "/a\tb",
      "/a b",
      "/?\x01",
    ])
      expectEnvelope(target, await sendRaw(server.port, rawRequest(`GET ${target}`, "localhost")), 400, "invalid_http");
    for (const line of ["G@T /health", "\x00\x01", "\x16\x03\x01", "GET"])
      expectEnvelope(line, await sendRaw(server.port, rawRequest(line, "localhost")), 400, "invalid_http");
    for (const header of [
      " A: b",
      "A b: c",
      "Content-Length: -1",
      "Transfer-Encoding: x",
      "Content-Length: 1\r\nContent-Length: 2",
    ]) {
      const answer = await sendRaw(server.port, rawRequest("POST /health", "localhost", [header]));
      expectEnvelope(header, answer, 400, "invalid_http");
    }
    const long = "x".repeat(100_000);
    expectEnvelope("long", await sendRaw(server.port, rawRequest(`GET /${long}`, "localhost")), 414, "invalid_http");
    for (const line of [
      "CONNECT x:443",
      "CONNECT /health",
      `CONNECT ${CA}`,
      "FOO /health",
      "get /health",
      "TRACK /health",
    ]) {
      const answer = await sendRaw(server.port, rawRequest(line, "localhost"));
      expectEnvelope(line, answer, 405, "method_not_allowed");
      expect(answer.headers.get("Allow")).toContain("GET, HEAD");
    }
  });

  it("a method that a path does not have is a 405 with Allow", async () => {
    for (const method of ["TRACE", "PROPFIND", "QUERY", "PURGE", "LOCK", "DELETE", "OPTIONS"]) {
      for (const path of ["/health", CA]) {
        const answer = await sendRaw(server.port, rawRequest(`${method} ${path}`, "localhost"));
        expectEnvelope(`${method} ${path}`, answer, 405, "method_not_allowed");
        expect(answer.headers.get("Allow")).toBe("GET, HEAD");
      }
    }
  });

  it("every answer says when it was made: pages, the API, the public PKI, errors and 304s", async () => {
    const dateOf = async (message: string, status: number) => {
      const { status: got, headers } = await sendRaw(server.port, message);
      expect([message, got, headers.get("Date")]).toEqual([message, status, expect.stringMatching(HTTP_DATE)]);
    };
    const get = (path: string, ...headers: string[]) => rawRequest(`GET ${path}`, "localhost", headers);
    for (const path of ["/", "/login", "/docs/", "/assets/front.js", "/health", "/openapi.json", CA, OCSP])
      await dateOf(get(path), 200);
    await dateOf(rawRequest("HEAD /health", "localhost"), 200);
    await dateOf(rawRequest(`HEAD ${CA}`, "localhost"), 200);
    await dateOf(get("/api/v1/auth/me", `Authorization: Bearer ${key}`), 200);
    await dateOf(get("/api/v1/auth/me"), 401);
    await dateOf(get("/nothing"), 404);
    await dateOf(get("/.well-known/pki/ca/nobody"), 404);
    await dateOf(rawRequest("DELETE /health", "localhost"), 405);
    await dateOf(get("/health").replace("localhost", "x/y"), 400);
    await dateOf(get("/\x01"), 400);
    await dateOf(rawRequest("FOO /health", "localhost"), 405);
    for (const path of [CA, OCSP, "/assets/front.js"]) {
      const { headers } = await sendRaw(server.port, get(path));
      await dateOf(get(path, `If-None-Match: ${headers.get("ETag")}`), 304);
    }
  });

  it("nothing of it was an error of ours", () => {
    expect(server.log()).not.toMatch(/request\.failed|TypeError/);
  });
});

/** Ways to reach /health on a port that shows the public PKI alone. */
function wayAround(): string[] {
  const paths = ["/health", "//health", "/x/../health", "/%68ealth", "/.well-known/pki/../../health"];
  const encoded = [
    "/.well-known/pki/%2e%2e/%2e%2e/health",
    "/.well-known/pki/..%2f..%2fhealth",
    "/.well-known/pki\\..\\..\\health",
  ];
  const full = ["http://x/health", "http://x/.well-known/pki/../../health", "http://x/health?/.well-known/pki/"];
  return [
    ...[...paths, ...encoded, ...full].map((target) => rawRequest(`GET ${target}`, "localhost")),
    ...BAD_HOSTS.map((host) => rawRequest(`GET ${CA}`, host)),
  ];
}

for (const [name, start] of [
  ["nginx", startNginx],
  ["haproxy", startHaproxy],
] as const) {
  describeWith(`${name} as docs/operations.md has it`, [name, "openssl"], () => {
    const scratch = new Scratch();
    let front: Front;

    beforeAll(async () => {
      front = await start(scratch, server.port);
    });
    afterAll(async () => {
      await front?.stop();
      scratch.remove();
    });

    it("lets relying parties through over plain http, and sends all others to https", async () => {
      expect((await sendRaw(front.plainPort, rawRequest(`GET ${CA}`, "localhost"))).status).toBe(200);
      for (const path of ["MAA=", "//MAA=", "%2FMAA%3D", "MA%0AA="]) {
        const url = `GET /.well-known/pki/ocsp/iss-door/${path}`;
        const [straight, through] = await Promise.all([
          sendRaw(server.port, rawRequest(url, "localhost")),
          sendRaw(front.plainPort, rawRequest(url, "localhost")),
        ]);
        expect([path, through.status, through.text]).toEqual([path, straight.status, straight.text]);
      }
      expect((await sendRaw(front.plainPort, rawRequest("GET /health", "localhost"))).status).toBe(308);
    });

    it("no Host and no request target walks around it", async () => {
      for (const message of wayAround()) {
        const answer = await sendRaw(front.plainPort, message);
        // What the proxy makes a plain request of is that request; anything else is refused, or sent to https.
        if (answer.headers.get("Content-Type") === "application/pkix-cert") continue;
        expect([message, answer.status]).toEqual([
          message,
          expect.toSatisfy((status: number) => status === 308 || (status >= 400 && status < 500)),
        ]);
        expect(answer.text).not.toContain("healthy");
      }
    });
  });
}
