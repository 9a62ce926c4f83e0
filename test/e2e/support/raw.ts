import { connect } from "node:net";

/** What came back on a bare socket. */
export interface RawAnswer {
  /** 0 when no status line came. */
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
}

/** Sends bytes (latin1) as they are and reads until the server closes; so the request asks for `Connection: close`. */
export function sendRaw(port: number, message: string): Promise<RawAnswer> {
  return new Promise((done, failed) => {
    const chunks: Buffer[] = [];
    const socket = connect({ port, host: "127.0.0.1" }, () => socket.write(Buffer.from(message, "latin1")));
    socket.setTimeout(20_000, () => socket.destroy(new Error(`no end of the answer to ${JSON.stringify(message)}`)));
    socket.on("data", (chunk) => chunks.push(chunk));
    socket.on("error", failed);
    socket.on("close", () => done(parse(Buffer.concat(chunks).toString("latin1"))));
  });
}

/** A request with `Connection: close`; `host` null for none, anything else goes out as it is. */
export function rawRequest(line: string, host: string | null, headers: readonly string[] = []): string {
  const lines = [`${line} HTTP/1.1`, ...(host === null ? [] : [`Host: ${host}`]), ...headers, "Connection: close"];
  return `${lines.join("\r\n")}\r\n\r\n`;
}

function parse(message: string): RawAnswer {
  const end = message.indexOf("\r\n\r\n");
  const [status = "", ...lines] = message.slice(0, Math.max(end, 0)).split("\r\n");
  const headers = new Headers();
  for (const line of lines) headers.append(line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).trim());
  return { status: Number(/^HTTP\/1\.[01] (\d{3})/.exec(status)?.[1] ?? 0), headers, text: message.slice(end + 4) };
}
