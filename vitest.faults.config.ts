import { defineConfig } from "vitest/config";

/** Crash tests: one after the other, against `npm start` on a state directory that survives every kill. */
export default defineConfig({
  test: { include: ["test/faults/**/*.test.ts"], testTimeout: 1_800_000, hookTimeout: 120_000, fileParallelism: false },
});
