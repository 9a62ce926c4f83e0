import { describe, expect, it } from "vitest";
import { linesOf } from "../../src/platform/lines.ts";

function streamOf(...chunks: (string | Uint8Array)[]): ReadableStream<Uint8Array> {
  return new ReadableStream({
    start(controller) {
      for (const chunk of chunks)
        controller.enqueue(typeof chunk === "string" ? new TextEncoder().encode(chunk) : chunk);
      controller.close();
    },
  });
}

async function all(stream: ReadableStream<Uint8Array>, maxBytes = 10): Promise<(string | null)[]> {
  const found: (string | null)[] = [];
  for await (const lines of linesOf(stream, maxBytes)) {
    for (const line of lines) {
      found.push(line.text);
      expect(line.number).toBe(found.length);
    }
  }
  return found;
}

describe("lines of a stream", () => {
  it("come one by one, however the stream is cut", async () => {
    expect(await all(streamOf("a\nb\n\nc"))).toEqual(["a", "b", "", "c"]);
    expect(await all(streamOf("a", "b", "\nc\n"))).toEqual(["ab", "c"]);
    const bytes = new TextEncoder().encode("äöü\nß");
    expect(await all(streamOf(...Array.from(bytes, (_, i) => bytes.subarray(i, i + 1))))).toEqual(["äöü", "ß"]);
    expect(await all(streamOf())).toEqual([]);
  });

  it("that are too long or no UTF-8 are told, and the next one is whole", async () => {
    const long = "x".repeat(6);
    expect(await all(streamOf(long, long, long, "\nb\n"))).toEqual([null, "b"]);
    expect(await all(streamOf("0123456789\n0123456789a\nc"))).toEqual(["0123456789", null, "c"]);
    expect(await all(streamOf(new Uint8Array([0xff, 0x0a]), "b"))).toEqual([null, "b"]);
  });
});
