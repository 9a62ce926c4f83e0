import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { afterAll, describe, expect, it } from "vitest";
import { type RunningServer, startServer } from "../support/server.ts";
import { Scratch } from "./support/shell.ts";

/** A shell block of the README and what the text block right behind it says that it prints. */
interface Step {
  readonly heading: string;
  readonly script: string;
  readonly expected: readonly string[];
}

const SECTION = "Five minutes with curl and openssl";
/** The server that the last step starts ends with the shell. */
const PREAMBLE = "set -euo pipefail\ntrap 'kill %1 2>/dev/null; wait' EXIT";
const MARK = "=====readme-block-";

/** The walk-through: every ```sh block of its section, in order. */
function walkThrough(): Step[] {
  const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8");
  const section = readme.split(/^## /m).find((part) => part.startsWith(SECTION)) ?? "";
  const steps: Step[] = [];
  let heading = "set-up";
  for (const match of section.matchAll(/^### (.+)$|^```sh\n([\s\S]*?)^```\n(?:\n```text\n([\s\S]*?)^```\n)?/gm)) {
    if (match[1] !== undefined) heading = match[1];
    else steps.push({ heading, script: match[2] ?? "", expected: (match[3] ?? "").split("\n").filter(Boolean) });
  }
  return steps;
}

/** Whether `printed` has the expected lines, in order; `...` in a line stands for anything. */
function missingLine(printed: string, expected: readonly string[]): string | null {
  const lines = printed.split("\n");
  let at = 0;
  for (const wanted of expected) {
    const pattern = new RegExp(
      `^\\s*${wanted
        .split("...")
        .map((part) => part.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&"))
        .join(".*")}\\s*$`,
    );
    while (at < lines.length && !pattern.test(lines[at] ?? "")) at++;
    if (at === lines.length) return wanted;
    at++;
  }
  return null;
}

const scratch = new Scratch();
let server: RunningServer | null = null;
afterAll(async () => {
  await server?.stop();
  scratch.remove();
});

describe("the README's walk-through", () => {
  const steps = walkThrough();

  it("has the seven steps", () => {
    const headings = [...new Set(steps.map((step) => step.heading))].filter((heading) => /^\d/.test(heading));
    expect(headings.map((heading) => heading.slice(0, 1))).toEqual(["1", "2", "3", "4", "5", "6", "7"]);
  });

  it("prints what it says, in one shell against a fresh npm start", async () => {
    server = await startServer();
    const port = String(server.port);
    const body = steps.map((step, index) => `printf '\\n%s\\n' '${MARK}${index}'\n${step.script}`).join("\n");
    const script = scratch.write("readme.sh", `${PREAMBLE}\n${body}\necho '${MARK}end'\n`);
    const env = {
      ...process.env,
      STATE_DIR: server.stateDir,
      PORT: port,
      BASE: `http://localhost:${port}`,
      TMPDIR: scratch.path,
    };
    const output = await new Promise<string>((done, failed) => {
      const shell = spawn("bash", [script], { env, timeout: 240_000 });
      let text = "";
      for (const stream of [shell.stdout, shell.stderr])
        stream.on("data", (chunk: Buffer) => (text += chunk.toString()));
      shell.on("error", failed);
      shell.on("close", () => done(text));
    });
    const printed = output.split(new RegExp(`^${MARK}(?:\\d+|end)\\n`, "m")).slice(1);
    steps.forEach((step, index) => {
      const missing = missingLine(printed[index] ?? "", step.expected);
      expect(missing, `${step.heading}: this line of the README was not printed\n${output}`).toBeNull();
    });
    expect(output).toContain(`${MARK}end`);
  }, 300_000);
});
