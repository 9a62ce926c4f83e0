import { describe, expect, it } from "vitest";
import { may, mustHold, type ObjectScope, type Where } from "../../src/platform/access.ts";
import { type Actor, type EffectivePermission, SYSTEM_ACTOR } from "../../src/platform/context.ts";

const actor = (...permissions: EffectivePermission[]): Actor => ({
  id: "a",
  type: "User",
  tenant_id: "t-default",
  roles: [],
  permissions,
});

const held = {
  everywhere: actor({ permission: "cert.read", scope_type: "global" }),
  forProfile: actor({ permission: "cert.read", scope_type: "profile", scope_id: "x" }),
  forIssuer: actor({ permission: "cert.read", scope_type: "issuer", scope_id: "x" }),
  another: actor({ permission: "cert.issue", scope_type: "global" }),
  ourOwn: SYSTEM_ACTOR,
};

const PLACES: readonly [string, Where | null][] = [
  ["everywhere", "everywhere"],
  ["somewhere", "somewhere"],
  ["profile x", { profile_id: "x" } satisfies ObjectScope],
  ["issuer x", { profile_id: "y", issuer_id: "x" }],
  ["nowhere", {}],
  ["absent", null],
];

describe("inv 7: a permission", () => {
  it.each([
    ["everywhere", "held", "held", "held", "held", "held", "held"],
    ["forProfile", "everywhere", "held", "held", "scope", "scope", "scope"],
    ["forIssuer", "everywhere", "held", "scope", "held", "scope", "scope"],
    ["another", "lacks", "lacks", "lacks", "lacks", "lacks", "lacks"],
    ["ourOwn", "held", "held", "held", "held", "held", "held"],
  ] as const)("%s", (who, ...expected) => {
    const ERRORS: Record<string, [string, string] | null> = {
      held: null,
      lacks: ["forbidden", "this needs the permission cert.read"],
      everywhere: ["out_of_scope", "this needs the permission cert.read everywhere, not for a profile or issuer"],
      scope: ["out_of_scope", "this needs the permission cert.read for this object's profile or issuer"],
    };
    for (const [at, [name, where]] of PLACES.entries()) {
      const wanted = ERRORS[String(expected[at])] ?? null;
      expect(refusal(held[who], where), name).toEqual(wanted);
      if (where !== null) expect(may(held[who], "cert.read", where), name).toBe(wanted === null);
    }
  });
});

function refusal(who: Actor, where: Where | null): [string, string] | null {
  try {
    mustHold(who, "cert.read", where);
    return null;
  } catch (error) {
    const { code, message } = error as Error & { code: string };
    return [code, message];
  }
}
