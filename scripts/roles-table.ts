import { readFileSync, renameSync, writeFileSync } from "node:fs";
import path from "node:path";
import { BUILTIN_ROLES, PERMISSION_LIST } from "../src/identity/permissions.ts";
import { fail, note } from "./local/log.ts";
import { PROJECT } from "./local/settings.ts";

const PAGE = path.join(PROJECT, "docs/identity.md");
const BEGIN = "<!-- roles: written by scripts/roles-table.ts -->\n";
const END = "<!-- end of roles -->";

/** The page with its roles table rebuilt from the catalogue. Throws if the page has no markers for it. */
export function withRolesTable(page: string): string {
  const from = page.indexOf(BEGIN);
  const to = page.indexOf(END);
  if (from < 0 || to < from) throw new Error(`docs/identity.md has no place for the table: ${BEGIN.trim()} ... ${END}`);
  return `${page.slice(0, from)}${BEGIN}\n${rolesTable()}\n${page.slice(to)}`;
}

/** Markdown: the purpose of each built-in role, then a row per namespace with each role's actions. */
function rolesTable(): string {
  const namespaces = [...new Set(PERMISSION_LIST.map(({ namespace }) => namespace))];
  const purposes = BUILTIN_ROLES.map(({ id, name, description }) => row([`\`${id}\``, name, description]));
  const permissions = namespaces.map((namespace) =>
    row([`\`${namespace}.\``, ...BUILTIN_ROLES.map((role) => actionsOf(namespace, role.permissions))]),
  );
  return [
    row(["role", "name", "for"]),
    row(["---", "---", "---"]),
    ...purposes,
    "",
    row(["permission", ...BUILTIN_ROLES.map(({ id }) => `\`${id}\``)]),
    row(["---", ...BUILTIN_ROLES.map(() => "---")]),
    ...permissions,
    "",
  ].join("\n");
}

/** The actions of a namespace that a role permits. */
function actionsOf(namespace: string, held: readonly string[]): string {
  const all = PERMISSION_LIST.filter((permission) => permission.namespace === namespace);
  const has = all.filter(({ name }) => held.includes(name)).map(({ name }) => name.slice(namespace.length + 1));
  return has.join(", ");
}

function row(cells: readonly string[]): string {
  return `| ${cells.join(" | ")} |`;
}

/** `node scripts/roles-table.ts`: writes the table into docs/identity.md. */
if (process.argv[1] === import.meta.filename) {
  try {
    writeFileSync(`${PAGE}.new`, withRolesTable(readFileSync(PAGE, "utf8")));
    renameSync(`${PAGE}.new`, PAGE);
    note(`wrote ${PAGE}`);
  } catch (error) {
    fail(error);
  }
}
