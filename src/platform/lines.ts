/** One line of streamed text. */
export interface Line {
  /** Starts at 1. */
  readonly number: number;
  /** Null if the line is longer than the limit or not valid UTF-8. */
  readonly text: string | null;
}

const NEWLINE = 0x0a;

/**
 * Splits a UTF-8 stream into lines, yielding the lines completed by each chunk. Memory is bounded by one line. The last
 * line needs no newline.
 */
export async function* linesOf(stream: ReadableStream<Uint8Array>, maxBytes: number): AsyncGenerator<Line[]> {
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: false });
  let number = 0;
  let held: Uint8Array[] = [];
  let length = 0;
  const take = (piece: Uint8Array) => {
    length += piece.length;
    if (length <= maxBytes) held.push(piece);
    else held = [];
  };
  const finish = (): Line => {
    const text = length > maxBytes ? null : decoded(decoder, held);
    held = [];
    length = 0;
    return { number: ++number, text };
  };
  for await (const chunk of stream) {
    const lines: Line[] = [];
    let from = 0;
    for (let at = chunk.indexOf(NEWLINE); at >= 0; at = chunk.indexOf(NEWLINE, from)) {
      take(chunk.subarray(from, at));
      lines.push(finish());
      from = at + 1;
    }
    if (from < chunk.length) take(chunk.slice(from));
    if (lines.length > 0) yield lines;
  }
  if (length > 0) yield [finish()];
}

function decoded(decoder: TextDecoder, pieces: readonly Uint8Array[]): string | null {
  try {
    const [only, ...more] = pieces;
    return decoder.decode(more.length === 0 ? only : Buffer.concat(pieces));
  } catch {
    return null;
  }
}
