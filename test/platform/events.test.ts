import { execFileSync } from "node:child_process";
import { describe, expect, test } from "vitest";
import { EVENTS } from "../../src/platform/events.ts";

describe("the catalogue of events", () => {
  test("has each action in the form of its resource, and none that nothing records", () => {
    for (const action of Object.keys(EVENTS)) expect(action).toMatch(/^[a-z_]+(?:\.[a-z_]+){1,2}$/);
    const source = execFileSync("grep", ["-rhoE", "--include=*.ts", '"[a-z_.]+"', "src", "worker"], {
      encoding: "utf8",
    });
    // Jobs and break-glass events put their verbs in by a template.
    const templates = /^(?:job|auth\.breakglass)\./;
    const unused = Object.keys(EVENTS).filter(
      (action) =>
        !templates.test(action) && source.split("\n").filter((line) => line.slice(1, -1) === action).length < 2,
    );
    expect(unused).toEqual([]);
  });
});
