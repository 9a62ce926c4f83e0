import { makeApp } from "./app.ts";
import { tick } from "./cron.ts";
import { makeDoor } from "./door.ts";
import { PublicPki } from "./public-pki.ts";
import { consume } from "./queue.ts";

export { Issuer } from "../durable-objects/issuer.ts";
export { Once } from "../durable-objects/once.ts";
export { Purge } from "../durable-objects/purge.ts";
export { Session } from "../durable-objects/session.ts";
export { Writer } from "../durable-objects/writer.ts";
export { Inventory } from "./inventory.ts";
export { PublicPki };

export default { fetch: makeDoor(makeApp()), queue: consume, scheduled: tick };
