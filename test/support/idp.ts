import { base64url, exportJWK, generateKeyPair, type JWK, SignJWT } from "jose";
import type { Script, Token } from "./idp-client.ts";

/**
 * An identity provider for tests in workerd. It runs in Node, behind the `outboundService` of vitest.config.ts, and answers
 * for https://idp.test/<name>: each name is a provider of its own, which begins well-behaved with one ES256 key. Tests drive
 * it through idp-client.ts:
 *
 *     POST /<name>/__script    a `Script`: what to do wrong, claims for a code, a key rotation
 *     POST /<name>/__sign      a `Token`: answers {token}, for logout tokens
 *     GET  /<name>/__requests  what was asked so far: [{method, path, authorization, body}]
 *
 * There is no authorize endpoint: a test posts claims for a code and goes to our callback with that code.
 */
interface Idp {
  readonly issuer: string;
  script: Script;
  keys: { kid: string; privateKey: CryptoKey; jwk: JWK }[];
  readonly requests: { method: string; path: string; authorization: string | null; body: string }[];
}

/** What is read of a request: Node's own kind and Miniflare's alike. */
interface Asked {
  readonly url: string;
  readonly method: string;
  readonly headers: { get(name: string): string | null };
  text(): Promise<string>;
}

const HOST = "idp.test";

const providers = new Map<string, Promise<Idp>>();

/** Answers requests to idp.test; null for any other host. */
export async function identityProvider(request: Asked): Promise<Response | null> {
  const url = new URL(request.url);
  if (url.host !== HOST) return null;
  const [, name = "", ...rest] = url.pathname.split("/");
  const path = `/${rest.join("/")}`;
  const known = providers.get(name) ?? begin(`https://${HOST}/${name}`);
  providers.set(name, known);
  const idp = await known;
  const body = await request.text();
  if (path === "/__script") return await changed(idp, JSON.parse(body));
  if (path === "/__sign") return Response.json({ token: await sign(idp, JSON.parse(body)) });
  if (path === "/__requests") return Response.json(idp.requests);
  const authorization = request.headers.get("Authorization");
  idp.requests.push({ method: request.method, path, authorization, body });
  return answer(idp, path, body);
}

async function begin(issuer: string): Promise<Idp> {
  const idp: Idp = { issuer, script: {}, keys: [], requests: [] };
  await rotate(idp);
  return idp;
}

/** The new key alone is published, as after a compromise. */
async function rotate(idp: Idp, kid = `k-${crypto.randomUUID()}`): Promise<void> {
  const { privateKey, publicKey } = await generateKeyPair("ES256");
  idp.keys = [{ kid, privateKey, jwk: { ...(await exportJWK(publicKey)), kid, alg: "ES256", use: "sig" } }];
}

type Rotation = "another id" | "the same id";

async function changed(idp: Idp, { rotate: to, ...script }: Script & { rotate?: Rotation }): Promise<Response> {
  if (to) await rotate(idp, to === "the same id" ? idp.keys[0]?.kid : undefined);
  idp.script = { ...idp.script, ...script, codes: { ...idp.script.codes, ...script.codes } };
  return Response.json({ kids: idp.keys.map(({ kid }) => kid) });
}

const PATHS = {
  "/.well-known/openid-configuration": "discovery",
  "/jwks": "jwks",
  "/token": "token",
  "/userinfo": "userinfo",
} as const;

async function answer(idp: Idp, path: string, body: string): Promise<Response> {
  const endpoint = Object.hasOwn(PATHS, path) ? PATHS[path as keyof typeof PATHS] : null;
  if (endpoint === null) return new Response("not found", { status: 404 });
  switch (idp.script.misbehave?.[endpoint]) {
    case "hang":
      return new Promise((resolve) => {
        setTimeout(() => resolve(new Response("too late", { status: 504 })), 30_000).unref();
      });
    case "drip":
      return new Response(drops(), { headers: { "Content-Type": "application/json" } });
    case "error":
      return new Response("something broke", { status: 500 });
    case "huge":
      return new Response(hundredMegabytes(), { headers: { "Content-Type": "application/json" } });
    case "broken-json":
      return new Response('{"issuer": "https', { headers: { "Content-Type": "application/json" } });
    case "not-an-object":
      return Response.json([]);
    case "redirect":
      return new Response(null, { status: 302, headers: { Location: `${idp.issuer}/elsewhere` } });
    case undefined:
      return answers[endpoint](idp, body);
  }
}

