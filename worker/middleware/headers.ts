/** Headers of every answer of the API. Pages have theirs from web/_headers. */
export const API_HEADERS = {
  "Cache-Control": "no-store",
  "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
  "Cross-Origin-Resource-Policy": "same-origin",
  "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
  "Referrer-Policy": "no-referrer",
  "X-Content-Type-Options": "nosniff",
  "X-Frame-Options": "DENY",
} as const;

/**
 * HSTS (RFC 6797) for what came over https: a year, for this host alone. Never for /.well-known/pki, which does not come this
 * way: CRL and OCSP are asked over plain http, by clients that keep no such list.
 */
export function addHsts(headers: Headers): void {
  headers.set("Strict-Transport-Security", "max-age=31536000");
}
