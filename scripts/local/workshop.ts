import { prepareDatabase } from "./database.ts";
import type { Work } from "./errand.ts";
import { reasonOf } from "./log.ts";
import { planWorker } from "./runtime.ts";

/** The process of `runErrand`: it has Miniflare in memory, does one thing and ends. */
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
