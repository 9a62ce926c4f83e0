/**
 * Compares an OpenAPI document with the wire contract (test/contract/openapi.contract.json). Each operation becomes a
 * flat table of facts; ours may have more of everything, but must have each fact of the contract's. Enumerations may
 * have further values, except in `status` and `state`, which are exact.
 */

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
type Obj = { [key: string]: Json };

/** What one place of a JSON body is said to be; `must` when an object always has it. */
interface Fact {
  readonly types: Set<string>;
  readonly formats: Set<string>;
  readonly values: Set<string>;
  must: boolean;
  hasDefault: boolean;
}
/** Facts by place: `.data[].name`. */
type Facts = Map<string, Fact>;

export interface Deviation {
  readonly operationId: string;
  readonly what: string;
}

const DEEPEST = 8;
const EXACT = /(^|[. ])(status|state)$/;
const CHECKED_FORMATS = new Set(["date-time", "date", "uri"]);

const isObject = (value: Json | undefined): value is Obj =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const object = (value: Json | undefined): Obj => (isObject(value) ? value : {});
const list = (value: Json | undefined): Json[] => (Array.isArray(value) ? value : []);

/** The object that a `$ref` of this document names, or the object itself. */
function follow(document: Obj, value: Json | undefined): Obj {
  let here = object(value);
  for (let hops = 0; typeof here.$ref === "string" && hops < 12; hops++) {
    const steps = here.$ref.slice(2).split("/");
    let next: Json | undefined = document;
    for (const step of steps) next = object(next)[step.replaceAll("~1", "/").replaceAll("~0", "~")];
    here = object(next);
  }
  return here;
}

const emptyFact = (): Fact => ({
  types: new Set(),
  formats: new Set(),
  values: new Set(),
  must: false,
  hasDefault: false,
});

function merge(into: Facts, from: Facts, must: (a: boolean, b: boolean) => boolean): void {
  for (const [place, fact] of from) {
    const known = into.get(place);
    if (!known) {
      into.set(place, fact);
      continue;
    }
    for (const type of fact.types) known.types.add(type);
    for (const format of fact.formats) known.formats.add(format);
    for (const value of fact.values) known.values.add(value);
    known.must = must(known.must, fact.must);
    known.hasDefault ||= fact.hasDefault;
  }
}

/** Flattens a schema: references followed, `allOf` added up, unions read as all that their members may be. */
function factsOf(document: Obj, schema: Json | undefined, place: string, depth = 0): Facts {
  const here = follow(document, schema);
  const facts: Facts = new Map([[place, emptyFact()]]);
  const own = facts.get(place) ?? emptyFact();
  for (const type of Array.isArray(here.type) ? here.type : [here.type]) {
    if (typeof type === "string" && type !== "null") own.types.add(type);
  }
  if (typeof here.format === "string") own.formats.add(here.format);
  const literals = here.const === undefined ? list(here.enum) : [here.const];
  for (const value of literals) {
    if (value === null) continue;
    own.values.add(String(value));
    own.types.add(typeof value);
  }
  own.hasDefault = here.default !== undefined;
  if (depth > DEEPEST) return facts;
  for (const [name, property] of Object.entries(object(here.properties))) {
    const inner = factsOf(document, property, `${place}.${name}`, depth + 1);
    merge(facts, inner, (a, b) => a || b);
  }
  for (const name of list(here.required)) {
    const fact = facts.get(`${place}.${String(name)}`);
    if (fact) fact.must = true;
  }
  if (here.items !== undefined) merge(facts, factsOf(document, here.items, `${place}[]`, depth + 1), (a, b) => a || b);
  for (const part of list(here.allOf)) merge(facts, factsOf(document, part, place, depth + 1), (a, b) => a || b);
  for (const union of [list(here.anyOf), list(here.oneOf)]) {
    const members = union.filter((member) => follow(document, member).type !== "null");
    const all = members.map((member) => factsOf(document, member, place, depth + 1));
    const joined: Facts = new Map();
    for (const member of all) merge(joined, member, (a, b) => a && b);
    for (const [inner, fact] of joined) fact.must &&= all.every((member) => member.has(inner));
    merge(facts, joined, (a, b) => a || b);
  }
  return facts;
}

const covers = (ours: Set<string>, theirs: Set<string>): boolean => [...theirs].every((value) => ours.has(value));

/** What is wrong with `ours` against `theirs`, one line a fact. */
function compareFacts(theirs: Facts, ours: Facts, isAnswer: boolean): string[] {
  const wrong: string[] = [];
  for (const [place, want] of theirs) {
    const got = ours.get(place);
    if (!got) {
      wrong.push(`${place}: absent`);
      continue;
    }
    const types = new Set([...got.types].flatMap((type) => (type === "integer" ? ["integer", "number"] : [type])));
    if (!covers(types, want.types)) wrong.push(`${place}: type ${[...got.types]}, contract ${[...want.types]}`);
    for (const format of want.formats) {
      if (CHECKED_FORMATS.has(format) && !got.formats.has(format)) wrong.push(`${place}: format is not ${format}`);
    }
    const exact = EXACT.test(place) && want.values.size > 0;
    if (!covers(got.values, want.values) || (exact && got.values.size !== want.values.size)) {
      wrong.push(`${place}: values [${[...got.values]}], contract [${[...want.values]}]`);
    }
    if (want.must && !got.must && !(isAnswer && got.hasDefault)) wrong.push(`${place}: not required`);
  }
  return wrong;
}

