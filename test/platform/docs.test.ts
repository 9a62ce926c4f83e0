import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, it } from "vitest";

const PROJECT = path.resolve(import.meta.dirname, "../..");
const PAGES = ["README.md", ...readdirSync(path.join(PROJECT, "docs")).map((name) => `docs/${name}`)];

/** The anchors that GitHub makes of a page's headings. */
function anchorsOf(page: string): string[] {
  const headings = readFileSync(page, "utf8").matchAll(/^#+ (.+)$/gm);
  return [...headings].map(([, text = ""]) =>
    text
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-"),
  );
}

describe("the documentation", () => {
  it.each(PAGES)("%s links to what is there", (name) => {
    const page = path.join(PROJECT, name);
    const links = [...readFileSync(page, "utf8").matchAll(/\]\((?!https?:)([^)\s]+)\)/g)].map(([, link = ""]) => link);
    const broken = links.filter((link) => {
      const [file = "", anchor] = link.split("#");
      const target = file === "" ? page : path.join(path.dirname(page), file);
      return !existsSync(target) || (anchor !== undefined && !anchorsOf(target).includes(anchor));
    });
    expect(broken).toEqual([]);
  });

  it("every npm command that README tells of exists", () => {
    const { scripts } = JSON.parse(readFileSync(path.join(PROJECT, "package.json"), "utf8")) as {
      scripts: Record<string, string>;
    };
    const told = [...readFileSync(path.join(PROJECT, "README.md"), "utf8").matchAll(/npm run ([a-z0-9:]+)/g)];
    expect(told.map(([, name = ""]) => name).filter((name) => !(name in scripts))).toEqual([]);
    expect(told.length).toBeGreaterThan(4);
  });

  it("README starts with the commands that start and test it, each on a line of its own", () => {
    const [intro = ""] = readFileSync(path.join(PROJECT, "README.md"), "utf8").split(/^## /m);
    const commands = [...intro.matchAll(/^ {4}(.+)$/gm)].map(([, command]) => command);
    expect(commands).toEqual(["npm ci && npm start", "npm ci && npm test"]);
  });

  it("docs/architecture.md names each folder of src that there is", () => {
    const text = readFileSync(path.join(PROJECT, "docs/architecture.md"), "utf8");
    const wings = readdirSync(path.join(PROJECT, "src"));
    expect(wings.filter((wing) => !text.includes(`      ${wing}/`))).toEqual([]);
  });
});
