import { makeOutbound } from "../../scripts/local/outbound.ts";
import type { Project } from "../../scripts/local/project.ts";
import { planWorker, type WorkerStart } from "../../scripts/local/runtime.ts";
import type { Places } from "../../scripts/local/settings.ts";
import { type Runtime, runWorkerd } from "../../scripts/local/workerd.ts";
import { type IpRange, parseRanges } from "../../src/platform/settings.ts";

/** Plans and runs a bundled Worker in this process, as `npm start` does in two; it sees what `npm start` shows where told so. */
export async function startWorker(
  project: Project,
  places: Places,
  { script, vars, asProduct = false }: Pick<WorkerStart, "script" | "vars"> & { readonly asProduct?: boolean },
): Promise<Runtime> {
  const plan = await planWorker(project, places, { script, vars, targetsAsSent: asProduct, storage: asProduct });
  const outbound = makeOutbound({ allow: parseRanges(vars.OUTBOUND_ALLOW ?? "") as readonly IpRange[] });
  return await runWorkerd(plan, { outbound, isStorageFull: asProduct ? () => false : null });
}
