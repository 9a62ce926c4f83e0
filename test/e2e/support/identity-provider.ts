import { randomBytes } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { exportJWK, generateKeyPair, type JWK } from "jose";
import Provider, { type Configuration } from "oidc-provider";

export const CLIENT = { id: "certctl", secret: "a secret: with % and +" };

/** The real `oidc-provider` on loopback. Whoever comes to its login page is `person`. */
export interface IdentityProvider {
  readonly issuer: string;
  /** Who signs in next. */
  person: string;
  readonly groups: Map<string, string[]>;
  /** Signs with another key from now on; the old one is not published any more. */
  rotate(): Promise<void>;
  close(): Promise<void>;
}

/** Starts it for a client whose pages are at `app` (an origin). */
export async function startIdentityProvider(app: string): Promise<IdentityProvider> {
  let handle: (request: IncomingMessage, response: ServerResponse) => unknown = (_request, response) => response.end();
  const server = createServer((request, response) => handle(request, response));
  const issuer = `http://127.0.0.1:${await listen(server)}`;
  const idp: IdentityProvider = {
    issuer,
    person: "nobody",
    groups: new Map(),
    rotate: async () => {
      handle = handlerOf(idp, new Provider(issuer, configuration(idp, app, await newKey())));
    },
    close: async () => {
      server.closeAllConnections();
      await new Promise((closed) => server.close(closed));
    },
  };
  await idp.rotate();
  return idp;
}

export async function listen(server: Server): Promise<number> {
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
  return (server.address() as AddressInfo).port;
}

async function newKey(): Promise<JWK> {
  const { privateKey } = await generateKeyPair("RS256", { extractable: true });
  return { ...(await exportJWK(privateKey)), kid: randomBytes(8).toString("hex"), alg: "RS256", use: "sig" };
}

const COOKIE_KEYS = [randomBytes(32).toString("hex")];

function configuration(idp: IdentityProvider, app: string, key: JWK): Configuration {
  return {
    clients: [
      {
        client_id: CLIENT.id,
        client_secret: CLIENT.secret,
        redirect_uris: [`${app}/auth/oidc/callback`],
        post_logout_redirect_uris: [`${app}/login`],
        backchannel_logout_uri: `${app}/auth/oidc/back-channel-logout`,
        backchannel_logout_session_required: true,
        grant_types: ["authorization_code"],
        response_types: ["code"],
      },
    ],
    jwks: { keys: [key] },
    cookies: { keys: COOKIE_KEYS },
    claims: { openid: ["sub"], profile: ["name"], email: ["email", "email_verified"], groups: ["groups"] },
    conformIdTokenClaims: false,
    features: { devInteractions: { enabled: false }, backchannelLogout: { enabled: true } },
    pkce: { required: () => true },
    interactions: { url: (_ctx, interaction) => `/sign-in/${interaction.uid}` },
    // Its own fetch refuses loopback.
    fetch: (url, options) => {
      const { dispatcher: _guard, ...rest } = options as RequestInit & { dispatcher?: unknown };
      return fetch(url, rest);
    },
    findAccount: (_ctx, id) => ({
      accountId: id,
      claims: () => ({
        sub: id,
        name: `Person ${id}`,
        email: `${id}@example.com`,
        email_verified: true,
        groups: idp.groups.get(id) ?? [],
      }),
    }),
    // Nobody is asked for consent.
    loadExistingGrant: async (ctx) => {
      const { provider, session, client, params } = ctx.oidc;
      const grant = new provider.Grant({
        ...(session?.accountId ? { accountId: session.accountId } : {}),
        ...(client ? { clientId: client.clientId } : {}),
      });
      grant.addOIDCScope(String(params?.scope));
      await grant.save();
      return grant;
    },
  };
}

function handlerOf(idp: IdentityProvider, provider: Provider) {
  const callback = provider.callback();
  return (request: IncomingMessage, response: ServerResponse) =>
    request.url?.startsWith("/sign-in/")
      ? provider.interactionFinished(request, response, { login: { accountId: idp.person } })
      : callback(request, response);
}
