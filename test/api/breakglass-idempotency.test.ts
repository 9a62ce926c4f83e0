import { env } from "cloudflare:workers";
import { createHash } from "node:crypto";
import { beforeAll, describe, expect, it } from "vitest";
import { administrator, auditCount, Client } from "../support/api.ts";
import { newUser } from "../support/browser.ts";

const path = "/api/v1/auth/breakglass/credentials";
const PASSWORD = "correct horse battery";
let admin: Client;

beforeAll(async () => {
  admin = await administrator();
});

describe("a break-glass password", () => {
  it("is set once for one Idempotency-Key, which keeps nothing to guess it by", async () => {
    const { id } = await newUser();
    const key = { "Idempotency-Key": "password-once" };
    const body = { actor_id: id, password: PASSWORD };
    const first = await admin.post(path, body, key);
    expect(first.status).toBe(201);
    expect((await new Client(null).post("/auth/breakglass/login", body)).status).toBe(204);
    const again = await admin.post(path, body, key);
    expect([again.status, again.body]).toEqual([201, first.body]);
    expect(again.headers.get("Idempotency-Replayed")).toBe("true");
    expect(await auditCount("auth.breakglass.password_set", id)).toBe(1);
    // Another password, or another user, is another request.
    for (const other of [{ password: `${PASSWORD} 2` }, { actor_id: (await newUser()).id }]) {
      const refused = await admin.post(path, { ...body, ...other }, key);
      expect([refused.status, refused.body.error]).toEqual([409, "idempotency_key_reused"]);
    }
    const change = { actor_id: id, password: `${PASSWORD} 3` };
    const changed = await admin.post(path, change, { "Idempotency-Key": "password-twice" });
    expect([changed.status, changed.body.id]).toEqual([200, first.body.id]);
    expect((await admin.post(path, change, { "Idempotency-Key": "password-twice" })).body).toEqual(changed.body);

    const { results } = await env.DB.prepare("select * from idempotency_keys where key like 'password-%'").all<{
      digest: string;
    }>();
    expect(results).toHaveLength(2);
    const asked = `setBreakglassPassword\n${path}\n${JSON.stringify(body)}`;
    const guesses = [PASSWORD, JSON.stringify(body), asked];
    const kept = JSON.stringify(results);
    for (const guess of guesses) {
      const hash = createHash("sha256").update(guess).digest();
      for (const one of [guess, hash.toString("hex"), hash.toString("base64url")]) expect(kept).not.toContain(one);
    }
  });

  it("of requests that race is set by each, by those of one Idempotency-Key once", async () => {
    const { id } = await newUser();
    const set = (n: number, headers = {}) => admin.post(path, { actor_id: id, password: `${PASSWORD} ${n}` }, headers);
    const different = await Promise.all([1, 2].map((n) => set(n)));
    expect(different.map(({ status }) => status).sort()).toEqual([200, 201]);
    expect(new Set(different.map(({ body }) => body.id)).size).toBe(1);
    const other = (await newUser()).id;
    const same = await Promise.all(
      [1, 2].map(() => admin.post(path, { actor_id: other, password: PASSWORD }, { "Idempotency-Key": "racing" })),
    );
    expect(same.map(({ status }) => status)).toEqual([201, 201]);
    expect(same[1]?.body).toEqual(same[0]?.body);
    expect(await auditCount("auth.breakglass.password_set", other)).toBe(1);
  });
});
