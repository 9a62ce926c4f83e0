import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { Room } from "../../src/platform/room.ts";

beforeEach(() => void vi.useFakeTimers({ toFake: ["Date"], now: 0 }));
afterEach(() => void vi.useRealTimers());

const [a, b, c] = [Symbol("a"), Symbol("b"), Symbol("c")];

it("has so many places, in the order in which they were taken", () => {
  const room = new Room(2, 1_000);
  expect(room.isEmpty()).toBe(true);
  expect([room.enter(a), room.enter(b), room.enter(c), room.enter(a)]).toEqual([true, true, false, true]);
  expect([room.isFirst(a), room.isFirst(b), room.isFirst(c)]).toEqual([true, false, false]);
  room.leave(a);
  expect([room.isFirst(b), room.enter(c), room.isEmpty()]).toEqual([true, true, false]);
});

it("gives away the place of a holder that does not come back, and no other", () => {
  const room = new Room(2, 1_000);
  room.enter(a);
  room.enter(b);
  vi.setSystemTime(900);
  room.enter(b);
  vi.setSystemTime(1_001);
  expect([room.isFirst(b), room.enter(c), room.enter(a)]).toEqual([true, true, false]);
});
