import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { eventually } from "../e2e/support/shell.ts";
import { Connection } from "../support/connection.ts";
import { type RunningServer, startServer } from "../support/server.ts";
import { crlTask, everyWayToAsk, lifeTask, publicTasks, readTasks, rudeTasks, type Task } from "./tasks.ts";
import { type Leaf, makeWorld, revokeLeaf, type World } from "./world.ts";

/** Leaves of each CA. */
const LEAVES = 12;
/** Connections, and how many tasks they share. */
const LEVELS = [
  { connections: 1, tasks: 700 },
  { connections: 8, tasks: 2_000 },
  { connections: 64, tasks: 3_000 },
  { connections: 256, tasks: 4_000 },
] as const;
/** Of a level's tasks. */
const LIVES = 12;
const BREAK_OFFS = 60;

let server: RunningServer;
let world: World;

beforeAll(async () => {
  server = await startServer();
  world = await makeWorld(server, LEAVES);
  for (const leaf of world.leaves) if (leaf.truth === "revoking") await shows(leaf);
});
afterAll(async () => {
  await server?.stop();
});

/** Does the tasks in turn on so many connections; answers what was wrong. `halfway` runs beside the second half. */
async function doAll(tasks: readonly Task[], connections: number, halfway: () => Promise<void>): Promise<string[]> {
  const wrong: string[] = [];
  let turn = 0;
  let revoking: Promise<void> | null = null;
  const worker = async () => {
    let connection = new Connection(server.port);
    for (let task = tasks[turn++]; task; task = tasks[turn++]) {
      if (turn > tasks.length / 2) revoking ??= halfway();
      if (!connection.usable) connection = new Connection(server.port);
      try {
        await task.run(connection);
      } catch (error) {
        wrong.push(`${task.what}: ${error instanceof Error ? error.message : String(error)}`);
        connection.close();
      }
    }
    connection.close();
  };
  await Promise.all(Array.from({ length: connections }, worker));
  await revoking;
  return wrong;
}

/** As many tasks as asked for, of each kind its share, in an order without a pattern. */
function mixture(count: number): Task[] {
  const rude = rudeTasks(world, () => new Connection(server.port));
  const lives = Array.from({ length: LIVES }, (_, i) => lifeTask(world, i * LEAVES));
  const special = [...lives, ...inTurn(rude, BREAK_OFFS)];
  const reads = Math.floor((count - special.length) / 4);
  const asks = count - special.length - reads;
  return shuffled([...special, ...inTurn(shuffled(readTasks(world)), reads), ...inTurn(publicTasks(world), asks)]);
}

function inTurn(tasks: readonly Task[], count: number): Task[] {
  return Array.from({ length: Math.ceil(count / tasks.length) }, () => tasks)
    .flat()
    .slice(0, count);
}

function shuffled<T>(items: readonly T[]): T[] {
  return items
    .map((item) => ({ item, at: Math.random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item);
}

/** Waits until a revocation shows by every way of asking and on the list: from then on nothing else is right. */
async function shows(leaf: Leaf): Promise<void> {
  leaf.truth = "revoked";
  const connection = new Connection(server.port);
  for (const task of [...everyWayToAsk(leaf), crlTask(world, leaf.ca, [leaf.serial])])
    await eventually(() => task.run(connection));
  connection.close();
}

describe("inv 1, 4, 10: every answer is the right one", () => {
  for (const { connections, tasks } of LEVELS) {
    it(`on ${connections} connections, with a revocation in the middle and clients that break off`, async () => {
      const victims = world.cas.flatMap(
        (ca) => world.leaves.find((leaf) => leaf.ca === ca && leaf.truth === "good") ?? [],
      );
      const revoke = async () => void (await Promise.all(victims.map(revokeLeaf)));
      expect(await doAll(mixture(tasks), connections, revoke)).toEqual([]);
      await Promise.all(victims.map(shows));
    });
  }

  it("and the server has nothing to complain about", () => {
    const complaints = server
      .log()
      .split("\n")
      .filter((line) => !/^(?:$|certctl-edge: migrated: )/.test(line));
    expect(complaints).toEqual([]);
    expect(server.output().trim()).toBe(server.readyLine);
  });
});
