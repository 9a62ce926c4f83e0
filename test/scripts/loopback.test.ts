import { afterEach, beforeEach, expect, test } from "vitest";
import { type Loopback, startLoopback } from "../../scripts/local/loopback.ts";
import type { OutboundRequest } from "../../scripts/local/outbound.ts";

const SECRET = "5".repeat(64);

let loopback: Loopback;
let full = false;
let asked: { url: string; method: string; header: string | undefined; body: string }[] = [];

beforeEach(async () => {
  asked = [];
  full = false;
  const outbound = async (request: OutboundRequest) => {
    // The real one reads them more than once.
    expect([...request.headers]).toEqual([...request.headers]);
    const headers = new Map([...request.headers].map(([name, value]) => [name.toLowerCase(), value]));
    const body = request.body === null ? "" : await new Response(request.body as ReadableStream).text();
    asked.push({ url: request.url, method: request.method, header: headers.get("x-own"), body });
    const answered: [string, string][] = [
      ["set-cookie", "a=1"],
      ["set-cookie", "b=2"],
    ];
    return { status: 201, headers: answered, body: "made" };
  };
  loopback = await startLoopback(SECRET, { outbound, isStorageFull: () => full });
});

afterEach(() => loopback.stop());

const call = (headers: Record<string, string>, init: RequestInit = {}) =>
  fetch(`http://${loopback.address}/`, { ...init, headers: { "MF-Loopback-Secret": SECRET, ...headers } });

test("without the secret of the configuration nobody is answered", async () => {
  const headers = { "MF-Custom-Fetch-Service": "0/$outbound", "MF-Original-URL": "http://example.com/" };
  expect((await call({ ...headers, "MF-Loopback-Secret": "6".repeat(64) })).status).toBe(403);
  expect((await fetch(`http://${loopback.address}/`, { headers })).status).toBe(403);
  expect(asked).toEqual([]);
});

test("what the Worker fetches goes out with its URL, method, headers and body, and the answer comes back whole", async () => {
  const service = { "MF-Custom-Fetch-Service": "0/$outbound", "X-Own": "yes" };
  const url = "https://example.com/a?b=c";
  const response = await call({ ...service, "MF-Original-URL": url }, { method: "POST", body: "sent" });
  expect([response.status, response.headers.getSetCookie(), await response.text()]).toEqual([
    201,
    ["a=1", "b=2"],
    "made",
  ]);
  await call({ ...service, "MF-Original-URL": url });
  expect(asked).toEqual([
    { url, method: "POST", header: "yes", body: "sent" },
    { url, method: "GET", header: "yes", body: "" },
  ]);
});

test("the binding STORAGE hears whether the disk is full; what is unknown is not found", async () => {
  const storage = async () => await (await call({ "MF-Custom-Fetch-Service": "0/#STORAGE" })).text();
  expect(await storage()).toBe("ok");
  full = true;
  expect(await storage()).toBe("full");
  expect((await call({ "MF-Custom-Fetch-Service": "0/#OTHER" })).status).toBe(404);
  expect((await call({})).status).toBe(404);
});
