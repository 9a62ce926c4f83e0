import { z } from "@hono/zod-openapi";
import type { Actor } from "../../src/platform/context.ts";
import type { Credential } from "../../src/platform/credential.ts";
import { type ErrorForm, problem, TEXT } from "../../src/platform/error-forms.ts";
import { unauthorized } from "../../src/platform/errors.ts";
import { raw, route } from "../../src/platform/route.ts";

/** Routes as EST, SCEP and ACME have them: credentials of their own, errors in a form of their own. */

const enrollee = (id: string): Actor => ({ id, type: "Agent", tenant_id: "t-default", roles: [], permissions: [] });

const basic: Credential = {
  name: "basic",
  scheme: { type: "http", scheme: "basic", description: "A password of the enrolment" },
  title: "HTTP Basic",
  challenge: 'Basic realm="enrolment"',
  identify: (_ctx, { request }) => {
    const shown = /^Basic (\S+)$/.exec(request.headers.get("Authorization") ?? "")?.[1];
    if (shown === undefined) return null;
    return shown === btoa("device:secret")
      ? Promise.resolve(enrollee("basic-device"))
      : Promise.reject(unauthorized("the password is not valid", "password_invalid", basic.challenge));
  },
};

const clientCertificate: Credential = {
  name: "clientCertificate",
  scheme: { type: "mutualTLS", description: "The certificate that is renewed" },
  title: "a client certificate",
  challenge: null,
  identify: (_ctx, { request }) => {
    const shown = request.headers.get("X-Test-Client-Certificate");
    if (shown === null) return null;
    return shown === "trusted"
      ? Promise.resolve(enrollee("certificate-device"))
      : Promise.reject(unauthorized("the client certificate is not valid", "certificate_invalid", null));
  },
};

/** `<signature>.<payload>`, as far as a test must know. */
const signedBody: Credential = {
  name: "signedBody",
  scheme: null,
  title: "a signed body",
  challenge: null,
  inBody: true,
  identify: (_ctx, { body }) => {
    const [signature, payload] = new TextDecoder().decode(body).split(".");
    if (payload === undefined) return null;
    return signature === "signed"
      ? Promise.resolve(enrollee("signing-device"))
      : Promise.reject(unauthorized("the signature is not valid", "signature_invalid", null));
  },
};

/** What opens a protocol's routes and what does not, by the credential's name. */
export const DECLARED = {
  basic: {
    valid: { headers: { Authorization: `Basic ${btoa("device:secret")}` } },
    invalid: { headers: { Authorization: `Basic ${btoa("device:guess")}` } },
  },
  clientCertificate: {
    valid: { headers: { "X-Test-Client-Certificate": "trusted" } },
    invalid: { headers: { "X-Test-Client-Certificate": "self-signed" } },
  },
  signedBody: { valid: { body: "signed.order" }, invalid: { body: "forged.order" } },
} as const;

const octets = z.instanceof(Uint8Array);

function protocolRoute(name: string, credentials: readonly Credential[], errorForm: ErrorForm) {
  return route({
    operationId: `${name}Enrol`,
    method: "post",
    path: `/${name}/enrol`,
    access: { protocol: "a test" },
    credentials,
    errorForm,
    tag: "Test",
    summary: "Enrols",
    bodyType: `application/${name}`,
    body: octets,
    bodyLimit: 64,
    answers: { 200: { description: "Who the caller is, and the body" } },
    handler: async (ctx, { body }) =>
      raw(200, `${ctx.actor.id} ${new TextDecoder().decode(body)}`, { "Content-Type": "text/plain" }),
  });
}

const acmeError = problem(({ code }) => `urn:ietf:params:acme:error:${code === "unauthorized" ? code : "malformed"}`);

export const protocolRoutes = [
  protocolRoute("est", [basic, clientCertificate], TEXT),
  protocolRoute("scep", [signedBody], TEXT),
  protocolRoute("acme", [signedBody], acmeError),
];
