import type { Middleware } from "../visit.ts";

/** Headers of every API answer. Static pages get theirs from web/_headers. */
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
 * HSTS (RFC 6797) for answers over https: one year, this host only. Not sent for /.well-known/pki, which bypasses this
 * middleware: CRL and OCSP clients use plain http and keep no HSTS list.
 */
export const hsts: Middleware = (c, next) => {
  if (!c.env.secure) return next();
  return next().then(() => c.res.headers.set("Strict-Transport-Security", "max-age=31536000"));
};

/** The last formatted second. */
let written = { second: Number.NaN, text: "" };

/** The Date header (RFC 9110 section 6.6.1). Cloudflare adds it, workerd does not. */
export function dateOf(now: number): string {
  const second = Math.floor(now / 1000);
  if (written.second !== second) written = { second, text: new Date(now).toUTCString() };
  return written.text;
}
