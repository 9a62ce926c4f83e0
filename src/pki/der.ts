/**
 * Strict DER (X.690 sections 8, 10 and 11): one-octet tags, definite minimal lengths, minimal INTEGERs. Every element
 * keeps its own octets, so accepted input re-encodes to itself. Reading takes linear time, and its depth is bounded.
 */
export * from "./der-read.ts";
export * from "./der-strings.ts";
export { TAG } from "./der-tags.ts";
export * from "./der-write.ts";
export { DerError } from "./errors.ts";