interface Side {
  readonly document: Obj;
  readonly item: Obj;
  readonly operation: Obj;
}

const isPublic = ({ document, operation }: Side): boolean => list(operation.security ?? document.security).length === 0;

function compareParameters(theirs: Side, ours: Side): string[] {
  const of = (side: Side): Obj[] =>
    [...list(side.item.parameters), ...list(side.operation.parameters)].map((entry) => follow(side.document, entry));
  const mine = of(ours);
  return of(theirs).flatMap((want) => {
    const label = `parameter ${String(want.in)} ${String(want.name)}`;
    const got = mine.find((entry) => entry.in === want.in && (entry.name === want.name || entry.in === "path"));
    if (!got) return [`${label}: absent`];
    const wrong: string[] = [];
    if ((want.required === true) !== (got.required === true)) wrong.push(`${label}: required differs`);
    const [w, g] = [follow(theirs.document, want.schema), follow(ours.document, got.schema)];
    // A flag in a query string is text on the wire.
    if (!(w.type === "boolean" && g.type === "string")) {
      wrong.push(...compareFacts(factsOf(theirs.document, w, label), factsOf(ours.document, g, label), false));
    }
    for (const bound of ["default", "minimum", "maximum"]) {
      if (w[bound] !== undefined && String(g[bound]) !== String(w[bound])) wrong.push(`${label}: ${bound} differs`);
    }
    return wrong;
  });
}

/** Compares the bodies of one message, by media type. */
function compareBodies(theirs: Side, ours: Side, want: Obj, got: Obj, label: string, isAnswer: boolean): string[] {
  return Object.entries(object(want.content)).flatMap(([media, body]) => {
    const mine = object(got.content)[media];
    if (mine === undefined) return [`${label} ${media}: absent`];
    if (media !== "application/json") return [];
    const [w, g] = [object(body).schema, object(mine).schema];
    return compareFacts(factsOf(theirs.document, w, label), factsOf(ours.document, g, label), isAnswer);
  });
}

function compareOperation(theirs: Side, ours: Side): string[] {
  const wrong: string[] = [];
  if (ours.operation.operationId !== theirs.operation.operationId) wrong.push("operationId differs");
  if (isPublic(theirs) !== isPublic(ours)) wrong.push(isPublic(theirs) ? "must be public" : "must need a credential");
  wrong.push(...compareParameters(theirs, ours));
  const [request, mine] = [theirs, ours].map((side) => follow(side.document, side.operation.requestBody));
  wrong.push(...compareBodies(theirs, ours, request ?? {}, mine ?? {}, "request", false));
  for (const [status, response] of Object.entries(object(theirs.operation.responses))) {
    const answer = object(ours.operation.responses)[status];
    if (answer === undefined) wrong.push(`response ${status}: absent`);
    else {
      const [want, got] = [follow(theirs.document, response), follow(ours.document, answer)];
      wrong.push(...compareBodies(theirs, ours, want, got, `response ${status}`, true));
    }
  }
  return wrong;
}

/** Every operation of a document by method and path, the names of path parameters left out. */
function operationsOf(document: Obj): Map<string, Side> {
  const found = new Map<string, Side>();
  for (const [path, item] of Object.entries(object(document.paths))) {
    for (const [method, operation] of Object.entries(object(item))) {
      if (!isObject(operation)) continue;
      found.set(`${method} ${path.replaceAll(/\{[^}]+\}/g, "{}")}`, { document, item: object(item), operation });
    }
  }
  return found;
}

/** The operations of `contract` that `document` has at the same method and path, by their names in the contract. */
export function servedOperations(contract: unknown, document: unknown): string[] {
  const ours = operationsOf(document as Obj);
  return [...operationsOf(contract as Obj)].flatMap(([place, { operation }]) =>
    ours.has(place) ? [String(operation.operationId)] : [],
  );
}

/**
 * How `document` deviates from `contract` in the named operations; empty when it conforms. Throws when a name is not
 * in the contract.
 */
export function deviations(contract: unknown, document: unknown, operationIds: readonly string[]): Deviation[] {
  const theirs = operationsOf(contract as Obj);
  const ours = operationsOf(document as Obj);
  const places = new Map([...theirs].map(([place, side]) => [String(side.operation.operationId), place]));
  return operationIds.flatMap((operationId) => {
    const place = places.get(operationId);
    const want = place === undefined ? undefined : theirs.get(place);
    if (place === undefined || want === undefined) throw new Error(`${operationId} is not in the contract`);
    const got = ours.get(place);
    const wrong = got ? compareOperation(want, got) : [`${place}: absent`];
    return wrong.map((what) => ({ operationId, what }));
  });
}
