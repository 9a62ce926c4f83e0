import { readFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { REASONS } from "../../src/identity/oidc/failure.ts";

const WEB = path.resolve(import.meta.dirname, "../../web");
const script = readFileSync(path.join(WEB, "assets/login.js"), "utf8");
const page = readFileSync(path.join(WEB, "login.html"), "utf8");

describe("the login page", () => {
  it("has words for each reason with which a sign-in fails, and for no other", () => {
    const words = /const WORDS = \{([^}]*(?:\$\{[A-Z]+\}[^}]*)*)\};/.exec(script)?.[1] ?? "";
    const known = [...words.matchAll(/^ {2}([a-z_]+):/gm)].map(([, reason]) => reason);
    expect(known).toEqual([...REASONS]);
  });

  it("runs under its policy: no script or style in the page, and every element that the script looks for is there", () => {
    expect(page).not.toMatch(/<script(?![^>]* src=)|<style|\son[a-z]+=|\sstyle=/i);
    const wanted = [...script.matchAll(/(?:getElementById|put)\("([^"]+)"/g)].map(([, id]) => id ?? "");
    expect(wanted.length).toBeGreaterThan(5);
    expect(wanted.filter((id) => !page.includes(`id="${id}"`))).toEqual([]);
  });
});

describe("the front page", () => {
  it("leads to each place once, and hides the only way to sign in where nobody has to", () => {
    const front = readFileSync(path.join(WEB, "index.html"), "utf8");
    const links = [...front.matchAll(/<li([^>]*)><a href="([^"]+)">([^<]+)<\/a>/g)];
    const places = links.map(([, , href]) => href);
    expect(places).toEqual([...new Set(places)]);
    expect(links.filter(([, , , text]) => text === "Sign in").map(([, attributes]) => attributes)).toEqual([
      ' id="sign-in"',
    ]);
  });
});
