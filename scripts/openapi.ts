import { renameSync, writeFileSync } from "node:fs";
import path from "node:path";
import { openApiDocument } from "../worker/openapi.ts";
import { fail, note } from "./local/log.ts";
import { PROJECT } from "./local/settings.ts";

/** `npm run openapi`: writes openapi.json from the routes themselves. */
try {
  const file = path.join(PROJECT, "openapi.json");
  writeFileSync(`${file}.new`, `${JSON.stringify(openApiDocument(), null, 2)}\n`);
  renameSync(`${file}.new`, file);
  note(`wrote ${file}`);
} catch (error) {
  fail(error);
}
