/** Certificate revocation lists (RFC 5280 section 5): entries, the streaming builder, the strict incremental reader. */
export * from "./crl-build.ts";
export * from "./crl-check.ts";
export * from "./crl-entry.ts";
export * from "./crl-read.ts";
export * from "./foreign-crl.ts";
