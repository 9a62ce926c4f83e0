import { describe, expect, it } from "vitest";
import { checkPattern, matchesPattern } from "../../src/inventory/name-patterns.ts";

describe("name patterns", () => {
  const matching: [string, string, boolean][] = [
    ["[a-z0-9-]+\\.example\\.com", "www.example.com", true],
    ["[a-z0-9-]+\\.example\\.com", "WWW.Example.com", true],
    ["[a-z0-9-]+\\.example\\.com", "www.example.com.attacker.net", false],
    ["[a-z0-9-]+\\.example\\.com", "a.b.example.com", false],
    ["^.*\\.example\\.com$", "a.b.example.com", true],
    ["example\\.com", "evil-example.com", false],
    ["a\\.example|b\\.example", "b.example", true],
    ["a\\.example|b\\.example", "xb.example", false],
    ["10\\.\\d{1,3}\\.\\d{1,3}\\.\\d{1,3}", "10.1.2.3", true],
    ["spiffe://example\\.org/ns/[^/]+/sa/.+", "spiffe://example.org/ns/a/sa/b", true],
    ["\\*\\.example\\.com", "*.example.com", true],
  ];
  it.each(matching)("%s on %s: %s", (pattern, name, expected) => {
    checkPattern("p", pattern);
    expect(matchesPattern(pattern, name)).toBe(expected);
  });

  it.each([
    "(a+)+b",
    "(a|b)c",
    "a**",
    "a+?",
    "[unclosed",
    "a|",
    "",
    "a?b?c?d?",
    ".*.*.*.*x",
    "(?=a)",
    "\\1",
    "[z-a]",
    "x{2,1}",
    "spiffe://example.org/*",
    "a".repeat(257),
    Array(10).fill("a").join("|"),
  ])("refuses %j", (pattern) => {
    expect(() => checkPattern("p", pattern)).toThrow(/^p: /);
  });

  it("matches no name that is longer than names are", () => {
    expect(matchesPattern(".*", "a".repeat(513))).toBe(false);
  });
});
