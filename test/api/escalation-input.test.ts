import { exports } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { administrator } from "../support/api.ts";
import { MATRIX, type MatrixRow } from "../support/matrix.ts";

/** What an administrator, or a program of theirs that is fed by somebody else, may send in the place of ids and bodies. */

let key = "";

beforeAll(async () => {
  key = String((await administrator()).key);
});

const IDS = [
  "%00",
  "%ff%fe",
  "%F0%9F%94%91",
  "%2e%2e%2f%2e%2e",
  "..%5c",
  "a'--",
  "%22%3B%20drop%20table%20users%3B",
  "__proto__",
  "constructor",
  "%20",
  "-1",
  "null",
  "*",
  "%25",
  "x".repeat(3000),
  "ses-00000000000000000000000000000000-00000000000000000000000000",
  "ak-",
];

const BODIES = [
  "null",
  "[]",
  '"text"',
  "1e999",
  '{"__proto__":{"admin":true}}',
  '{"constructor":{}}',
  '{"id":{},"name":[],"role_id":1,"config":"x","roles":{},"actor_id":null,"csr_pem":{},"permission":[]}',
  '{"name":"\\u0000","id":"\\ud800"}',
  `{"name":"${"x".repeat(70_000)}"}`,
  "{",
  "",
];

async function statusOf(row: MatrixRow, id: string, body?: string, type = "application/json"): Promise<number> {
  const path = row.path.replaceAll(/\{[a-z_]+\}/g, id);
  const init: RequestInit = { method: row.method, headers: { Authorization: `Bearer ${key}` }, redirect: "manual" };
  if (row.method !== "GET") {
    init.headers = { Authorization: `Bearer ${key}`, "Content-Type": type };
    init.body = body ?? "{}";
  }
  const response = await exports.default.fetch(new Request(`http://localhost${path}`, init));
  await response.arrayBuffer();
  return response.status;
}

const answered = (status: number) => status >= 200 && status < 500;

describe("inv 10: bad input never gives a 500", () => {
  const withId = MATRIX.filter(({ path }) => path.includes("{"));
  it.each(withId.map((row) => [`${row.method} ${row.path}`, row] as const))("ids: %s", async (_, row) => {
    const statuses = await Promise.all(IDS.map(async (id) => [id.slice(0, 40), await statusOf(row, id)] as const));
    expect(statuses.filter(([, status]) => !answered(status))).toEqual([]);
  });

  const withBody = MATRIX.filter(({ method }) => method === "POST" || method === "PUT");
  it.each(withBody.map((row) => [`${row.method} ${row.path}`, row] as const))("bodies: %s", async (_, row) => {
    const sent = BODIES.map(async (body) => [body.slice(0, 40), await statusOf(row, "absent-0", body)] as const);
    const typed = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "x"].map(
      async (type) => [type, await statusOf(row, "absent-0", "a=1&b=2", type)] as const,
    );
    const statuses = await Promise.all([...sent, ...typed]);
    expect(statuses.filter(([, status]) => !answered(status))).toEqual([]);
  });

  it("query parameters: twice, empty, out of range, of other fields", async () => {
    const queries = [
      "page=0&per_page=501",
      "page=1&page=2",
      "page=&per_page=",
      "page=1e9&per_page=1",
      "page=9007199254740993",
      "%00=%00",
      "actor_id=%00&actor_type=Nobody",
      "provider_id=%ff",
      "sort=__proto__&sort_desc=x",
      "status=%27&type=%22",
      "scope_type=global&scope_id=x",
      "force=maybe&reason=%00",
    ];
    const asked = MATRIX.filter(({ method }) => method !== "PUT").flatMap((row) =>
      queries.map(async (query) => {
        const status = await statusOf({ ...row, path: `${row.path}?${query}` }, "absent-0");
        return [`${row.method} ${row.path}?${query}`, status] as const;
      }),
    );
    expect((await Promise.all(asked)).filter(([, status]) => !answered(status))).toEqual([]);
  });
});
