import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { nextStatus, type StatusFacts, statusOf, TRANSITIONS } from "../../src/inventory/certificates/status.ts";
import { CERTIFICATE_STATUSES } from "../../src/inventory/certificates/table.ts";

const NOW = "2026-06-15T12:00:00.000Z";
const at = (days: number) => new Date(Date.parse(NOW) + days * 86_400_000).toISOString();
const FRESH: StatusFacts = {
  status: "Pending",
  expires_at: null,
  revoked_at: null,
  revocation_noted_at: null,
  window_days: 30,
  lives_from: null,
  asked_at: null,
  last_failed: false,
};
const LIVE: StatusFacts = { ...FRESH, status: "Active", expires_at: at(60), lives_from: at(-30) };
const REVOKED = { ...LIVE, revoked_at: at(-1), revocation_noted_at: at(-1) };
const after = (ms: number) => new Date(Date.parse(NOW) + ms).toISOString();

describe("the status of a certificate", () => {
  it.each([
    ["nothing was issued", FRESH, "Pending"],
    ["the first issuance failed", { ...FRESH, last_failed: true }, "Failed"],
    ["a renewal failed, and what there is lives on", { ...LIVE, last_failed: true }, "Active"],
    ["one is asked for", { ...FRESH, asked_at: NOW, last_failed: true }, "RenewalInProgress"],
    ["it lives", LIVE, "Active"],
    ["the window begins", { ...LIVE, lives_from: at(-60), expires_at: at(30) }, "Expiring"],
    [
      "a millisecond before the window",
      { ...LIVE, lives_from: at(-61), expires_at: after(30 * 86_400_000 + 1) },
      "Active",
    ],
    ["a short life, before its last third", { ...LIVE, lives_from: at(-5), expires_at: at(4) }, "Active"],
    ["the last third of a short life", { ...LIVE, lives_from: at(-6), expires_at: at(3) }, "Expiring"],
    ["a life that is not known", { ...LIVE, lives_from: null, expires_at: at(20) }, "Expiring"],
    ["no window", { ...LIVE, window_days: 0, expires_at: at(1) }, "Active"],
    ["its end", { ...LIVE, expires_at: NOW }, "Expired"],
    ["it expired behind a renewal", { ...LIVE, expires_at: at(-1), asked_at: at(-2) }, "Expired"],
    ["it is renewed after it expired", { ...LIVE, expires_at: at(-1), asked_at: at(-1) }, "RenewalInProgress"],
    ["revoked", REVOKED, "Revoked"],
    ["revoked, and expired since", { ...REVOKED, expires_at: at(-1) }, "Revoked"],
    ["revoked behind a renewal", { ...REVOKED, asked_at: at(-1) }, "Revoked"],
    ["a renewal that heals a revocation", { ...REVOKED, asked_at: at(0) }, "RenewalInProgress"],
    ["nobody knows when the revocation was noted", { ...REVOKED, revocation_noted_at: null, asked_at: NOW }, "Revoked"],
    ["archived, whatever else", { ...REVOKED, status: "Archived", asked_at: NOW }, "Archived"],
  ] satisfies [string, StatusFacts, string][])("%s", (_, facts, status) => {
    expect(statusOf(facts, NOW)).toBe(status);
  });
});

describe("allowed transitions", () => {
  const times = [null, at(-2), at(-1), NOW, at(1), at(20), at(60)];
  const flags = [true, false];
  /** Every combination of facts that a certificate can have: only one that never issued has no end. */
  const everything = function* () {
    const issued = new Set(["Active", "Expiring", "Expired", "Revoked"]);
    for (const status of CERTIFICATE_STATUSES)
      for (const expires_at of times)
        for (const revoked_at of [null, at(-1)])
          for (const asked_at of times)
            for (const last_failed of flags) {
              if (expires_at === null && (issued.has(status) || revoked_at !== null)) continue;
              yield { ...LIVE, status, expires_at, revoked_at, revocation_noted_at: revoked_at, asked_at, last_failed };
            }
  };

  it("hold whatever the facts, and each can happen", () => {
    const seen = new Map(CERTIFICATE_STATUSES.map((status) => [status, new Set<string>()]));
    for (const facts of everything()) {
      // A failure is that of a renewal, which the certificate shows until then.
      if (facts.status === "Failed" && facts.expires_at === null && facts.asked_at === null && !facts.last_failed)
        continue;
      seen.get(facts.status)?.add(nextStatus(facts, NOW));
    }
    for (const status of CERTIFICATE_STATUSES) {
      const possible = [...TRANSITIONS[status]].filter((next) => next !== "Archived");
      expect([...(seen.get(status) ?? [])].filter((next) => next !== status).sort(), status).toEqual(possible.sort());
    }
  });

  it("every status but the final one may be archived", () => {
    const open = CERTIFICATE_STATUSES.filter((status) => TRANSITIONS[status].length > 0);
    expect(open).toEqual(CERTIFICATE_STATUSES.filter((status) => status !== "Archived"));
    for (const status of open) expect(TRANSITIONS[status]).toContain("Archived");
  });

  it("refuses what cannot follow", () => {
    expect(() => nextStatus({ ...FRESH, status: "Active" }, NOW)).toThrow("does not go from Active to Pending");
  });

  it("are those that the documentation shows", () => {
    const page = readFileSync("docs/architecture.md", "utf8");
    for (const [status, next] of Object.entries(TRANSITIONS))
      expect(page).toContain(`| ${status} | ${next.join(", ") || "final"} |`);
  });
});
