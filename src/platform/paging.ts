import { z } from "@hono/zod-openapi";

/** A whole number of a query, `standard` where absent: in decimal digits, or parsed before; `0x10`, `1e2` and ` 5` are none. */
export function wholeNumber(min: number, max: number, standard: number) {
  const digits = (value: unknown) => (typeof value === "string" && /^[0-9]{1,9}$/.test(value) ? Number(value) : value);
  return z
    .preprocess(digits, z.number("must be a whole number in decimal digits").int().min(min).max(max))
    .default(standard)
    .openapi({ type: "integer", minimum: min, maximum: max, default: standard });
}

/** `page` from 1, `per_page` 1 to 500; outside that a 400 (wire.md "Everywhere"). */
export const pageQuery = z.object({
  page: wholeNumber(1, 1_000_000, 1),
  per_page: wholeNumber(1, 500, 50),
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
