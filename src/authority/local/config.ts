import { z } from "@hono/zod-openapi";
import { KEY_ALGORITHMS } from "../../pki/keys.ts";
import { revocationReason } from "../config.ts";

export const keyAlgorithm = z.enum(KEY_ALGORITHMS as [(typeof KEY_ALGORITHMS)[number], ...typeof KEY_ALGORITHMS]);

const attribute = z.string().trim().min(1).max(64);
const pem = z.string().min(1).max(262_144);

/** The subject of a CA (wire.md "Issuers and intermediates"). */
export const caSubject = z.strictObject({
  common_name: attribute,
  organization: attribute.optional(),
  organizational_unit: attribute.optional(),
  country: z
    .string()
    .regex(/^[A-Z]{2}$/, "must be two capital letters (ISO 3166)")
    .optional(),
});

export const serialNumber = z
  .string()
  .regex(/^(?:[0-9a-fA-F]{1,48}|[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){0,23})$/, "must be a serial number in hex");
const time = z.iso.datetime({ offset: true });

/** The serial may be in either field. */
const anyEntry = {
  serial: serialNumber.optional(),
  serial_number: serialNumber.optional(),
  not_before: time.nullish(),
  not_after: time.nullish(),
};

/** A certificate that a CA issued before its import. */
export const issuedBefore = z
  .strictObject({
    ...anyEntry,
    names: z.array(z.string().max(512)).max(1_000).nullish(),
    subject: z.string().max(2_048).nullish(),
  })
  .openapi("IssuedBefore");

/** A revocation by a CA before its import. */
export const revokedBefore = z
  .strictObject({ ...anyEntry, revoked_at: time, reason: revocationReason.default("unspecified") })
  .openapi("RevokedBefore");

/** Limit of a list inside a JSON body; longer lists use the streamed operations. */
const MAX_LISTED = 20_000;
const MAX_CRL_TEXT = 8 * 1024 * 1024;

/** How a GenericCA's own CA is created; fixed from then on. */
export const originShape = {
  ca_common_name: attribute.optional(),
  organization: attribute.optional(),
  organizational_unit: attribute.optional(),
  country: caSubject.shape.country,
  key_algorithm: keyAlgorithm.optional().openapi({ description: "ECDSA-P256 unless told" }),
  rsa_pss: z.boolean().optional().openapi({ description: "RSA keys: sign with RSASSA-PSS instead of PKCS#1 v1.5" }),
  ca_validity_days: z.number().int().min(1).max(36_525).optional().openapi({ description: "Ten years unless told" }),
  path_len_constraint: z.number().int().min(0).max(10).nullish(),
  subordinate: z.boolean().optional().openapi({
    description:
      "The key is made inside and `ca_csr_pem` answers its request; the certificate comes in as `ca_cert_pem` by PUT",
  }),
  crl_number_floor: z
    .union([z.number().min(0).refine(Number.isInteger), z.string().regex(/^[0-9]{1,49}$/)], {
      error: "must be a whole number of at most 20 octets, or its decimal digits as text",
    })
    .optional()
    .openapi({
      type: ["integer", "string"],
      description:
        "Every CRL number is above this one: the last of the old CA. As text it is exact at any size; a JSON number above 2^53 is rounded up",
    }),
  issued: z.array(issuedBefore).max(MAX_LISTED).optional().openapi({
    description: "What a CA that is brought in has issued so far; more by `POST /api/v1/issuers/{id}/issued`",
  }),
  revocations: z.array(revokedBefore).max(MAX_LISTED).optional().openapi({
    description: "What it has revoked so far; more by `POST /api/v1/issuers/{id}/revocations`",
  }),
  crl: z.string().min(1).max(MAX_CRL_TEXT).optional().openapi({
    description: "Its last CRL, PEM or DER in base64: its entries count as revocations, its number as crl_number_floor",
  }),
};

/** Fields that may change later. */
export const changeableShape = {
  validity_days: z.number().int().min(1).max(36_525).optional().openapi({ description: "Of leaves; 90 unless told" }),
  crl_shards: z.number().int().min(1).max(128).optional().openapi({
    description: "Lists over which later certificates of each of its CAs are spread; 1 unless told",
  }),
  issuing_ca_id: z.string().max(64).nullish().openapi({ description: "The CA that signs leaves; its own unless told" }),
};

/** PEM of the CA: its chain (issuing CA first, root last) and, write-only, its key. */
const materialShape = {
  ca_cert_pem: pem.optional(),
  ca_key_pem: pem.optional().openapi({ writeOnly: true, description: "PKCS#8; answers as ********" }),
};

export const genericCaConfig = z.strictObject({
  ...originShape,
  ...changeableShape,
  ...materialShape,
  ca_csr_pem: z.string().nullish().openapi({ readOnly: true }),
});

export type GenericCaConfig = z.output<typeof genericCaConfig>;

/** Secret fields of this configuration: shown as `********`; sending `********` keeps them. */
export const SECRET_FIELDS: readonly (keyof GenericCaConfig)[] = ["ca_key_pem"];

/** In a change every field may be absent or null. */
export const changedGenericCaConfig = z.strictObject(
  Object.fromEntries(
    Object.entries(genericCaConfig.shape).map(([name, schema]) => [name, (schema as z.ZodType).nullish()]),
  ),
);
