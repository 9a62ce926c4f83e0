import { beforeAll, describe, expect, it } from "vitest";
import type { Client } from "../support/api.ts";
import { type Fleet, makeFleet } from "../support/fleet.ts";

/** What requests may say, and what they are told where it is not understood. */

let fleet: Fleet;
let api: Client;

beforeAll(async () => {
  fleet = await makeFleet();
  api = fleet.admin;
});

const certificates = "/api/v1/certificates";

describe("a query", () => {
  it.each([
    [
      `${certificates}?stauts=Active`,
      "unknown_parameter",
      '"stauts" is not a parameter of this request (did you mean status?)',
    ],
    ["/api/v1/teams?name=x", "unknown_parameter", "it takes page, per_page, cursor"],
    ["/api/v1/auth/me?verbose=1", "unknown_parameter", "which takes none"],
    [`${certificates}?per_page=501`, "invalid_request", "per_page: must be from 1 to 500"],
    [`${certificates}?page=0`, "invalid_request", "page: must be from 1 to 1000000"],
    [`${certificates}?per_page=1e2`, "invalid_request", "per_page: must be a whole number in decimal digits"],
  ])("%s is a 400 that says what would be right", async (path, error, message) => {
    const answer = await api.get(path);
    expect(answer).toMatchObject({ status: 400, body: { error } });
    expect(answer.body.message).toContain(message);
  });

  it("of a public route may have what others add", async () => {
    expect((await api.get("/health?probe=1")).status).toBe(200);
  });
});

describe("a body", () => {
  it("may bring back what an answer shows and nobody can set: it has no effect", async () => {
    const record = { ...fleet.record, name: "brought back", common_name: "back.example.com" };
    const made = await api.create<Record<string, unknown>>(certificates, {
      ...record,
      serial_number: "4a",
      status: "Revoked",
      expires_at: "2001-01-01T00:00:00Z",
      created_at: "2001-01-01T00:00:00Z",
    });
    expect(made).toMatchObject({ status: "Pending", expires_at: null });
    expect(made).not.toHaveProperty("serial_number");
    expect(made.created_at).not.toContain("2001");
    const role = await api.create<Record<string, unknown>>("/api/v1/auth/roles", { name: "Reader" });
    const again = await api.put(`/api/v1/auth/roles/${role.id}`, role);
    expect(again.status, JSON.stringify(again.body)).toBe(200);
  });

  it("says the bounds of a field", async () => {
    const long = await api.post("/api/v1/teams", { name: "x".repeat(256) });
    expect(long.body.message).toBe("name: must have from 1 to 255 characters");
  });

  it("names one thing by names that differ only by normalisation", async () => {
    expect((await api.post("/api/v1/teams", { name: "Zu\u0308rich" })).body.name).toBe("Z\u00fcrich");
    expect((await api.post("/api/v1/teams", { name: "Z\u00fcrich" })).status).toBe(409);
  });

  it("may have a DNS name in any normalisation", async () => {
    const sans = ["bu\u0308cher.example", "b\u00fccher.example"];
    const made = await api.create<{ sans: string[] }>(certificates, {
      ...fleet.record,
      name: "normal",
      common_name: "normal.example.com",
      sans,
    });
    expect(made.sans).toEqual(["xn--bcher-kva.example"]);
  });

  it("may have a revocation reason in snake case", async () => {
    const record = await api.create(certificates, { ...fleet.record, name: "snake", common_name: "snake.example.com" });
    const answer = await api.post(`${certificates}/${record.id}/revoke`, { reason: "key_compromise" });
    expect(answer).toMatchObject({ status: 404, body: { error: "not_issued" } });
    expect((await api.post(`${certificates}/${record.id}/revoke`, { reason: "key_compromised" })).status).toBe(400);
  });
});

describe("pages by cursor", () => {
  type Page = { data: { id: string; name: string }[]; total: number; next_cursor: string | null };
  const all = async (query: string, between: () => Promise<unknown>) => {
    const names: string[] = [];
    for (let cursor: string | null = ""; cursor !== null; ) {
      const { body }: { body: Page } = await api.get<Page>(
        `${certificates}?${query}&per_page=2${cursor && `&cursor=${cursor}`}`,
      );
      names.push(...body.data.map((row) => row.name));
      cursor = body.next_cursor;
      await between();
    }
    return names;
  };

  it.each(["sort=-createdAt", "sort=name", "sort=-name", "sort=expiresAt", "sort=-expiresAt"])(
    "%s: neither repeat nor skip while rows come and go",
    async (sort) => {
      const environment = `pages-${sort.replace("=-", "-by-").replace("=", "-")}`;
      const make = (name: string) =>
        api.create(certificates, {
          ...fleet.record,
          environment,
          name: `${environment} ${name}`,
          common_name: "p.example.com",
        });
      const before = [];
      for (let i = 0; i < 7; i++) before.push((await make(`m${i}`)).name);
      let n = 0;
      const names = await all(`environment=${environment}&${sort}`, () => make(n % 2 === 0 ? `a${n++}` : `z${n++}`));
      expect(new Set(names).size).toBe(names.length);
      expect(names).toEqual(expect.arrayContaining(before));
    },
  );

  it("are refused in another order, and when they are none", async () => {
    const { body } = await api.get<Page>(`${certificates}?per_page=1&sort=name`);
    for (const query of [`sort=-name&cursor=${body.next_cursor}`, "cursor=abc", "cursor=W10"]) {
      expect(await api.get(`${certificates}?${query}`)).toMatchObject({ status: 400 });
    }
  });

  it("are there for the actors that have keys, and for the CAs of the CRL cache, by number", async () => {
    for (const name of ["one", "two"]) await api.create("/api/v1/auth/keys", { name, roles: [] });
    const keys = await api.get<{ keys: { actor_id: string }[]; total: number }>("/api/v1/auth/keys");
    expect(keys.body).toMatchObject({ page: 1, per_page: 500, total: keys.body.keys.length });
    const second = await api.get<{ keys: { actor_id: string }[] }>("/api/v1/auth/keys?per_page=1&page=2");
    expect(second.body.keys.map((row) => row.actor_id)).toEqual([keys.body.keys[1]?.actor_id]);
    await api.create("/api/v1/issuers", { name: "Another", type: "GenericCA", config: { ca_common_name: "Another" } });
    const cache = "/api/v1/admin/crl/cache";
    expect((await api.get(cache)).body).toMatchObject({ row_count: 2, total: 2 });
    expect((await api.get(`${cache}?per_page=1`)).body).toMatchObject({ row_count: 1, total: 2, per_page: 1 });
    const one = await api.get<{ cache_rows: { issuer_id: string }[] }>(`${cache}?issuer_id=iss-another`);
    expect(one.body.cache_rows.map((row) => row.issuer_id)).toEqual(["iss-another"]);
  });
});
