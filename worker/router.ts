/** The handlers of one method and path; each maps parameter names to indexes into the values. */
type Handlers<T> = [T, Record<string, number>][];

/** Hono's result type: the handlers and the parameter values. */
type Result<T> = [Handlers<T>, string[]];

/** One segment of the path tree. */
interface Node<T> {
  readonly literals: Map<string, Node<T>>;
  parameter: Node<T> | null;
  /** Handlers of the path that ends here, by method. */
  readonly handlers: Map<string, Handlers<T>>;
}

interface Added<T> {
  readonly method: string;
  readonly path: string;
  readonly handler: T;
}

const ANY = "ALL";
const NOTHING: string[] = [];

/**
 * Router for Hono, backed by a table compiled at the first request. A path consists of whole segments, each a literal
 * or a parameter (`:id`); `*` matches every path. Paths without parameters are a single map lookup. If several patterns
 * match, a literal wins over a parameter. (Hono's RegExpRouter does not support overlapping patterns, and its
 * TrieRouter walks the tree for every request.)
 */
export class TableRouter<T> {
  readonly name = "TableRouter";
  readonly #added: Added<T>[] = [];
  #root: Node<T> | null = null;
  /** By method, then path. */
  readonly #fixed = new Map<string, Map<string, Result<T>>>();
  /** Handlers that match every path, by method. */
  readonly #everywhere = new Map<string, Result<T>>();

  add(method: string, path: string, handler: T): void {
    if (this.#root) throw new Error("no route can be added once one was looked for");
    this.#added.push({ method, path: path === "/*" ? "*" : path, handler });
  }

  match(method: string, path: string): Result<T> {
    const root = this.#root ?? this.#compile();
    const fixed = this.#fixed.get(method)?.get(path);
    if (fixed) return fixed;
    const values: string[] = [];
    const handlers = find(root, path, 1, method, values);
    return handlers ? [handlers, values] : this.#everywhereFor(method);
  }

  #everywhereFor(method: string): Result<T> {
    const known = this.#everywhere.get(method);
    if (known) return known;
    const result: Result<T> = [this.#handlersOf(method, "*", []), NOTHING];
    // Clients may invent methods, so only known ones are cached.
    if (this.#added.some((one) => one.method === method)) this.#everywhere.set(method, result);
    return result;
  }

  #compile(): Node<T> {
    const root = newNode<T>();
    for (const { method, path } of this.#added) {
      if (path === "*") continue;
      const segments = path.split("/").slice(1);
      const names = segments.filter((segment) => segment.startsWith(":")).map((segment) => segment.slice(1));
      const handlers = this.#handlersOf(method, path, names);
      if (names.length === 0) {
        const ofMethod = this.#fixed.get(method) ?? new Map<string, Result<T>>();
        this.#fixed.set(method, ofMethod.set(path, [handlers, NOTHING]));
      } else nodeAt(root, segments).handlers.set(method, handlers);
    }
    this.#root = root;
    return root;
  }

  /** Matching handlers in order of registration. */
  #handlersOf(method: string, path: string, names: readonly string[]): Handlers<T> {
    const indices = Object.fromEntries(names.map((name, at) => [name, at]));
    return this.#added
      .filter((one) => (one.method === method || one.method === ANY) && (one.path === path || one.path === "*"))
      .map((one) => [one.handler, indices]);
  }
}

function newNode<T>(): Node<T> {
  return { literals: new Map(), parameter: null, handlers: new Map() };
}

function nodeAt<T>(root: Node<T>, segments: readonly string[]): Node<T> {
  let node = root;
  for (const segment of segments) {
    const isParameter = segment.startsWith(":");
    const next = (isParameter ? node.parameter : node.literals.get(segment)) ?? newNode<T>();
    if (isParameter) node.parameter = next;
    else node.literals.set(segment, next);
    node = next;
  }
  return node;
}

/** Finds the handlers for the rest of a path, starting at `at`; appends parameter values to `values`. */
function find<T>(node: Node<T>, path: string, at: number, method: string, values: string[]): Handlers<T> | null {
  if (at > path.length) return node.handlers.get(method) ?? null;
  const slash = path.indexOf("/", at);
  const end = slash < 0 ? path.length : slash;
  const segment = path.slice(at, end);
  const literal = node.literals.get(segment);
  const found = literal ? find(literal, path, end + 1, method, values) : null;
  if (found || !node.parameter || segment === "") return found;
  values.push(segment);
  const behind = find(node.parameter, path, end + 1, method, values);
  if (!behind) values.pop();
  return behind;
}
