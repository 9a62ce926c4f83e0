import { expect, test } from "vitest";
import { TableRouter } from "../../worker/router.ts";

/** What is found: each handler's name with its parameters. */
function look(router: TableRouter<string>, method: string, path: string) {
  const [handlers, values = []] = router.match(method, path) as [[string, Record<string, number>][], string[]?];
  return handlers.map(([name, at]) => [
    name,
    Object.fromEntries(Object.entries(at).map(([key, index]) => [key, values[index]])),
  ]);
}

function routerOf(...added: [method: string, path: string, name: string][]) {
  const router = new TableRouter<string>();
  for (const one of added) router.add(...one);
  return router;
}

test("a path is found by its literals before its parameters, whichever was added first", () => {
  const router = routerOf(["GET", "/a/:id", "one"], ["GET", "/a/all", "all"], ["GET", "/a/:id/b/:other", "deep"]);
  expect(look(router, "GET", "/a/7")).toEqual([["one", { id: "7" }]]);
  expect(look(router, "GET", "/a/all")).toEqual([["all", {}]]);
  expect(look(router, "GET", "/a/all/b/x")).toEqual([["deep", { id: "all", other: "x" }]]);
});

test("a literal that has not the method gives way to a parameter that has", () => {
  const router = routerOf(
    ["GET", "/a/all", "all"],
    ["PUT", "/a/:id", "put"],
    ["GET", "/a/b/c", "abc"],
    ["GET", "/:x/:y/d", "xyd"],
  );
  expect(look(router, "PUT", "/a/all")).toEqual([["put", { id: "all" }]]);
  expect(look(router, "GET", "/a/b/d")).toEqual([["xyd", { x: "a", y: "b" }]]);
  expect(look(router, "POST", "/a/all")).toEqual([]);
});

test("what is there for every path comes in the order in which it was added, for its method", () => {
  const router = routerOf(
    ["ALL", "/*", "first"],
    ["OPTIONS", "/*", "options"],
    ["GET", "/a", "a"],
    ["GET", "/:id", "id"],
    ["GET", "/a", "again"],
  );
  expect(look(router, "GET", "/a").map(([name]) => name)).toEqual(["first", "a", "again"]);
  expect(look(router, "GET", "/b")).toEqual([
    ["first", { id: "b" }],
    ["id", { id: "b" }],
  ]);
  expect(look(router, "OPTIONS", "/nowhere").map(([name]) => name)).toEqual(["first", "options"]);
  for (const method of ["PURGE", "__proto__"])
    expect(look(router, method, "/a").map(([name]) => name)).toEqual(["first"]);
});

test("an empty segment, a slash more or less and another case are other paths", () => {
  const router = routerOf(["GET", "/", "root"], ["GET", "/a/:id", "one"], ["GET", "/b", "b"]);
  expect(look(router, "GET", "/")).toEqual([["root", {}]]);
  for (const path of ["", "/a", "/a/", "/a//", "//a/x", "/a/x/", "/b/", "/B", "/constructor"])
    expect([path, look(router, "GET", path)]).toEqual([path, []]);
});

test("nothing is added once something was looked for", () => {
  const router = routerOf(["GET", "/a", "a"]);
  router.match("GET", "/a");
  expect(() => router.add("GET", "/b", "b")).toThrow(/once one was looked for/);
});
