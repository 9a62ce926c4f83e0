import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, isAbsolute, join } from "node:path";
import { describe, expect, it } from "vitest";

/** What a program said, both streams also in one text as a terminal shows them. */
export interface Ran {
  readonly code: number;
  readonly stdout: Buffer;
  readonly text: string;
}

export interface RunOptions {
  readonly cwd?: string;
  readonly input?: string | Uint8Array;
  readonly env?: Readonly<Record<string, string>>;
  /** Milliseconds until the program is killed. */
  readonly timeout?: number;
}

/** Programs that are not on everybody's PATH. */
const PATH = [process.env.PATH ?? "", "/usr/sbin", "/sbin"].join(delimiter);

/** Runs a program to its end, whatever its exit code. */
export function run(program: string, args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  return new Promise((done, failed) => {
    const child = spawn(program, args, {
      cwd: options.cwd,
      env: { ...process.env, PATH, ...options.env },
      timeout: options.timeout ?? 60_000,
      killSignal: "SIGKILL",
    });
    const stdout: Buffer[] = [];
    const both: Buffer[] = [];
    child.stdout.on("data", (chunk: Buffer) => {
      stdout.push(chunk);
      both.push(chunk);
    });
    child.stderr.on("data", (chunk: Buffer) => both.push(chunk));
    child.on("error", failed);
    child.on("close", (code) =>
      done({ code: code ?? -1, stdout: Buffer.concat(stdout), text: Buffer.concat(both).toString() }),
    );
    child.stdin.on("error", () => {});
    child.stdin.end(options.input ?? "");
  });
}

/** Runs a program that must end with 0; its whole text is in the error otherwise. */
export async function must(program: string, args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const ran = await run(program, args, options);
  if (ran.code !== 0) throw new Error(`${program} ${args.join(" ")} ended with ${ran.code}:\n${ran.text}`);
  return ran;
}

/** A directory of one test file; `remove()` at its end. */
export class Scratch {
  readonly path = mkdtempSync(join(tmpdir(), "certctl-e2e-"));

  file(name: string): string {
    return join(this.path, name);
  }

  write(name: string, content: string | Uint8Array): string {
    writeFileSync(this.file(name), content);
    return this.file(name);
  }

  read(name: string): string {
    return this.bytes(name).toString();
  }

  bytes(name: string): Buffer {
    return readFileSync(this.file(name));
  }

  remove(): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

/** Asks again until `attempt` answers without throwing, or tells its last error after `seconds`. */
export async function eventually<T>(attempt: () => Promise<T>, seconds = 90): Promise<T> {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await new Promise((next) => setTimeout(next, 250));
    }
  }
}

function missing(programs: readonly string[]): string[] {
  const folders = PATH.split(delimiter);
  const found = (program: string) =>
    isAbsolute(program) ? existsSync(program) : folders.some((folder) => existsSync(join(folder, program)));
  return programs.filter((program) => !found(program));
}

/**
 * The tests of a client that may not be installed. Without it they are left out and the client is named; under CI=true
 * that is a failure.
 */
export function describeWith(client: string, programs: readonly string[], tests: () => void): void {
  const absent = missing(programs);
  if (absent.length === 0) {
    describe(client, tests);
    return;
  }
  console.warn(`NOT TESTED with ${client}: ${absent.join(", ")} not found`);
  describe(client, () => {
    it("is installed", ({ skip }) => {
      if (process.env.CI !== "true") skip(`${absent.join(", ")} not found`);
      expect(absent, `programs of ${client} that are missing`).toEqual([]);
    });
  });
}
