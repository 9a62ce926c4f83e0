/** OCSP (RFC 6960, RFC 9654, RFC 9919): requests, responses, and requests in a URL path. */
export * from "./ocsp-parse.ts";
export * from "./ocsp-path.ts";
export * from "./ocsp-request.ts";
export * from "./ocsp-response.ts";
