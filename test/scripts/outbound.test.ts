import http from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeOutbound, type OutboundOptions } from "../../scripts/local/outbound.ts";
import { parseRanges } from "../../src/platform/settings.ts";

const LOOPBACK = parseRanges("127.0.0.1");

let server: http.Server;
let port: number;
const seen: { url: string; host: string; body: string; headers: http.IncomingHttpHeaders }[] = [];

beforeAll(async () => {
  server = http.createServer(async (request, response) => {
    const body = await text(request);
    const { url = "", headers } = request;
    seen.push({ url, host: headers.host ?? "", body, headers });
    if (request.url === "/redirect") response.writeHead(302, { Location: "http://169.254.169.254/" }).end();
    else if (request.url === "/large") response.end(Buffer.alloc(100_000));
    else if (request.url === "/silent") return;
    else if (request.url === "/nothing") response.writeHead(204, { "X-Certctl-Outbound": "refused" }).end();
    else
      response
        .writeHead(201, { "Set-Cookie": ["a=1", "b=2"] })
        .end(`${request.method} ${request.headers["x-own"] ?? ""}`);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  port = (server.address() as AddressInfo).port;
});

afterAll(() => {
  server.closeAllConnections();
  server.close();
});

async function ask(url: string, options: Partial<OutboundOptions> = {}, init: RequestInit & { duplex?: "half" } = {}) {
  const answer = await makeOutbound({ allow: [], ...options })(new Request(url, init) as never);
  const body = answer.body === null || typeof answer.body === "string" ? (answer.body ?? "") : await text(answer.body);
  const header = (name: string) =>
    answer.headers.filter(([key]) => key.toLowerCase() === name).map(([, value]) => value);
  return { status: answer.status, body, header, mark: header("x-certctl-outbound")[0] ?? null };
}

const names =
  (...addresses: string[]) =>
  async () =>
    addresses.map((address) => ({ address, family: address.includes(":") ? 6 : 4 }));

describe("invariant 9: no request to a reserved address unless the operator allowed it", () => {
  test.each([
    "127.0.0.1",
    "127.1.2.3",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "168.63.129.16",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "[fe80::1]",
    "[fd00:ec2::254]",
    "[ff02::1]",
    "0x7f000001",
    "2130706433",
    "0177.0.0.1",
  ])("%s as an address", async (host) => {
    const answer = await ask(`http://${host}:${port}/`);
    expect([answer.status, answer.mark]).toEqual([403, "refused"]);
    expect(JSON.parse(answer.body)).toMatchObject({
      error: "outbound_refused",
      message: expect.stringContaining("reserved"),
    });
  });

  test.each(["127.0.0.1", "10.1.2.3", "::1", "169.254.169.254", "::ffff:10.0.0.1"])(
    "a name that resolves to %s",
    async (address) => {
      const answer = await ask(`http://innocent.example:${port}/`, { resolve: names(address) });
      expect([answer.status, answer.mark]).toEqual([403, "refused"]);
      expect(answer.body).toContain(`innocent.example resolves to ${address}`);
    },
  );

  test("a name with one good and one reserved address is refused whole", async () => {
    expect((await ask("http://mixed.example/", { resolve: names("93.184.215.14", "127.0.0.1") })).mark).toBe("refused");
  });

  test("localhost is refused by what it resolves to", async () => {
    expect((await ask(`http://localhost:${port}/`)).mark).toBe("refused");
  });

  test("the connection goes to the checked address: the name is resolved once and never again", async () => {
    let asked = 0;
    const resolve = async () => {
      asked++;
      return [{ address: asked === 1 ? "127.0.0.1" : "127.0.0.2", family: 4 }];
    };
    const answer = await ask(`http://rebinding.example:${port}/pinned`, { allow: LOOPBACK, resolve });
    expect([answer.status, asked]).toEqual([201, 1]);
    expect(seen.at(-1)).toMatchObject({ url: "/pinned", host: `rebinding.example:${port}` });
  });

  test("an allowed range is reached, and only that", async () => {
    expect((await ask(`http://127.0.0.1:${port}/`, { allow: LOOPBACK })).status).toBe(201);
    expect((await ask(`http://127.0.0.2:${port}/`, { allow: LOOPBACK })).mark).toBe("refused");
    expect((await ask(`http://[::1]:${port}/`, { allow: LOOPBACK })).mark).toBe("refused");
  });
});

describe("the exchange", () => {
  const allowed = { allow: LOOPBACK };

  test("method, headers, bodies and several cookies pass both ways", async () => {
    const init = { method: "PUT", body: "there", headers: { "X-Own": "back", "CF-Worker": "inside" } };
    const answer = await ask(`http://127.0.0.1:${port}/put?x=%2F`, allowed, init);
    expect(answer).toMatchObject({ status: 201, body: "PUT back", mark: null });
    expect(answer.header("set-cookie")).toEqual(["a=1", "b=2"]);
    expect(seen.at(-1)).toMatchObject({ url: "/put?x=%2F", body: "there" });
  });

  test("a body goes out with its length and never chunked; without a body a POST says so", async () => {
    const streamed = new ReadableStream({
      start(controller) {
        for (const part of ["grant_type=", "authorization_code"]) controller.enqueue(new TextEncoder().encode(part));
        controller.close();
      },
    });
    for (const [body, length] of [
      ["text", "4"],
      [streamed, "29"],
      ["", "0"],
      [undefined, "0"],
    ] as const) {
      const init = { method: "POST", duplex: "half" as const, ...(body === undefined ? {} : { body }) };
      expect((await ask(`http://127.0.0.1:${port}/length`, allowed, init)).status).toBe(201);
      const headers = seen.at(-1)?.headers;
      expect([headers?.["content-length"], headers?.["transfer-encoding"]]).toEqual([length, undefined]);
    }
    await ask(`http://127.0.0.1:${port}/get`, allowed);
    expect(seen.at(-1)?.headers).not.toHaveProperty("content-length");
  });

  test("a body that never ends is given up in time", async () => {
    const body = new ReadableStream({ pull: () => new Promise(() => undefined) });
    const init = { method: "POST", duplex: "half" as const, body };
    expect(await ask(`http://127.0.0.1:${port}/`, { ...allowed, timeoutMs: 300 }, init)).toMatchObject({
      status: 502,
      mark: "failed",
    });
  });

  test("a redirect is handed back, not followed; another's mark is not passed on", async () => {
    const answer = await ask(`http://127.0.0.1:${port}/redirect`, allowed);
    expect([answer.status, answer.header("location")]).toEqual([302, ["http://169.254.169.254/"]]);
    expect(await ask(`http://127.0.0.1:${port}/nothing`, allowed)).toMatchObject({ status: 204, body: "", mark: null });
  });

  test("sizes are bounded both ways", async () => {
    await expect(ask(`http://127.0.0.1:${port}/large`, { ...allowed, maxResponseBytes: 99_999 })).rejects.toThrow(
      /more than 99999/,
    );
    expect((await ask(`http://127.0.0.1:${port}/large`, { ...allowed, maxResponseBytes: 100_000 })).body).toHaveLength(
      100_000,
    );
    const init = { method: "POST", body: "x".repeat(1001) };
    expect((await ask(`http://127.0.0.1:${port}/`, { ...allowed, maxRequestBytes: 1000 }, init)).mark).toBe("failed");
  });

  test("time is bounded, and a target that does not answer is told apart from a refused one", async () => {
    const silent = await ask(`http://127.0.0.1:${port}/silent`, { ...allowed, timeoutMs: 300 });
    expect(silent).toMatchObject({ status: 502, mark: "failed" });
    expect(silent.body).toContain("no answer within 300 ms");
    const closed = await ask("http://127.0.0.1:1/", allowed);
    expect([closed.status, closed.mark]).toEqual([502, "failed"]);
  });

  test("other protocols and upgrades do not go out", async () => {
    const upgrade = { headers: [["Upgrade", "websocket"]], url: "http://127.0.0.1/", method: "GET", body: null };
    const answer = await makeOutbound(allowed)(upgrade as never);
    expect(answer.status).toBe(403);
    expect((await makeOutbound(allowed)({ ...upgrade, headers: [], url: "ftp://127.0.0.1/" } as never)).status).toBe(
      403,
    );
  });
});
