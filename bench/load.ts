import { Connection, type HttpAnswer } from "../test/support/connection.ts";

/** A whole HTTP/1.1 request, made beforehand, and what must come of it. */
export interface Ask {
  readonly message: Uint8Array;
  /** What is wrong with an answer; null when it is the expected one. Cheap: it runs beside the server. */
  wrong(answer: HttpAnswer): string | null;
}

/** What a load run asks for, in turn. */
export interface Load {
  readonly port: number;
  readonly asks: readonly Ask[];
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
}

/** Measures, one request in flight on each connection. Throws at the first answer that is not the expected one, or does not come. */
export async function runLoad(load: Load): Promise<LoadResult> {
  const latencies: number[] = [];
  let turn = 0;
  const began = performance.now();
  const until = began + load.seconds * 1000;
  const worker = async () => {
    let connection = new Connection(load.port);
    try {
      while (performance.now() < until) {
        const ask = load.asks[turn++ % load.asks.length];
        if (!ask) throw new Error("no request to send");
        const startedAt = performance.now();
        if (load.reconnect && latencies.length > 0) {
          connection.close();
          connection = new Connection(load.port);
        }
        const answer = await connection.ask(ask.message);
        latencies.push(performance.now() - startedAt);
        const wrong = ask.wrong(answer);
        if (wrong !== null) throw new Error(`answer ${latencies.length}: ${wrong}`);
      }
    } finally {
      connection.close();
    }
  };
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
  };
}

/** An answer that must be 200 and exactly that. */
export function exactly(message: Uint8Array, body: string): Ask {
  const expected = Buffer.from(body);
  return {
    message,
    wrong: (answer) => (answer.status === 200 && answer.body.equals(expected) ? null : shown(answer)),
  };
}

/** An answer for a message to whoever reads the failure. */
export function shown({ status, body }: HttpAnswer): string {
  return `${status} ${body.subarray(0, 300).toString("latin1")}`;
}
