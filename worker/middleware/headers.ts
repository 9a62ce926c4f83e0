import type { Middleware } from "../visit.ts";

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
export const hsts: Middleware = (c, next) => {
  if (!c.env.secure) return next();
  return next().then(() => c.res.headers.set("Strict-Transport-Security", "max-age=31536000"));
};

/** The second that was written last, as HTTP writes it. */
let written = { second: Number.NaN, text: "" };

/** The time of an answer (RFC 9110 section 6.6.1). Cloudflare adds it by itself, workerd does not. */
export function dateOf(now: number): string {
  const second = Math.floor(now / 1000);
  if (written.second !== second) written = { second, text: new Date(now).toUTCString() };
  return written.text;
}
