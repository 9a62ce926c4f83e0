import { DurableObject } from "cloudflare:workers";
export class Issuer extends DurableObject {}
export class Purge extends DurableObject {}
