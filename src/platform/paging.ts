import { z } from "@hono/zod-openapi";

/** `page` from 1, `per_page` 1 to 500; outside that a 400 (wire.md "Everywhere"). */
export const pageQuery = z.object({
  page: z.coerce.number().int().min(1).max(1_000_000).default(1),
  per_page: z.coerce.number().int().min(1).max(500).default(50),
});

export interface PageRequest {
  readonly page: number;
  readonly per_page: number;
}

/** The OpenAPI shape of a page of `item`. */
export function pageOf<T extends z.ZodType>(item: T) {
  return z.object({
    data: z.array(item),
    total: z.number().int().openapi({ format: "int64" }),
    page: z.number().int(),
    per_page: z.number().int(),
  });
}
