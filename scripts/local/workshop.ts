import { prepareDatabase } from "./database.ts";
import type { Work } from "./errand.ts";
import { reasonOf } from "./log.ts";
import { planWorker } from "./runtime.ts";

/** The process that `runErrand` starts: loads Miniflare, does one job and exits. */
process.once("message", async ({ project, places, settings, isMigrated, start }: Work) => {
  try {
    if (!isMigrated) await prepareDatabase(project, places, settings);
    const plan = await planWorker(project, places, start);
    process.send?.({ plan }, () => process.exit(0));
  } catch (error) {
    process.send?.({ failure: reasonOf(error) }, () => process.exit(1));
  }
});
process.once("disconnect", () => process.exit(1));
