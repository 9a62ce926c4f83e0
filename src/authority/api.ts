import { z } from "@hono/zod-openapi";
import { certificateScope } from "../inventory/certificates/scope.ts";
import { ok, type Route, route } from "../platform/route.ts";
import { revocationReason } from "./config.ts";
import { issuerRoutes } from "./issuers/api.ts";
import { cacheRoute } from "./local/crl-cache-api.ts";
import { intermediateRoutes } from "./local/intermediates-api.ts";
import { pastRoutes } from "./local/past-api.ts";
import { releaseHold, revokeCertificate } from "./revocation.ts";

const params = z.object({ id: z.string() });
const status = z.object({ status: z.string() });

const revocationRoutes: Route[] = [
  route({
    operationId: "revokeCertificate",
    method: "post",
    path: "/api/v1/certificates/{id}/revoke",
    whenFull: "served",
    access: "cert.revoke",
    scope: certificateScope,
    tag: "Certificates",
    summary: "Revoke every still valid version of a certificate",
    description:
      "The next OCSP answer says so; the list follows within seconds. With the same or no reason again nothing changes.",
    params,
    body: z.strictObject({ reason: revocationReason.nullish() }),
    bodyOptional: true,
    answers: { 200: { description: "Revoked", schema: status } },
    errors: [503],
    handler: async (ctx, input) => {
      await revokeCertificate(ctx, input.params.id, input.body.reason ?? null);
      return ok({ status: "revoked" });
    },
  }),
  route({
    operationId: "releaseCertificateHold",
    method: "post",
    path: "/api/v1/certificates/{id}/release-hold",
    access: "cert.revoke",
    scope: certificateScope,
    tag: "Certificates",
    summary: "Lift certificateHold; any other revocation is final",
    description: "Also needs `issuer.edit` on the certificate's issuer, and on every other that has issued for it.",
    params,
    answers: { 200: { description: "Released", schema: status } },
    errors: [409],
    handler: async (ctx, input) => {
      await releaseHold(ctx, input.params.id);
      return ok({ status: "released" });
    },
  }),
];

export const authorityRoutes: Route[] = [
  ...issuerRoutes,
  ...intermediateRoutes,
  ...pastRoutes,
  ...revocationRoutes,
  cacheRoute,
];
