import { defineConfig } from "vitest/config";

/** Parsers on mutated real inputs: `npm run fuzz`; `FUZZ_RUNS=1000000 npm run fuzz` for a long one by hand. */
export default defineConfig({
  test: { name: "fuzz", environment: "node", include: ["test/fuzz/**/*.test.ts"], testTimeout: 3_600_000 },
});
