import { z } from "@hono/zod-openapi";
import { type Route, type RouteAnswer, route } from "../../../platform/route.ts";

/**
 * The public PKI endpoints for the OpenAPI document. They are served before the API (worker/public-pki.ts): by raw
 * path, from the cached entrypoint, without credentials and without a default rate limit.
 */
const binary = z.string().openapi({ format: "binary" });
const tag = "Public PKI";
const access = { public: "relying parties have no credential, and revocation must be known to everybody" };
const served = (): Promise<never> => Promise.reject(new Error("public PKI paths are served by worker/public-pki.ts"));

const crl: RouteAnswer = { description: "The CRL, DER", type: "application/pkix-crl", schema: binary };
const ocsp: RouteAnswer = {
  description: "An OCSPResponse, DER; also for protocol errors",
  type: "application/ocsp-response",
  schema: binary,
};
const notModified: RouteAnswer = { description: "If-None-Match names the present one" };
const listNotModified: RouteAnswer = {
  description: "If-None-Match names the present one, or it was published before If-Modified-Since",
};

export const publicRoutes: Route[] = [
  route({
    operationId: "getDERCRL",
    method: "get",
    path: "/.well-known/pki/crl/{issuer_id}",
    access,
    tag,
    summary: "The complete CRL of a CA",
    description:
      "`issuer_id` is the id of an issuer for its own CA, or the id of an intermediate (`ica-...`). RFC 5280 section 5.",
    params: z.object({ issuer_id: z.string() }),
    answers: { 200: crl, 304: listNotModified },
    errors: [400, 404, 501, 503],
    handler: served,
  }),
  route({
    operationId: "getDERCRLShard",
    method: "get",
    path: "/.well-known/pki/crl/{issuer_id}/{shard}",
    access,
    tag,
    summary: "One shard of a CA's CRL, as the distribution point of its certificates names it",
    params: z.object({ issuer_id: z.string(), shard: z.string() }),
    answers: { 200: crl, 304: listNotModified },
    errors: [400, 404, 503],
    handler: served,
  }),
  route({
    operationId: "getCACertificate",
    method: "get",
    path: "/.well-known/pki/ca/{ca_id}",
    access,
    tag,
    summary: "The certificate of a CA, DER (the caIssuers URL of what it signed)",
    params: z.object({ ca_id: z.string() }),
    answers: {
      200: { description: "The certificate, DER", type: "application/pkix-cert", schema: binary },
      304: notModified,
    },
    handler: served,
  }),
  route({
    operationId: "handleOCSP",
    method: "get",
    path: "/.well-known/pki/ocsp/{issuer_id}/{serial}",
    access,
    tag,
    summary: "OCSP by GET",
    description:
      "`serial` is a serial number in hex, or the base64 form of an OCSPRequest (RFC 6960 appendix A.1, RFC 9919).",
    params: z.object({ issuer_id: z.string(), serial: z.string() }),
    answers: { 200: ocsp, 304: notModified },
    errors: [400, 404, 501],
    handler: served,
  }),
  route({
    operationId: "handleOCSPPost",
    method: "post",
    path: "/.well-known/pki/ocsp/{issuer_id}",
    access,
    tag,
    summary: "OCSP by POST",
    params: z.object({ issuer_id: z.string() }),
    bodyType: "application/ocsp-request",
    body: binary,
    bodyLimit: 10_240,
    answers: { 200: ocsp },
    errors: [400, 404, 413, 415, 501],
    handler: served,
  }),
];
