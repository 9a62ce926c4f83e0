import { z } from "@hono/zod-openapi";
import { normalSerial } from "../../pki/serials.ts";
import { mustHold } from "../../platform/access.ts";
import { invalid } from "../../platform/errors.ts";
import { type Input, ok, type Route, route } from "../../platform/route.ts";
import { revocationReason } from "../config.ts";
import { issuerScope } from "../issuers/issuers.ts";
import { issuedBefore, revokedBefore, serialNumber } from "./config.ts";
import { importLines } from "./import-lines.ts";
import type { PastKind } from "./imported.ts";
import { caOfSerial } from "./intermediates.ts";
import { revokeSerial } from "./revoke-serial.ts";

const dateTime = z.string().openapi({ format: "date-time" });
const tag = "Issuers";
const params = z.object({ id: z.string() });
const ca_id = z.string().max(64);

const report = z
  .object({
    lines: z.number().int(),
    added: z.number().int().openapi({ description: "Serials that were not known" }),
    revoked: z.number().int().openapi({ description: "Known serials whose revocation is new" }),
    known: z.number().int().openapi({ description: "Lines that changed nothing" }),
    failed: z.number().int(),
    errors: z
      .array(z.object({ line: z.number().int(), message: z.string() }))
      .openapi({ description: "The first of those that failed" }),
  })
  .openapi("ImportReport");

const importing = (kind: PastKind, line: z.ZodType, what: string) =>
  route({
    operationId: kind === "issued" ? "importIssued" : "importRevocations",
    method: "post",
    path: `/api/v1/issuers/{id}/${kind}`,
    access: "issuer.edit",
    scope: issuerScope,
    tag,
    summary: `Take over what a CA has ${what} elsewhere`,
    description: [
      "One JSON object a line, any number of lines, taken in batches while they arrive.",
      "A line that is wrong is counted and told, the others are taken; what is known already changes nothing, so the same lines may be sent again.",
      ...(kind === "revocations" ? ["Also needs `cert.revoke` on the issuer."] : []),
    ].join(" "),
    params,
    query: z.object({ ca_id: ca_id.optional().openapi({ description: "The issuer's own CA unless told" }) }),
    streams: { type: "application/x-ndjson", line },
    answers: { 200: { description: "What came of the lines", schema: report } },
    errors: [409, 503],
    handler: async (ctx, input) => ok(await importLines(ctx, input.params.id, asked(kind, input))),
  });

function asked(kind: PastKind, input: Input<unknown, { ca_id?: string | undefined }, unknown>) {
  const { request, query, stillAllowed } = input;
  if (!request.body) throw invalid("body", "a line of JSON is required", "missing_body");
  return { kind, ca_id: query.ca_id ?? null, stream: request.body, stillAllowed };
}

const revokeRoute = route({
  operationId: "revokeSerial",
  method: "post",
  path: "/api/v1/issuers/{id}/revoke-serial",
  whenFull: "served",
  access: "cert.revoke",
  scope: issuerScope,
  tag,
  summary: "Revoke by serial number, also what no certificate record knows",
  description:
    "Also needs `issuer.edit` on the issuer. Without `ca_id` it is the issuer's CA whose tag the serial carries, else the issuer's own. A serial that this CA cannot have issued is a 404; a CA that was brought in may have issued any.",
  params,
  body: z.strictObject({ ca_id: ca_id.nullish(), serial_number: serialNumber, reason: revocationReason.nullish() }),
  answers: {
    200: {
      description: "Revoked",
      schema: z.object({
        status: z.string(),
        ca_id: z.string(),
        serial_number: z.string(),
        revoked_at: dateTime.nullable(),
        reason: revocationReason.nullable(),
        not_after: dateTime,
        certificate_id: z.string().nullable(),
        names: z.array(z.string()),
        subject: z.string().nullable(),
      }),
    },
  },
  errors: [409, 503],
  handler: async (ctx, { params: { id }, body }) => {
    mustHold(ctx.actor, "issuer.edit", { issuer_id: id });
    const serial_number = normalSerial(body.serial_number);
    if (serial_number === null) throw invalid("serial_number", "has more than 20 octets");
    const ca = await caOfSerial(ctx, id, body.ca_id ?? null, serial_number);
    const { entry, names, subject } = await revokeSerial(ctx, ca, serial_number, body.reason ?? null);
    const { revoked_at, reason, not_after } = entry;
    const certificate_id = entry.certificate_id === "" ? null : entry.certificate_id;
    const about = { ca_id: ca.ca_id, serial_number, revoked_at, reason, not_after, certificate_id, names, subject };
    return ok({ status: "revoked", ...about });
  },
});

export const pastRoutes: Route[] = [
  importing("issued", issuedBefore, "issued"),
  importing("revocations", revokedBefore, "revoked"),
  revokeRoute,
];
