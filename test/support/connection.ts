import { connect, type Socket } from "node:net";

/** An HTTP/1.1 answer, whole. */
export interface HttpAnswer {
  readonly status: number;
  /** Status line and headers. */
  readonly head: string;
  readonly body: Buffer;
}

/** No answer came: the connection broke, or nothing arrived for `HANG_MS`. */
export class NoAnswer extends Error {}

/** How long an answer is waited for before it counts as one that never comes. */
const HANG_MS = 30_000;

interface Waiting {
  readonly bodiless: boolean;
  resolve(answer: HttpAnswer): void;
  reject(error: NoAnswer): void;
}

/**
 * A connection to a server on this machine, one request in flight at a time, on a bare socket: what is sent is exactly what
 * the caller wrote, and it takes little of the cores that client and server share.
 */
export class Connection {
  readonly #socket: Socket;
  #received: Buffer | null = null;
  #waiting: Waiting | null = null;
  #ended: string | null = null;

  constructor(port: number) {
    this.#socket = connect({ port, host: "127.0.0.1", noDelay: true });
    this.#socket.setTimeout(HANG_MS);
    this.#socket.on("data", (chunk) => this.#take(chunk));
    this.#socket.on("timeout", () => this.#end(`nothing came for ${HANG_MS / 1000} s`));
    this.#socket.on("error", (error) => this.#end(error.message));
    this.#socket.on("end", () => this.#end("the server closed the connection"));
  }

  /** False once the connection has ended: another one is needed. */
  get usable(): boolean {
    return this.#ended === null;
  }

  /** Sends a whole request and waits for its answer. Throws NoAnswer. */
  ask(message: Uint8Array): Promise<HttpAnswer> {
    return new Promise((resolve, reject) => {
      if (this.#ended !== null) return reject(new NoAnswer(this.#ended));
      const bodiless = message[0] === 0x48; // H of HEAD
      this.#waiting = { bodiless, resolve, reject };
      this.#socket.write(message);
    });
  }

  /** Sends octets and breaks the connection off, after `afterMs`. What becomes of it is the server's. */
  async breakOff(octets: Uint8Array, afterMs: number): Promise<void> {
    this.#socket.write(octets);
    await new Promise((resolve) => setTimeout(resolve, afterMs));
    this.close();
  }

  close(): void {
    this.#ended ??= "closed";
    this.#socket.destroy();
  }

  #take(chunk: Buffer): void {
    const waiting = this.#waiting;
    if (!waiting) return;
    const bytes = this.#received ? Buffer.concat([this.#received, chunk]) : chunk;
    const answer = readAnswer(bytes, waiting.bodiless, false);
    this.#received = answer ? null : bytes;
    if (!answer) return;
    this.#waiting = null;
    waiting.resolve(answer);
  }

  #end(why: string): void {
    this.#ended ??= why;
    this.#socket.destroy();
    const waiting = this.#waiting;
    if (!waiting) return;
    this.#waiting = null;
    const answer = this.#received ? readAnswer(this.#received, waiting.bodiless, true) : null;
    if (answer) waiting.resolve(answer);
    else waiting.reject(new NoAnswer(why));
  }
}

/** The answer that begins `bytes`; null while it is not whole. `over`: nothing follows (RFC 9112 section 6.3). */
function readAnswer(bytes: Buffer, bodiless: boolean, over: boolean): HttpAnswer | null {
  const end = bytes.indexOf("\r\n\r\n");
  if (end < 0) return null;
  const head = bytes.subarray(0, end + 2).toString("latin1");
  const status = Number(head.slice(9, 12));
  const rest = bytes.subarray(end + 4);
  const body = bodiless || status === 204 || status === 304 ? rest.subarray(0, 0) : readBody(head, rest, over);
  return body && { status, head, body };
}

function readBody(head: string, rest: Buffer, over: boolean): Buffer | null {
  if (/\r\ntransfer-encoding: *chunked/i.test(head)) return readChunks(rest);
  const length = /\r\ncontent-length: *(\d+)/i.exec(head)?.[1];
  if (length === undefined) return over ? rest : null;
  return rest.length >= Number(length) ? rest.subarray(0, Number(length)) : null;
}

function readChunks(rest: Buffer): Buffer | null {
  const chunks: Buffer[] = [];
  for (let at = 0; ; ) {
    const line = rest.indexOf("\r\n", at);
    if (line < 0) return null;
    const size = Number.parseInt(rest.subarray(at, line).toString("latin1"), 16);
    const from = line + 2;
    if (rest.length < from + size + 2) return null;
    if (size === 0) return Buffer.concat(chunks);
    chunks.push(rest.subarray(from, from + size));
    at = from + size + 2;
  }
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
