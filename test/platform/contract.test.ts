import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { openApiDocument } from "../../worker/openapi.ts";
import { deviations, servedOperations } from "../support/contract.ts";

const read = (name: string): string => readFileSync(new URL(`../contract/${name}`, import.meta.url), "utf8");
const contract: unknown = JSON.parse(read("openapi.contract.json"));
/** The document as a client gets it. */
const ours: unknown = JSON.parse(JSON.stringify(openApiDocument()));
/** Found, not listed: that nothing goes missing is what the rows of test/support/matrix.ts are for. */
const operations = servedOperations(contract, ours);

describe("the wire contract", () => {
  it("names the operations that are served, none twice", () => {
    expect(operations).toEqual(expect.arrayContaining(["createTeam", "listTeams", "getTeam"]));
    expect(new Set(operations).size).toBe(operations.length);
  });

  it("conforms to itself", () => {
    expect(deviations(contract, contract, operations)).toEqual([]);
  });

  it("tells a missing operation, a missing property and a changed status apart", () => {
    const changed = structuredClone(contract) as {
      paths: Record<string, Record<string, { responses: Record<string, unknown> }>>;
    };
    delete changed.paths["/api/v1/teams"]?.post;
    delete changed.paths["/api/v1/teams"]?.get?.responses["200"];
    const found = deviations(contract, changed, ["createTeam", "listTeams", "getTeam"]);
    expect(found.map(({ operationId, what }) => `${operationId} ${what}`)).toEqual([
      "createTeam post /api/v1/teams: absent",
      "listTeams response 200: absent",
    ]);
  });

  for (const operationId of operations) {
    it(`${operationId} conforms`, () => {
      expect(deviations(contract, ours, [operationId]).map(({ what }) => what)).toEqual([]);
    });
  }
});
