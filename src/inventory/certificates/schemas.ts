import { z } from "@hono/zod-openapi";

const time = z.string().openapi({ format: "date-time" });

/** One issued certificate in the API's form. */
export const versionAnswer = z
  .object({
    id: z.string(),
    certificate_id: z.string(),
    issuer_id: z.string(),
    ca_id: z.string(),
    serial_number: z.string(),
    not_before: time,
    not_after: time,
    fingerprint_sha256: z.string(),
    pem_chain: z.string(),
    csr_pem: z.string().nullable(),
    key_algorithm: z.string(),
    key_size: z.number().int(),
    agent_id: z.string().nullable(),
    job_id: z.string().nullable(),
    current: z.boolean(),
    revoked_at: time.nullable(),
    revocation_reason: z.string().nullable(),
    created_at: time,
  })
  .openapi("CertificateVersion");
