import { connect, type Socket } from "node:net";

/** What a load run asks for. Requests are whole HTTP/1.1 messages made beforehand and sent in turn. */
export interface Load {
  readonly port: number;
  readonly requests: readonly Uint8Array[];
  readonly connections: number;
  readonly seconds: number;
  /** A new connection for each request, as for servers that close after one answer. */
  readonly reconnect?: boolean;
}

export interface LoadResult {
  readonly requestsPerSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly answers: number;
  /** Answers whose status was not 200, and connections that broke. */
  readonly failures: number;
}

/**
 * A load generator on bare sockets: one request in flight on each connection, answers told apart by Content-Length (or the
 * end of the connection), so that it takes little of the cores that it shares with the server.
 */
export async function runLoad(load: Load): Promise<LoadResult> {
  const latencies: number[] = [];
  let failures = 0;
  let turn = 0;
  const until = performance.now() + load.seconds * 1000;
  const next = (): Uint8Array => {
    const request = load.requests[turn++ % load.requests.length];
    if (!request) throw new Error("no request to send");
    return request;
  };
  const note = (startedAt: number, good: boolean) => {
    latencies.push(performance.now() - startedAt);
    if (!good) failures++;
  };
  const worker = async () => {
    while (performance.now() < until) {
      const broken = await drive(load, until, next, note);
      if (broken) failures++;
    }
  };
  const began = performance.now();
  await Promise.all(Array.from({ length: load.connections }, worker));
  const seconds = (performance.now() - began) / 1000;
  latencies.sort((a, b) => a - b);
  const at = (share: number) =>
    latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))] ?? Number.NaN;
  return {
    requestsPerSecond: latencies.length / seconds,
    p50Ms: at(0.5),
    p99Ms: at(0.99),
    answers: latencies.length,
    failures,
  };
}

/** How long after the end an answer is waited for. */
const GRACE_MS = 1_000;

/** Drives one connection until the time is over or it ends; true when it broke in the middle of an answer. */
function drive(
  load: Load,
  until: number,
  next: () => Uint8Array,
  note: (startedAt: number, good: boolean) => void,
): Promise<boolean> {
  return new Promise((resolve) => {
    const socket: Socket = connect({ port: load.port, host: "127.0.0.1", noDelay: true });
    let startedAt = 0;
    let waiting = false;
    let pending: Buffer | null = null;
    // A server that never answers must not hold the run up.
    const giveUp = setTimeout(() => finish(waiting), until - performance.now() + GRACE_MS);
    const finish = (broken: boolean) => {
      clearTimeout(giveUp);
      socket.destroy();
      resolve(broken);
    };
    const send = () => {
      startedAt = performance.now();
      if (startedAt >= until) return finish(false);
      waiting = true;
      socket.write(next());
    };
    const answered = (good: boolean) => {
      waiting = false;
      note(startedAt, good);
      if (load.reconnect) finish(false);
      else send();
    };
    socket.on("connect", send);
    socket.on("data", (chunk) => {
      const message = pending ? Buffer.concat([pending, chunk]) : chunk;
      const size = messageLength(message);
      const complete = size !== null && message.length >= size;
      pending = complete ? null : message;
      if (complete) answered(isGood(message));
    });
    socket.on("end", () => {
      const untilEnd = waiting && pending !== null && messageLength(pending) === null;
      if (untilEnd && pending) note(startedAt, isGood(pending));
      finish(waiting && !untilEnd);
    });
    socket.on("error", () => finish(waiting));
  });
}

/** Whether a message's status line says 200. */
function isGood(message: Buffer): boolean {
  return message.subarray(9, 12).toString("latin1") === "200";
}

/** Octets of the HTTP message that begins `bytes`, or null when its head is not complete or names no length. */
function messageLength(bytes: Buffer): number | null {
  const head = bytes.indexOf("\r\n\r\n");
  if (head < 0) return null;
  const length = /\r\ncontent-length: *(\d+)/i.exec(bytes.subarray(0, head + 2).toString("latin1"))?.[1];
  return length === undefined ? null : head + 4 + Number(length);
}

/** An HTTP/1.1 request as octets. */
export function httpRequest(
  method: string,
  path: string,
  options: { type?: string; body?: Uint8Array; close?: boolean; headers?: Record<string, string> } = {},
): Uint8Array {
  const head = [
    `${method} ${path} HTTP/1.1`,
    "Host: localhost",
    ...(options.type ? [`Content-Type: ${options.type}`] : []),
    ...(options.body ? [`Content-Length: ${options.body.length}`] : []),
    ...Object.entries(options.headers ?? {}).map(([name, value]) => `${name}: ${value}`),
    ...(options.close ? ["Connection: close"] : []),
  ];
  return Buffer.concat([Buffer.from(`${head.join("\r\n")}\r\n\r\n`, "latin1"), options.body ?? Buffer.alloc(0)]);
}
