/**
 * A table belongs to the wing whose table file declares it; no other wing may name it, not even in SQL text. The owners
 * are read from the `sqliteTable(...)` calls, never listed. The one exception is a foreign key
 * (`rowOf("certificates")`): the schema is shared, and a table file declares what its columns reference.
 */
import ts from "typescript";

export interface Violation {
  readonly rule: string;
  readonly from: string;
  /** For table rules: the table that is named, with the line. */
  readonly to: string;
}

export const TABLE_RULES = ["tables-stay-in-their-wing", "tables-live-in-table-files"] as const;

/** Source text by path relative to the project. */
export type Sources = Readonly<Record<string, string>>;

const TABLE_FILE = /\/tables?\.ts$/;
/** Functions that take a table's name as their argument. */
const NAMES_TABLE = /^(sqliteTable|rowOf|rowExists|noRow|sql\.identifier|sql\.raw)$/;
const CLAUSE = /\b(?:from|join|into|update|table|exists)\s+["`]?([a-z_]+)/gi;

/** The wing of a path: `src/identity/oidc/api.ts` is in identity; outside src it is the first folder. */
const wingOf = (path: string): string => /^src\/([^/]+)\//.exec(path)?.[1] ?? path.split("/")[0] ?? "";

const calls = (node: ts.CallExpression, name: string): boolean => node.expression.getText() === name;

/** Visits `node` and every node below it; `each` returns false to skip the children. */
function visit(node: ts.Node, each: (node: ts.Node) => unknown): void {
  if (each(node) !== false) ts.forEachChild(node, (child) => visit(child, each));
}

/** The wing of each table, by table name. */
function ownersIn(files: readonly ts.SourceFile[], violations: Violation[]): Map<string, string> {
  const owners = new Map<string, string>();
  for (const file of files) {
    visit(file, (node) => {
      if (!ts.isCallExpression(node) || !calls(node, "sqliteTable")) return;
      const [name] = node.arguments;
      if (!name || !ts.isStringLiteral(name)) return;
      owners.set(name.text, wingOf(file.fileName));
      if (!TABLE_FILE.test(file.fileName))
        violations.push({ rule: "tables-live-in-table-files", from: file.fileName, to: name.text });
    });
  }
  return owners;
}

/** The words of an SQL text that may be table names: those outside quotes. */
const wordsOf = (text: string): string[] => text.replaceAll(/'[^']*'/g, "''").match(/[a-z_][a-z0-9_]*/gi) ?? [];

const isTemplatePart = (node: ts.Node): node is ts.TemplateLiteralLikeNode =>
  ts.isNoSubstitutionTemplateLiteral(node) || ts.isTemplateHead(node) || ts.isTemplateMiddleOrTemplateTail(node);

/** Whether a node is a part of a template tagged with `sql`. */
function isSql(part: ts.Node): boolean {
  let node: ts.Node = part;
  while (ts.isTemplateSpan(node) || ts.isTemplateExpression(node) || isTemplatePart(node)) node = node.parent;
  return ts.isTaggedTemplateExpression(node) && /^sql\b/.test(node.tag.getText());
}

/** The tables that a node names, regardless of owner. */
function namedBy(node: ts.Node): string[] {
  if (isTemplatePart(node) && isSql(node)) return wordsOf(node.text);
  if (ts.isPropertyAssignment(node) && node.name.getText() === "table" && ts.isStringLiteralLike(node.initializer))
    return [node.initializer.text];
  if (ts.isCallExpression(node) && NAMES_TABLE.test(node.expression.getText())) {
    if (calls(node, "rowOf") && TABLE_FILE.test(node.getSourceFile().fileName)) return [];
    const texts = node.arguments.filter((one) => ts.isStringLiteralLike(one)).map((one) => one.text);
    return calls(node, "sql.raw") ? texts.flatMap(wordsOf) : texts;
  }
  if (ts.isStringLiteral(node) || isTemplatePart(node))
    return [...node.text.matchAll(CLAUSE)].map((match) => match[1] ?? "");
  return [];
}

/**
 * A rules file must not re-export a table, which would open it to every wing: `export { certificates } from
 * "./table.ts"`.
 */
function handsOnTable(node: ts.Node, owned: ReadonlySet<string>): string[] {
  if (!ts.isExportDeclaration(node) || node.isTypeOnly) return [];
  const from = node.moduleSpecifier && ts.isStringLiteral(node.moduleSpecifier) ? node.moduleSpecifier.text : "";
  if (!node.exportClause || !ts.isNamedExports(node.exportClause)) return TABLE_FILE.test(from) ? [from] : [];
  return node.exportClause.elements
    .filter((element) => !element.isTypeOnly)
    .map((element) => (element.propertyName ?? element.name).text)
    .filter((name) => owned.has(name));
}

/** The names under which a wing's table files export its tables. */
function tableNamesOf(files: readonly ts.SourceFile[], wing: string): Set<string> {
  const names = new Set<string>();
  for (const file of files.filter((one) => wingOf(one.fileName) === wing)) {
    visit(file, (node) => {
      const made = ts.isVariableDeclaration(node) && node.initializer;
      if (made && ts.isCallExpression(made) && calls(made, "sqliteTable")) names.add(node.name.getText());
    });
  }
  return names;
}

/** The violations in the product's sources, and the number of tables found. */
export function tableViolations(sources: Sources): { tables: number; violations: Violation[] } {
  const files = Object.entries(sources).map(([path, text]) =>
    ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true),
  );
  const violations: Violation[] = [];
  const owners = ownersIn(files, violations);
  for (const file of files) {
    const wing = wingOf(file.fileName);
    const own = TABLE_FILE.test(file.fileName) ? new Set<string>() : tableNamesOf(files, wing);
    visit(file, (node) => {
      const foreign = namedBy(node).filter((name) => (owners.get(name) ?? wing) !== wing);
      for (const name of [...new Set(foreign), ...handsOnTable(node, own)]) {
        const line = file.getLineAndCharacterOfPosition(node.getStart()).line + 1;
        violations.push({ rule: "tables-stay-in-their-wing", from: file.fileName, to: `${name} (line ${line})` });
      }
    });
  }
  return { tables: owners.size, violations };
}