const answers: Readonly<Record<(typeof PATHS)[keyof typeof PATHS], (idp: Idp, body: string) => Promise<Response>>> = {
  discovery: async (idp) => Response.json(withoutNulls({ ...metadata(idp), ...idp.script.discovery })),
  jwks: async (idp) => Response.json({ keys: [...idp.keys.map(({ jwk }) => jwk), ...(idp.script.more_keys ?? [])] }),
  userinfo: async (idp) => Response.json(idp.script.userinfo ?? {}),
  token: async (idp, body) => {
    const wanted = idp.script.codes?.[new URLSearchParams(body).get("code") ?? ""];
    if (!wanted) return Response.json({ error: "invalid_grant" }, { status: 400 });
    return Response.json({
      access_token: "an-access-token",
      token_type: "Bearer",
      expires_in: 300,
      id_token: await sign(idp, wanted),
      ...wanted.answer,
    });
  },
};

function metadata({ issuer }: Idp) {
  return {
    issuer,
    authorization_endpoint: `${issuer}/authorize`,
    token_endpoint: `${issuer}/token`,
    jwks_uri: `${issuer}/jwks`,
    userinfo_endpoint: `${issuer}/userinfo`,
    end_session_endpoint: `${issuer}/logout`,
    id_token_signing_alg_values_supported: ["RS256", "ES256"],
    response_types_supported: ["code"],
    subject_types_supported: ["public"],
    token_endpoint_auth_methods_supported: ["client_secret_basic"],
    authorization_response_iss_parameter_supported: true,
  };
}

/** A JWS over the claims; `iss`, `aud` (certctl), `iat` and `exp` are filled in, a claim of null is left out. */
async function sign(idp: Idp, { claims, header, by = "the provider" }: Token): Promise<string> {
  const now = Math.floor(Date.now() / 1000);
  const payload = withoutNulls({ iss: idp.issuer, aud: "certctl", iat: now, exp: now + 300, ...claims });
  const [key] = idp.keys;
  if (!key) throw new Error("the provider has no key");
  const head = { alg: "ES256", kid: key.kid, ...header };
  const encoded = (value: unknown) => base64url.encode(JSON.stringify(value));
  if (by === "nobody") return `${encoded({ ...head, alg: "none" })}.${encoded(payload)}.`;
  if (by === "hmac of the public key") {
    const secret = new TextEncoder().encode(JSON.stringify(key.jwk));
    return new SignJWT(payload).setProtectedHeader({ ...head, alg: "HS256" }).sign(secret);
  }
  const signer = by === "a stranger" ? (await generateKeyPair("ES256")).privateKey : key.privateKey;
  return new SignJWT(payload).setProtectedHeader(head).sign(signer);
}

function withoutNulls(members: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== null));
}

/** One blank at a time, for half a minute. */
function drops(): ReadableStream<Uint8Array> {
  let left = 300;
  return new ReadableStream({
    pull: (controller) =>
      new Promise((resolve) => {
        setTimeout(() => {
          if (left-- === 0) controller.close();
          else controller.enqueue(Uint8Array.of(0x20));
          resolve();
        }, 100).unref();
      }),
  });
}

function hundredMegabytes(): ReadableStream<Uint8Array> {
  const chunk = new Uint8Array(64 * 1024).fill(0x20);
  let left = 1600;
  return new ReadableStream({
    pull(controller) {
      if (left-- === 0) controller.close();
      else controller.enqueue(chunk);
    },
  });
}
