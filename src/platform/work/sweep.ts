import type { Context } from "../context.ts";
import type { Schedule } from "./schedule.ts";
import type { Rest, WorkKind, WorkKinds } from "./work.ts";

/**
 * One slice of a sweep: handles what is due after `cursor`. Returns the cursor of the next slice, or null at the end;
 * or a cursor with the seconds to wait before the next slice.
 */
export type SweepStep = (ctx: Context, cursor: string | null) => Promise<string | null | Paused>;

export interface Paused {
  readonly cursor: string | null;
  readonly inSeconds: number;
}

/** The work kind of a sweep, which is also its row's id. */
export const sweepKind = (name: string): string => `sweep.${name}`;

/** A sweep as recurring work: its row stores the cursor. Missed, duplicate and overlapping ticks are harmless. */
export function sweep(
  name: string,
  schedule: Schedule,
  step: SweepStep,
  options: Pick<WorkKind, "whenFull"> = {},
): WorkKinds {
  const run: WorkKind["run"] = async (ctx, { cursor }) =>
    restOf(await step(ctx, cursor == null ? null : String(cursor)));
  return { [sweepKind(name)]: { run, schedule, timeoutSeconds: 45, atOnce: 1, ...options } };
}

function restOf(next: string | null | Paused): Rest {
  if (next === null) return { payload: {}, inSeconds: null };
  const { cursor, inSeconds } = typeof next === "string" ? { cursor: next, inSeconds: 0 } : next;
  return { payload: { cursor }, inSeconds };
}
