import { STATUS_CODES } from "node:http";
import net from "node:net";
import { systemRandom } from "../../src/platform/context.ts";
import { randomId } from "../../src/platform/ids.ts";
import type { Listen } from "./listen.ts";

/** The listening side of the server. */
export interface Front {
  /** Stops listening and ends every connection. */
  close(): Promise<void>;
}

/**
 * Listens and relays every byte to workerd and back unchanged, with one exception: an answer that workerd itself gives
 * because it could not parse the request is replaced by our error envelope, with a Date. Requests are not parsed here,
 * so that the relay and workerd cannot disagree about them. Throws what `listen` throws.
 */
export async function openFront(listen: readonly Listen[], workerd: Listen): Promise<Front> {
  const connections = new Set<net.Socket>();
  const servers = listen.map(({ host, port }) => {
    const server = net.createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
      connections.add(client);
      client.once("close", () => connections.delete(client));
      relay(client, net.connect({ ...workerd, allowHalfOpen: true, noDelay: true }));
    });
    const ipv6Only = host === "::" && listen.some((other) => other.host === "0.0.0.0");
    return new Promise<net.Server>((resolve, reject) => {
      server.once("error", reject);
      server.listen({ host, port, ipv6Only }, () => resolve(server));
    });
  });
  const close = async () => {
    const open = await Promise.allSettled(servers);
    const closed = open.map((one) => one.status === "fulfilled" && new Promise((done) => one.value.close(done)));
    for (const client of connections) client.destroy();
    await Promise.all(closed);
  };
  try {
    await Promise.all(servers);
  } catch (error) {
    await close();
    throw error;
  }
  return { close };
}

function relay(client: net.Socket, workerd: net.Socket): void {
  let connects = false;
  client.on("data", (chunk) => {
    connects ||= chunk[0] === 0x43 && chunk.toString("latin1", 0, 8) === "CONNECT ";
    if (!workerd.write(chunk)) client.pause();
  });
  workerd.on("data", (chunk) => {
    if (!client.write(translated(chunk, connects))) workerd.pause();
  });
  client.on("drain", () => workerd.resume());
  workerd.on("drain", () => client.resume());
  client.on("end", () => workerd.end());
  workerd.on("end", () => client.end());
  client.on("close", () => workerd.destroy());
  // After a normal close a slow client still gets the rest.
  workerd.on("close", (broken) => broken && client.destroy());
  for (const socket of [client, workerd]) socket.on("error", () => {});
}

/**
 * An answer of workerd itself at the end of its output: short, without the headers that every answer of our Worker has,
 * and the last of its connection.
 */
const OWN =
  /HTTP\/1\.([01]) ([45]\d\d) [^\r\n]*\r\n((?:(?:Content-Type|Connection|Content-Length): [^\r\n]*\r\n)*)\r\n([ -~]*)$/;
const LONGEST_OWN = 256;

/** Returns the chunk with workerd's own answer at its end rewritten. `connects`: the client sent CONNECT. */
function translated(chunk: Buffer, connects: boolean): Buffer {
  const from = Math.max(0, chunk.length - LONGEST_OWN);
  const end = chunk.toString("latin1", from);
  if (!end.includes("\r\nConnection: close\r\n")) return chunk;
  const [all, minor = "1", status = "", headers = "", text = ""] = OWN.exec(end) ?? [];
  if (all === undefined) return chunk;
  const error = errorOf(Number(status), text, connects);
  // The answer to a HEAD has a Content-Length but no body.
  const hasBody = text !== "" || headers.includes("Content-Length: 0\r");
  return Buffer.concat([chunk.subarray(0, chunk.length - all.length), answerOf(error, minor, hasBody)]);
}

interface HttpError {
  readonly status: number;
  readonly error: string;
  readonly message: string;
  readonly headers?: readonly string[];
}

const METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/** workerd does not support CONNECT and fails on it; unknown methods are a 501. */
function errorOf(status: number, text: string, connects: boolean): HttpError {
  if (status === 501 || (status === 500 && connects)) {
    const message = `the request's method is none of ${METHODS}`;
    return { status: 405, error: "method_not_allowed", message, headers: [`Allow: ${METHODS}`] };
  }
  if (status < 500) return { status, error: "invalid_http", message: `the request is not as HTTP/1.1 has it: ${text}` };
  return { status, error: "internal_error", message: "something failed on our side" };
}

function answerOf({ status, error, message, headers = [] }: HttpError, minor: string, hasBody: boolean): Buffer {
  const request_id = randomId(systemRandom, "req-");
  const body = JSON.stringify({ error, message, request_id });
  const lines = [
    `HTTP/1.${minor} ${status} ${STATUS_CODES[status] ?? ""}`,
    "Content-Type: application/json",
    `Content-Length: ${body.length}`,
    "Cache-Control: no-store",
    `Date: ${new Date().toUTCString()}`,
    `X-Request-ID: ${request_id}`,
    ...headers,
    "Connection: close",
  ];
  return Buffer.from(`${lines.join("\r\n")}\r\n\r\n${hasBody ? body : ""}`);
}
