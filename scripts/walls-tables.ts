/**
 * A table belongs to the wing whose table file declares it: no other wing names it, not in SQL text either. The owners are found
 * from the `sqliteTable(...)` calls, never listed. A foreign key (`rowOf("certificates")`) is the one exception: the schema is one,
 * and a table file says what its columns point to.
 */
import ts from "typescript";

export interface Violation {
  readonly rule: string;
  readonly from: string;
  /** Of the rules here: the table that is named, with the line. */
  readonly to: string;
}

export const TABLE_RULES = ["tables-stay-in-their-wing", "tables-live-in-table-files"] as const;

/** Path below the project to text. */
export type Sources = Readonly<Record<string, string>>;

const TABLE_FILE = /\/tables?\.ts$/;
/** What is called with the name of a table. */
const NAMES_TABLE = /^(sqliteTable|rowOf|rowExists|noRow|sql\.identifier|sql\.raw)$/;
const CLAUSE = /\b(?:from|join|into|update|table|exists)\s+["`]?([a-z_]+)/gi;

/** `src/identity/oidc/api.ts` is in identity; what is not in src is in its first folder. */
const wingOf = (path: string): string => /^src\/([^/]+)\//.exec(path)?.[1] ?? path.split("/")[0] ?? "";

const calls = (node: ts.CallExpression, name: string): boolean => node.expression.getText() === name;

/** Every node below `node` and itself; `each` answers false where it has seen all that is below. */
function visit(node: ts.Node, each: (node: ts.Node) => unknown): void {
  if (each(node) !== false) ts.forEachChild(node, (child) => visit(child, each));
}

/** The wing of each table, by the table's name. */
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

/** The words of an SQL text that may be a table's name: not those in quotes. */
const wordsOf = (text: string): string[] => text.replaceAll(/'[^']*'/g, "''").match(/[a-z_][a-z0-9_]*/gi) ?? [];

const isTemplatePart = (node: ts.Node): node is ts.TemplateLiteralLikeNode =>
  ts.isNoSubstitutionTemplateLiteral(node) || ts.isTemplateHead(node) || ts.isTemplateMiddleOrTemplateTail(node);

/** Whether a part of a template belongs to one that `sql` tags. */
function isSql(part: ts.Node): boolean {
  let node: ts.Node = part;
  while (ts.isTemplateSpan(node) || ts.isTemplateExpression(node) || isTemplatePart(node)) node = node.parent;
  return ts.isTaggedTemplateExpression(node) && /^sql\b/.test(node.tag.getText());
}

/** The tables that a node names, whoever owns them. */
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

/** A rules file that hands a table on makes it everybody's: `export { certificates } from "./table.ts"`. */
function handsOnTable(node: ts.Node, owned: ReadonlySet<string>): string[] {
  if (!ts.isExportDeclaration(node) || node.isTypeOnly) return [];
  const from = node.moduleSpecifier && ts.isStringLiteral(node.moduleSpecifier) ? node.moduleSpecifier.text : "";
  if (!node.exportClause || !ts.isNamedExports(node.exportClause)) return TABLE_FILE.test(from) ? [from] : [];
  return node.exportClause.elements
    .filter((element) => !element.isTypeOnly)
    .map((element) => (element.propertyName ?? element.name).text)
    .filter((name) => owned.has(name));
}

/** The names under which the table files of a wing export its tables. */
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

/** What the product's sources break, and how many tables were found in them. */
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

/** Each way to name another wing's table. */
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
