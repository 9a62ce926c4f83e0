import { z } from "@hono/zod-openapi";

/** Range errors get their text from `rangeText`. */
const notWhole = ({ code }: { code?: string | undefined }) =>
  code === "too_big" || code === "too_small" ? undefined : "must be a whole number in decimal digits";

/**
 * A whole number in a query, default `standard`: decimal digits, or an already parsed number. Rejects `0x10`, `1e2` and
 * ` 5`.
 */
export function wholeNumber(min: number, max: number, standard: number) {
  const digits = (value: unknown) => (typeof value === "string" && /^[0-9]{1,9}$/.test(value) ? Number(value) : value);
  return z
    .preprocess(digits, z.number({ error: notWhole }).int().min(min).max(max))
    .default(standard)
    .openapi({ type: "integer", minimum: min, maximum: max, default: standard });
}

/**
 * `page` from 1, `per_page` 1 to 500; otherwise 400 (wire.md "Everywhere"). Numbered pages shift when rows are added or
 * removed; pages by `cursor` do not.
 */
export const pageQuery = z.object({
  page: wholeNumber(1, 1_000_000, 1),
  per_page: wholeNumber(1, 500, 50),
  cursor: z.string().min(1).max(4096).optional().openapi({
    description: "The `next_cursor` of the page before, in its order and with its filters; `page` says nothing then",
  }),
});

/** For lists without pages in the contract: defaults to the largest page. */
export const numberedQuery = z.object({ page: wholeNumber(1, 1_000_000, 1), per_page: wholeNumber(1, 500, 500) });

/** Fields of such a list's answer besides its rows. */
export const numberedShape = {
  total: z.number().int().openapi({ format: "int64" }),
  page: z.number().int(),
  per_page: z.number().int(),
};

export interface PageRequest {
  readonly page: number;
  readonly per_page: number;
  readonly cursor?: string | undefined;
}

/** One page of a list. `total` counts all rows that match the filters. */
export interface Page<T> {
  readonly data: readonly T[];
  readonly total: number;
  /** Cursor of the next page; null at the end. */
  readonly next_cursor: string | null;
}

/** The answer for a page; `show` maps a row to its public form. */
export function pageAnswer<T, S>({ page, per_page }: PageRequest, found: Page<T>, show: (row: T) => S) {
  return { data: found.data.map(show), total: found.total, page, per_page, next_cursor: found.next_cursor };
}

/** For rows shown unchanged. */
export const asIs = <T>(row: T): T => row;

/** The OpenAPI shape of a page of `item`. */
export function pageOf<T extends z.ZodType>(item: T) {
  return z.object({
    data: z.array(item),
    ...numberedShape,
    next_cursor: z.string().nullable(),
  });
}
