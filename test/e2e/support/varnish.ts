import { readFileSync } from "node:fs";
import { join } from "node:path";
import { daemon, freePort } from "./fronts.ts";
import { eventually, type Scratch } from "./shell.ts";

/** An HTTP cache in front of a server. */
export interface Varnish {
  readonly url: string;
  /** Has it forget every answer with that Cache-Tag. */
  purge(tag: string): Promise<void>;
  stop(): Promise<void>;
}

export async function startVarnish(scratch: Scratch, upstream: number): Promise<Varnish> {
  const rules = readFileSync(new URL("./varnish.vcl", import.meta.url), "utf8").replace("@PORT@", String(upstream));
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const { stop } = daemon("varnishd", [
    ...["-F", "-j", "none", "-n", join(scratch.path, "varnish"), "-s", "malloc,64m"],
    ...["-a", `127.0.0.1:${port}`, "-f", scratch.write("varnish.vcl", rules)],
  ]);
  await eventually(async () => void (await fetch(`${url}/health`)), 60);
  return {
    url,
    stop,
    async purge(tag) {
      const response = await fetch(url, { method: "PURGE", headers: { "Cache-Tag": tag } });
      if (response.status !== 200) throw new Error(`purge of ${tag}: ${response.status}`);
    },
  };
}
