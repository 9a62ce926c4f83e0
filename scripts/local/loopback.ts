import { createHash, timingSafeEqual } from "node:crypto";
import http from "node:http";
import { Readable } from "node:stream";
import { logLine, note } from "./log.ts";
import type { OutboundAnswer, OutboundRequest } from "./outbound.ts";

/** Handlers for workerd's calls to the process that started it. */
export interface LoopbackHandlers {
  /** Answers fetches of the Worker and its objects. */
  readonly outbound: (request: OutboundRequest) => Promise<OutboundAnswer>;
  /** Answers the binding STORAGE: whether the disk is nearly full. */
  readonly isStorageFull: (() => boolean) | null;
}

export interface Loopback {
  /** Host and port. */
  readonly address: string;
  stop(): void;
}

/** Miniflare's log levels: 1 is an error, 2 a warning. */
const LOGGED_LEVEL = 2;

/**
 * Stands in for the "loopback" server that Miniflare's Workers inside workerd call. Each call carries the secret of the
 * configuration; `MF-Custom-Fetch-Service` names the service, calls without it are log lines of the simulated D1, R2
 * and queues.
 */
export async function startLoopback(secret: string, handlers: LoopbackHandlers): Promise<Loopback> {
  const server = http.createServer((request, response) => {
    answer(secret, handlers, request, response).catch((error: unknown) => {
      note(`loopback: ${error instanceof Error ? error.message : String(error)}`);
      if (response.headersSent) response.destroy();
      else response.writeHead(500).end();
    });
  });
  // workerd keeps its connections open; closing one during a call would fail that call.
  server.keepAliveTimeout = 0;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host: "127.0.0.1", port: 0, exclusive: true }, resolve);
  });
  const bound = server.address();
  return {
    address: `127.0.0.1:${typeof bound === "object" && bound !== null ? bound.port : 0}`,
    stop() {
      server.close();
      server.closeAllConnections();
    },
  };
}

async function answer(
  secret: string,
  handlers: LoopbackHandlers,
  request: http.IncomingMessage,
  response: http.ServerResponse,
): Promise<void> {
  const { headers } = request;
  if (!sameText(String(headers["mf-loopback-secret"] ?? ""), secret)) {
    response.writeHead(403).end();
    return;
  }
  const service = String(headers["mf-custom-fetch-service"] ?? "");
  if (service.endsWith("/$outbound")) await passOn(handlers.outbound, request, response);
  else if (service.endsWith("/#STORAGE") && handlers.isStorageFull)
    response.end(handlers.isStorageFull() ? "full" : "ok");
  else if (service === "" && request.url === "/core/log") {
    const text = await textOf(request);
    if (Number(headers["mf-log-level"]) <= LOGGED_LEVEL) logLine(text);
    response.writeHead(204).end();
  } else response.writeHead(404).end();
}

async function passOn(
  outbound: LoopbackHandlers["outbound"],
  request: http.IncomingMessage,
  response: http.ServerResponse,
): Promise<void> {
  const bodyless = request.method === "GET" || request.method === "HEAD";
  const answered = await outbound({
    url: String(request.headers["mf-original-url"]),
    method: request.method ?? "GET",
    headers: headerPairs(request.rawHeaders),
    body: bodyless ? null : Readable.toWeb(request),
  });
  response.writeHead(answered.status, answered.headers.flat());
  if (typeof answered.body === "string" || answered.body === null) {
    response.end(answered.body ?? undefined);
    return;
  }
  answered.body.once("error", () => response.destroy());
  answered.body.pipe(response);
}

function headerPairs(raw: readonly string[]): [string, string][] {
  const pairs: [string, string][] = [];
  for (let at = 0; at + 1 < raw.length; at += 2) pairs.push([raw[at] ?? "", raw[at + 1] ?? ""]);
  return pairs;
}

async function textOf(request: http.IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

function sameText(one: string, other: string): boolean {
  const digest = (text: string) => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(one), digest(other));
}
