import { z } from "@hono/zod-openapi";
import { resource } from "../platform/resource.ts";
import { nameSchema } from "../platform/rows.ts";
import { renewalPolicies as table } from "./table.ts";

const threshold = z.number().int().min(0).max(365);

/** Days in descending order, each once. */
const thresholds = z
  .array(threshold)
  .max(50)
  .transform((days) => [...new Set(days)].sort((a, b) => b - a))
  .openapi({ type: "array", items: { type: "integer", minimum: 0, maximum: 365 } });

const renewalPolicyAnswer = z
  .object({
    id: z.string(),
    name: z.string(),
    renewal_window_days: z.number().int().min(1).max(365),
    auto_renew: z.boolean(),
    max_retries: z.number().int().min(0).max(10),
    retry_interval_seconds: z.number().int().min(60).max(86_400),
    alert_thresholds_days: z.array(threshold),
    certificate_profile_id: z.string().nullable(),
    created_at: z.string().openapi({ format: "date-time" }),
    updated_at: z.string().openapi({ format: "date-time" }),
  })
  .openapi("RenewalPolicy");

/** When certificates are renewed, how often a failed renewal is retried and when alerts are sent. */
export const renewalPolicies = resource({
  name: "RenewalPolicy",
  plural: "RenewalPolicies",
  permission: "policy",
  idPrefix: "rp-",
  table,
  answer: renewalPolicyAnswer,
  create: z.object({
    name: nameSchema,
    renewal_window_days: z.number().int().min(1).max(365).default(30),
    auto_renew: z.boolean().default(true),
    max_retries: z.number().int().min(0).max(10).default(3),
    retry_interval_seconds: z.number().int().min(60).max(86_400).default(3600),
    alert_thresholds_days: thresholds.default([30, 14, 7, 0]),
    certificate_profile_id: z.string().optional(),
  }),
});
