import { z } from "@hono/zod-openapi";
import { describe, expect, test } from "vitest";
import { pageQuery } from "../../src/platform/paging.ts";
import { unknownParameter } from "../../src/platform/query.ts";
import { rangeText } from "../../src/platform/ranges.ts";

describe("a parameter that nobody knows", () => {
  const known = ["page", "per_page", "status", "expires_before"];

  test.each([
    ["stauts", "status"],
    ["perPage", "per_page"],
    ["per-page", "per_page"],
    ["expiresBefore", "expires_before"],
    ["STATUS", "status"],
  ])("%s: the nearest known one is %s", (asked, nearest) => {
    expect(unknownParameter(["page", asked], known)).toBe(
      `"${asked}" is not a parameter of this request (did you mean ${nearest}?); it takes page, per_page, status, expires_before`,
    );
  });

  test("nothing near is guessed, and what is known is none", () => {
    expect(unknownParameter(["colour"], known)).not.toContain("did you mean");
    expect(unknownParameter(["x"], [])).toBe('"x" is not a parameter of this request, which takes none');
    expect(unknownParameter(["page", "status"], known)).toBeNull();
  });
});

describe("a bound that is broken", () => {
  const schema = z.object({
    ...pageQuery.shape,
    name: z.string().trim().min(1).max(4).optional(),
    list: z.array(z.string().max(3)).max(2).nullish(),
    tags: z.record(z.string(), z.string().max(3)).optional(),
    count: z.number().int().positive().optional(),
    code: z.string().length(6).optional(),
    own: z.number().max(3, "three is enough").optional(),
  });

  test.each([
    [{ per_page: "501" }, "must be from 1 to 500"],
    [{ per_page: 0 }, "must be from 1 to 500"],
    [{ name: "12345" }, "must have from 1 to 4 characters"],
    [{ list: ["1", "2", "3"] }, "must have at most 2 entries"],
    [{ list: ["1234"] }, "must have at most 3 characters"],
    [{ tags: { a: "1234" } }, "must have at most 3 characters"],
    [{ count: 0 }, "must be at least 1"],
    [{ own: 4 }, null],
    [{ name: 7 }, null],
  ])("%j: %s", (value, text) => {
    const issue = schema.safeParse(value).error?.issues[0];
    expect(issue && rangeText(schema, issue)).toBe(text);
  });
});