const DECLARED = {
  "src/inventory/certificates/table.ts": `import { sqliteTable } from "drizzle-orm/sqlite-core";
export const certificates = sqliteTable("certificates", {});
`,
};
const planted = (path: string, text: string) => ({
  rule: "tables-stay-in-their-wing",
  files: {
    ...DECLARED,
    [path]: `import { sql } from "drizzle-orm";\nexport const x = ${text};\nexport const y = sql;\n`,
  },
});

/** One plant for each way to name another wing's table. */
export const TABLE_PLANTS = [
  planted("src/lifecycle/jobs.ts", "sql`select 1 from certificates where id = 1`"),
  planted(
    "src/lifecycle/jobs.ts",
    `sql<number>\`exists (select 1 from \${sql.raw("x")} join certificates c on c.id = 1)\``,
  ),
  planted("src/identity/deep/keys.ts", "sql`owner = certificates.owner_id`"),
  planted("src/platform/a.ts", 'sql.raw("delete from certificates")'),
  planted("src/fleet/a.ts", 'sql.identifier("certificates")'),
  planted("src/fleet/targets.ts", '{ blocks: [{ table: "certificates", column: "target_id" }] }'),
  planted("src/fleet/targets.ts", '{ references: { certificate_id: { table: `certificates`, kind: "certificate" } } }'),
  planted("src/fleet/a.ts", 'rowOf("certificates")'),
  planted("src/identity/a.ts", 'rowExists("certificates", sql`id = 1`)'),
  planted("src/authority/a.ts", "prepare('update certificates set status = ?')"),
  planted("src/authority/a.ts", `prepare(\`select \${x} from "certificates"\`)`),
  planted("worker/system.ts", "sql`select id from certificates`"),
  planted("durable-objects/issuer.ts", "sql`insert into certificates (id) values (1)`"),
  {
    rule: "tables-stay-in-their-wing",
    files: {
      ...DECLARED,
      "src/inventory/certificates/certificates.ts": 'export { certificates as rows } from "./table.ts";\n',
    },
  },
  {
    rule: "tables-stay-in-their-wing",
    files: { ...DECLARED, "src/inventory/certificates/certificates.ts": 'export * from "./table.ts";\n' },
  },
  {
    rule: "tables-live-in-table-files",
    files: { "src/fleet/agents.ts": DECLARED["src/inventory/certificates/table.ts"] },
  },
];
