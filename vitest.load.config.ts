import { defineConfig } from "vitest/config";

/** Every answer of `npm start` looked at while many ask at once: `npm run test:load`. Nothing is asserted about speed. */
export default defineConfig({
  test: {
    name: "load",
    include: ["test/load/**/*.test.ts"],
    environment: "node",
    testTimeout: 600_000,
    hookTimeout: 300_000,
    fileParallelism: false,
  },
});
