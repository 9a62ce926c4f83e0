import type { Bytes } from "../../../pki/bytes.ts";
import { describeError } from "../../../platform/log.ts";
import { listModified } from "../../ledger-places.ts";
import { publicationsHere } from "../../ledger-publications.ts";
import { type Asked, askedAt, REPEAT_MS } from "./answers.ts";
import { BoundedMap, type PublicContext } from "./context.ts";

/** A published list with its HTTP metadata. Times are Unix milliseconds. */
export interface List {
  readonly etag: string;
  /** From `listModified`: may be briefly in the future. */
  readonly modified: number;
  /** Null if the stored list lacks it. */
  readonly nextUpdate: number | null;
  /** Bytes. */
  readonly size: number;
  /** DER; null if not requested. */
  readonly body: Bytes | ReadableStream | null;
}

interface Kept {
  readonly list: List;
  /** When storage was read: this was then the published list. */
  readonly asked: Asked;
  /** `publicationsHere` when storage was read; if it has changed since, storage is read again. */
  readonly publications: number;
  /** From then on one request reads the list again while the others use this one; Infinity while that request runs. */
  renewFrom: number;
}

/** Larger lists are read from storage each time. */
const MAX_BYTES = 256 * 1024;
const MAX_LISTS = 64;
const RENEW_MS = REPEAT_MS / 2;

/** The lists that an isolate repeats, by key: values only, at most 64 of 256 KiB, each for two seconds. */
const lists = new BoundedMap<Kept>(MAX_LISTS);
/** The published list at `key`; null if there is none. `bodiless`: only the metadata is needed. */
export async function readList(ctx: PublicContext, key: string, bodiless: boolean): Promise<List | null> {
  const kept = recall(ctx, key);
  if (kept) return kept;
  if (!bodiless) return fetchList(ctx, key);
  const object = await ctx.bindings.BYTES.head(key);
  return object && listOf(object, null);
}

function recall(ctx: PublicContext, key: string): List | null {
  const now = ctx.clock.now().getTime();
  const kept = lists.get(key);
  if (!kept || kept.publications !== publicationsHere() || now < kept.asked.at) return null;
  if (now >= kept.asked.at + REPEAT_MS) return null;
  if (now >= kept.renewFrom) {
    kept.renewFrom = Number.POSITIVE_INFINITY;
    const renewing = fetchList(ctx, key);
    ctx.defer(renewing.catch((error) => ctx.log.warn("list.renew_failed", { error: describeError(error) })));
  }
  return kept.list;
}

/** Reads the list and stores it if it is small. Octets that are already in memory are not read again. */
async function fetchList(ctx: PublicContext, key: string): Promise<List | null> {
  const { BYTES } = ctx.bindings;
  const asked = askedAt(ctx.clock.now().getTime());
  const publications = publicationsHere();
  const before = lists.get(key)?.list;
  const unlessKnown = before && { onlyIf: { etagDoesNotMatch: before.etag.replaceAll('"', "") } };
  const object: R2Object | null = unlessKnown ? await BYTES.get(key, unlessKnown) : await BYTES.get(key);
  const opened = object && "body" in object ? (object as R2ObjectBody) : null;
  if (!object || object.size > MAX_BYTES) {
    lists.delete(key);
    return object && listOf(object, opened?.body ?? null);
  }
  const list = listOf(object, opened ? new Uint8Array(await opened.arrayBuffer()) : (before?.body ?? null));
  // Of two concurrent readers the first may finish last: a newer list is never replaced by an older one.
  if ((lists.get(key)?.asked.order ?? 0) < asked.order)
    lists.set(key, { list, asked, publications, renewFrom: asked.at + RENEW_MS });
  return list;
}

function listOf(object: R2Object, body: List["body"]): List {
  const nextUpdate = Date.parse(object.customMetadata?.next_update ?? "");
  return {
    etag: object.httpEtag,
    modified: listModified(object),
    nextUpdate: Number.isNaN(nextUpdate) ? null : nextUpdate,
    size: object.size,
    body,
  };
}
