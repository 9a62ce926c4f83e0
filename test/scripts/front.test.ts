import { randomBytes } from "node:crypto";
import { once } from "node:events";
import net, { type AddressInfo } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { type Front, openFront } from "../../scripts/local/front.ts";
import { chooseSockets, type Listen } from "../../scripts/local/listen.ts";

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

const freeSockets = () => chooseSockets({ hosts: [{ address: "127.0.0.1", optional: false }], port: 0 });

/** A front before a server that does `serve` with each connection. */
async function frontOf(serve: (socket: net.Socket) => void): Promise<{ port: number; front: Front; listen: Listen[] }> {
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    socket.on("error", () => {});
    serve(socket);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  ends.push(() => server.close());
  const listen = await freeSockets();
  const front = await openFront(listen, { host: "127.0.0.1", port: (server.address() as AddressInfo).port });
  ends.push(() => front.close());
  return { port: listen[0]?.port ?? 0, front, listen };
}

function client(port: number): net.Socket {
  const socket = net.connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  socket.on("error", () => {});
  ends.push(() => socket.destroy());
  return socket;
}

async function readAll(socket: net.Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk);
  return Buffer.concat(chunks);
}

describe("the front relays", () => {
  test("every byte both ways, and what comes after the client has said its last", async () => {
    const { port } = await frontOf((socket) => socket.pipe(socket));
    const socket = client(port);
    const sent = randomBytes(5_000_000);
    socket.end(sent);
    expect((await readAll(socket)).equals(sent)).toBe(true);
  });

  test("all of a long answer to a client that reads slowly, though the server has gone", async () => {
    const answer = randomBytes(20_000_000);
    const { port } = await frontOf((socket) => socket.end(answer));
    const socket = client(port);
    const chunks: Buffer[] = [];
    for await (const chunk of socket) {
      chunks.push(chunk);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(Buffer.concat(chunks).equals(answer)).toBe(true);
  });

  test("the end of either side to the other", async () => {
    const seen: net.Socket[] = [];
    const { port } = await frontOf((socket) => {
      seen.push(socket);
      socket.resume();
    });
    const broken = client(port);
    await once(broken, "connect");
    broken.write("GET / HT");
    await expect.poll(() => seen.length).toBe(1);
    broken.resetAndDestroy();
    await expect.poll(() => seen[0]?.destroyed || seen[0]?.readableEnded).toBe(true);
    const left = client(port);
    await once(left, "connect");
    await expect.poll(() => seen.length).toBe(2);
    seen[1]?.destroy();
    expect((await readAll(left)).length).toBe(0);
  });

  test("nothing where no server is: the connection ends", async () => {
    const [listen, nobody] = [await freeSockets(), await freeSockets()];
    const front = await openFront(listen, nobody[0] ?? { host: "127.0.0.1", port: 1 });
    ends.push(() => front.close());
    expect((await readAll(client(listen[0]?.port ?? 0))).length).toBe(0);
  });

  test("no longer than it is open: then its connections end and its port is free", async () => {
    const { port, front, listen } = await frontOf((socket) => socket.resume());
    const socket = client(port);
    await once(socket, "connect");
    await front.close();
    expect((await readAll(socket)).length).toBe(0);
    await expect(
      openFront(listen, { host: "127.0.0.1", port: 1 }).then((again) => again.close()),
    ).resolves.toBeUndefined();
  });

  test("a port that is taken is an error, and the other one is not kept", async () => {
    const [[free], [taken]] = [await freeSockets(), await freeSockets()];
    if (!free || !taken) throw new Error("no port");
    const holder = net.createServer().listen(taken.port, taken.host);
    await once(holder, "listening");
    ends.push(() => holder.close());
    await expect(openFront([free, taken], free)).rejects.toMatchObject({ code: "EADDRINUSE" });
    const front = await openFront([free], taken);
    await front.close();
  });
});

describe("what the runtime says by itself", () => {
  const own = (status: string, text: string, shown = text) =>
    `HTTP/1.1 ${status}\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: ${text.length}\r\n\r\n${shown}`;

  async function answerTo(request: string, ...answers: string[]): Promise<string> {
    const { port } = await frontOf((socket) => {
      socket.once("data", () => {
        for (const answer of answers) socket.write(answer);
        socket.end();
      });
    });
    const socket = client(port);
    socket.write(request);
    return (await readAll(socket)).toString("latin1");
  }

  test.each([
    ["GET /\x01 HTTP/1.1", own("400 Bad Request", "invalid URI"), 400, "invalid_http", /invalid URI/],
    ["GET /long HTTP/1.1", own("414 URI Too Long", "URI too long"), 414, "invalid_http", /URI too long/],
    [
      "GET / HTTP/1.1",
      own("431 Request Header Fields Too Large", "message head is too large"),
      431,
      "invalid_http",
      /head/,
    ],
    [
      "FOO / HTTP/1.1",
      own("501 Not Implemented", "ERROR: Unrecognized request method."),
      405,
      "method_not_allowed",
      /method/,
    ],
    [
      "CONNECT x:1 HTTP/1.1",
      own("500 Internal Server Error", "Internal Server Error"),
      405,
      "method_not_allowed",
      /CONNECT|none of/,
    ],
    ["GET / HTTP/1.1", own("500 Internal Server Error", "Internal Server Error"), 500, "internal_error", /our side/],
  ])("%j: in the envelope, with a Date", async (request, answer, status, error, message) => {
    const text = await answerTo(request, answer);
    const [head = "", body = ""] = text.split("\r\n\r\n");
    expect(head).toMatch(new RegExp(`^HTTP/1\\.1 ${status} [A-Z]`));
    expect(head).toMatch(/\r\nContent-Type: application\/json\r\n/);
    expect(head).toMatch(/\r\nDate: [A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT\r\n/);
    expect(head).toContain("\r\nConnection: close");
    expect(head).toContain(`\r\nContent-Length: ${body.length}\r\n`);
    expect(head.includes("\r\nAllow: GET, HEAD")).toBe(status === 405);
    const said = JSON.parse(body);
    expect(said).toEqual({
      error,
      message: expect.stringMatching(message),
      request_id: expect.stringMatching(/^req-/),
    });
    expect(head).toContain(`\r\nX-Request-ID: ${said.request_id}\r\n`);
  });

  test("a HEAD gets the headers alone", async () => {
    const text = await answerTo("HEAD /\x01 HTTP/1.1", own("400 Bad Request", "invalid URI", ""));
    expect(text).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n[\s\S]*Content-Length: [1-9]\d*\r\n[\s\S]*\r\n\r\n$/);
  });

  test("behind an answer of ours that comes in the same write", async () => {
    const ours = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Request-ID: req-1\r\n\r\nok";
    const text = await answerTo("GET / HTTP/1.1", ours + own("400 Bad Request", "invalid URI"));
    expect(text.startsWith(ours)).toBe(true);
    expect(JSON.parse(text.slice(text.lastIndexOf("\r\n\r\n") + 4)).error).toBe("invalid_http");
  });

  test("our own errors and any other answer stay as they are", async () => {
    const json = '{"error":"not_found","message":"Connection: close","request_id":"req-1"}';
    const headers = `Content-Type: application/json\r\nX-Request-ID: req-1\r\nContent-Length: ${json.length}\r\nConnection: close`;
    for (const answer of [
      `HTTP/1.1 404 Not Found\r\n${headers}\r\n\r\n${json}`,
      `HTTP/1.1 500 Internal Server Error\r\n${headers}\r\n\r\n${json}`,
      own("200 OK", "invalid URI"),
      own("400 Bad Request", "two\r\nlines"),
      own("400 Bad Request", "invalid URI").replace("Connection: close\r\n", ""),
      "HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n",
    ])
      expect(await answerTo("GET / HTTP/1.1", answer)).toBe(answer);
  });
});
