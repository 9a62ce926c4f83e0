import { createExecutionContext } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { route } from "../../src/platform/route.ts";
import { makeApp } from "../../worker/app.ts";
import { administrator } from "../support/api.ts";
import { DECLARED, protocolRoutes } from "../support/protocols.ts";

const app = makeApp(protocolRoutes);

function enrol(protocol: string, init: { headers?: HeadersInit; body?: string } = {}): Promise<Response> {
  const request = new Request(`http://localhost/${protocol}/enrol`, { method: "POST", body: "octets", ...init });
  return app.fetch(request, { ...env }, createExecutionContext());
}

let key = "";
beforeAll(async () => {
  key = String((await administrator()).key);
});

describe("inv 7: a credential that a route declares", () => {
  it("gives the actor, whichever of them is shown", async () => {
    expect(await (await enrol("est", DECLARED.basic.valid)).text()).toBe("basic-device octets");
    expect(await (await enrol("est", DECLARED.clientCertificate.valid)).text()).toBe("certificate-device octets");
    const both = { headers: { ...DECLARED.basic.valid.headers, ...DECLARED.clientCertificate.valid.headers } };
    expect(await (await enrol("est", both)).text()).toBe("basic-device octets");
  });

  it("in a body is read before the caller is known, up to the route's limit, and the handler reads the same body", async () => {
    expect(await (await enrol("scep", DECLARED.signedBody.valid)).text()).toBe("signing-device signed.order");
    const long = await enrol("scep", { body: `signed.${"x".repeat(64)}` });
    expect([long.status, long.headers.get("Content-Type")]).toEqual([413, "text/plain; charset=utf-8"]);
  });

  it("that is shown and not valid is refused, though another one is valid", async () => {
    const headers = { ...DECLARED.basic.invalid.headers, ...DECLARED.clientCertificate.valid.headers };
    expect((await enrol("est", { headers })).status).toBe(401);
  });

  it("is named by the 401, with its challenge where it has one", async () => {
    const refused = await enrol("est", { headers: { Authorization: `Bearer ${key}` } });
    expect([refused.status, refused.headers.get("WWW-Authenticate")]).toEqual([401, 'Basic realm="enrolment"']);
    expect(await refused.text()).toBe("this needs a credential: HTTP Basic, or a client certificate\n");
    const unsigned = await enrol("scep");
    expect([unsigned.status, unsigned.headers.get("WWW-Authenticate")]).toEqual([401, null]);
  });

  it("must be there on a protocol's route, and cannot be on a public one", () => {
    const spec = {
      operationId: "test",
      method: "get",
      path: "/test",
      tag: "Test",
      summary: "Test",
      answers: {},
      handler: () => Promise.reject(new Error("not called")),
    } as const;
    expect(() => route({ ...spec, access: { protocol: "a test" } })).toThrow("test: no credential opens it");
    const credentials = protocolRoutes.flatMap((one) => one.credentials);
    expect(() => route({ ...spec, access: { public: "a test" }, credentials })).toThrow("test: is public");
  });
});

describe("inv 10: an error in the form that a route declares", () => {
  it("is a line of text, with the request's id in the header", async () => {
    const refused = await enrol("est", {
      ...DECLARED.basic.invalid,
      headers: { ...DECLARED.basic.invalid.headers, "X-Request-ID": "req-form-0001" },
    });
    expect(await refused.text()).toBe("the password is not valid\n");
    expect(refused.headers.get("X-Request-ID")).toBe("req-form-0001");
    expect(refused.headers.get("Cache-Control")).toBe("no-store");
  });

  it("is Problem Details with the protocol's own type (RFC 7807)", async () => {
    const refused = await enrol("acme", { headers: { "X-Request-ID": "req-form-0002" } });
    expect(await refused.json()).toEqual({
      type: "urn:ietf:params:acme:error:unauthorized",
      status: 401,
      detail: "this needs a credential: a signed body",
      error: "unauthorized",
      request_id: "req-form-0002",
    });
  });

  it("is the envelope before a route is found", async () => {
    const request = new Request("http://localhost/est/enrol", { method: "PUT" });
    const answer = await app.fetch(request, { ...env }, createExecutionContext());
    expect([answer.status, answer.headers.get("Content-Type")]).toEqual([405, "application/json"]);
  });
});
