import path from "node:path";
import ts from "typescript";

/**
 * Finds places where one request could wait for what another one does: a promise, or a function that settles one, kept
 * where both reach it. In workerd such a promise belongs to the request that made it: whoever else awaits it fails ("Cannot
 * perform I/O on behalf of a different request") or hangs when that request ends.
 */
export interface SharedPromise {
  /** Relative to the project. */
  readonly file: string;
  readonly line: number;
  readonly name: string;
}

/** Fields of a Durable Object belong to that object, whose requests share one I/O context. */
const OBJECTS = "durable-objects/";

/** Looks through the files of `program` whose path below `root` begins with one of `folders`. */
export function findSharedPromises(program: ts.Program, root: string, folders: readonly string[]): SharedPromise[] {
  const checker = program.getTypeChecker();
  const found: SharedPromise[] = [];
  for (const source of program.getSourceFiles()) {
    const file = path.relative(root, source.fileName);
    if (!folders.some((folder) => file.startsWith(folder))) continue;
    const visit = (node: ts.Node): void => {
      if (keeps(node, file) && ts.isIdentifier(node.name) && holdsPromise(checker, checker.getTypeAtLocation(node))) {
        const { line } = source.getLineAndCharacterOfPosition(node.getStart());
        found.push({ file, line: line + 1, name: node.name.text });
      }
      ts.forEachChild(node, visit);
    };
    visit(source);
  }
  return found;
}

/** Variables of a module, fields of a class, and what a closure may keep: collections and variables that change. */
function keeps(node: ts.Node, file: string): node is ts.VariableDeclaration | ts.PropertyDeclaration {
  if (ts.isPropertyDeclaration(node)) return !file.startsWith(OBJECTS);
  if (!ts.isVariableDeclaration(node)) return false;
  const list = node.parent;
  if (ts.isSourceFile(list.parent.parent)) return true;
  if (file.startsWith(OBJECTS) || !ts.isVariableDeclarationList(list)) return false;
  const changes = (list.flags & ts.NodeFlags.Const) === 0;
  return changes || (node.initializer !== undefined && ts.isNewExpression(node.initializer));
}

/** Whether a value of the type has a promise, or a function that settles one, among its data. */
function holdsPromise(checker: ts.TypeChecker, type: ts.Type, kept = false, seen = new Set<ts.Type>()): boolean {
  if (seen.has(type)) return false;
  seen.add(type);
  if (type.isUnionOrIntersection()) return type.types.some((part) => holdsPromise(checker, part, kept, seen));
  if (type.getProperty("then")) return true;
  const calls = type.getCallSignatures();
  if (calls.length > 0) return kept && calls.every((call) => call.getReturnType().flags & ts.TypeFlags.Void);
  const parts = checker.getTypeArguments(type as ts.TypeReference);
  if (parts.some((part) => holdsPromise(checker, part, true, seen))) return true;
  return type
    .getProperties()
    .filter((property) => property.declarations?.some(isOurs))
    .some((property) => holdsPromise(checker, checker.getTypeOfSymbol(property), false, seen));
}

/** A field that the project declares: what libraries and the runtime keep inside is theirs. */
function isOurs(declaration: ts.Declaration): boolean {
  if (ts.isMethodSignature(declaration) || ts.isMethodDeclaration(declaration)) return false;
  return !declaration.getSourceFile().fileName.includes("/node_modules/");
}
