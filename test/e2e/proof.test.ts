import { afterAll, beforeAll, expect, it } from "vitest";
import { type RunningServer, startServer } from "../support/server.ts";
import { bootstrap } from "./support/api.ts";
import { Album } from "./support/proof/album.ts";
import {
  buildGo,
  byGo,
  byPkilint,
  type Check,
  covers,
  type Finding,
  PROGRAM,
  PYTHON,
} from "./support/proof/checkers.ts";
import { EXCEPTIONS, type Exception } from "./support/proof/exceptions.ts";
import { PLANTED, plantDefects } from "./support/proof/planted.ts";
import { PUBLIC_URL, THEMES, type Theme } from "./support/proof/themes.ts";
import { type Scene, setScene } from "./support/scene.ts";
import { describeWith, Scratch } from "./support/shell.ts";

let server: RunningServer;
let scene: Scene;
const scratch = new Scratch();
const made = new Map<string, Promise<Album>>();

beforeAll(async () => {
  server = await startServer({ vars: { CERTCTL_PUBLIC_URL: PUBLIC_URL } });
  scene = await setScene(await bootstrap(server.url, server.bootstrapToken), scratch);
});
afterAll(async () => {
  await server?.stop();
  scratch.remove();
});

/** The artefacts of a theme, made once for all checkers. */
function albumOf(theme: string, make: Theme): Promise<Album> {
  const album = new Album(scene, theme);
  const started = made.get(theme) ?? make(album).then(() => album);
  made.set(theme, started);
  return started;
}

/** What each checker must find, what it must not, and which exceptions have become useless. */
function checkEverything(check: Check, checkers: readonly Exception["checker"][]): void {
  const seen: Finding[] = [];

  it("finds the defects that were planted", async () => {
    const { artefacts } = await albumOf("planted", plantDefects);
    const lines = (await check(artefacts)).map((found) =>
      [found.checker, found.artefact, found.code, found.message].join(": "),
    );
    const own = PLANTED.filter(({ source }) => checkers.some((checker) => source.startsWith(`^${checker}:`)));
    expect(own.length).toBeGreaterThan(0);
    expect(own.filter((wanted) => !lines.some((line) => wanted.test(line)))).toEqual([]);
  });
  for (const [theme, make] of Object.entries(THEMES)) {
    it(`finds nothing in ${theme}`, async () => {
      const { artefacts } = await albumOf(theme, make);
      expect(artefacts.length).toBeGreaterThan(0);
      const found = await check(artefacts);
      seen.push(...found);
      expect(found.filter((finding) => !EXCEPTIONS.some((exception) => covers(exception, finding)))).toEqual([]);
    });
  }

  it("needs every exception that is listed for it", () => {
    const own = EXCEPTIONS.filter(({ checker }) => checkers.includes(checker));
    expect(own.filter((exception) => !seen.some((finding) => covers(exception, finding)))).toEqual([]);
  });
}

describeWith("zlint and Go", [PROGRAM, "go", "openssl", "curl"], () => {
  beforeAll(buildGo, 600_000);
  checkEverything(byGo, ["zlint", "go"]);
});

describeWith("pkilint", [PYTHON, "openssl", "curl"], () => checkEverything(byPkilint, ["pkilint"]));
