import { WorkerEntrypoint } from "cloudflare:workers";
export class PublicPki extends WorkerEntrypoint {}
