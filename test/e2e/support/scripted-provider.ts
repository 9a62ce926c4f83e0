import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { listen } from "./identity-provider.ts";

type Endpoint = "/.well-known/openid-configuration" | "/jwks" | "/authorize" | "/token";
export type Fault = "hangs" | "answers 500" | "serves 100 MB";

/** A provider that does what a test says: it signs whatever claims, and its endpoints fail on demand. */
export interface ScriptedProvider {
  readonly issuer: string;
  /** Claims over those of a right ID token; a claim of undefined is left out. */
  claims: Record<string, unknown>;
  faults: Partial<Record<Endpoint, Fault>>;
  close(): Promise<void>;
}

export async function startScriptedProvider(): Promise<ScriptedProvider> {
  const { privateKey, publicKey } = await generateKeyPair("ES256");
  const jwk = { ...(await exportJWK(publicKey)), kid: "only", alg: "ES256", use: "sig" };
  const nonces = new Map<string, string>();
  const server = createServer((request, response) => {
    answer(request, response).catch((error: unknown) => response.destroy(error instanceof Error ? error : undefined));
  });
  const issuer = `http://127.0.0.1:${await listen(server)}`;
  const idp: ScriptedProvider = {
    issuer,
    claims: {},
    faults: {},
    close: async () => {
      server.closeAllConnections();
      await new Promise((closed) => server.close(closed));
    },
  };

  const idToken = (nonce: string | undefined) => {
    const now = Math.floor(Date.now() / 1000);
    const right = { iss: issuer, aud: "certctl", sub: "ada", iat: now, exp: now + 300, nonce, groups: ["ops"] };
    return new SignJWT({ ...right, ...idp.claims }).setProtectedHeader({ alg: "ES256", kid: "only" }).sign(privateKey);
  };

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", issuer);
    const form = new URLSearchParams(await bodyOf(request));
    const fault = idp.faults[url.pathname as Endpoint];
    if (fault === "hangs") return;
    if (fault === "answers 500") {
      response.writeHead(500).end("broken");
      return;
    }
    if (fault === "serves 100 MB") return pour(response, 100 * 1024 * 1024);
    switch (url.pathname) {
      case "/.well-known/openid-configuration":
        return json(response, {
          issuer,
          authorization_endpoint: `${issuer}/authorize`,
          token_endpoint: `${issuer}/token`,
          jwks_uri: `${issuer}/jwks`,
          id_token_signing_alg_values_supported: ["ES256"],
          response_types_supported: ["code"],
          subject_types_supported: ["public"],
        });
      case "/jwks":
        return json(response, { keys: [jwk] });
      case "/authorize": {
        const code = crypto.randomUUID();
        nonces.set(code, url.searchParams.get("nonce") ?? "");
        const back = new URL(url.searchParams.get("redirect_uri") ?? "");
        back.searchParams.set("code", code);
        back.searchParams.set("state", url.searchParams.get("state") ?? "");
        response.writeHead(302, { Location: back.href }).end();
        return;
      }
      case "/token": {
        // As Entra ID does.
        if (request.headers["transfer-encoding"] !== undefined) {
          response.writeHead(404).end();
          return;
        }
        const id_token = await idToken(nonces.get(form.get("code") ?? ""));
        return json(response, { access_token: "x", token_type: "Bearer", expires_in: 300, id_token });
      }
      default:
        response.writeHead(404).end();
    }
  }
  return idp;
}

function json(response: ServerResponse, body: unknown): void {
  response.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify(body));
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  let text = "";
  for await (const chunk of request.setEncoding("utf8")) text += chunk;
  return text;
}

/** Writes so many bytes, as fast as they are taken, until the other side has enough. */
function pour(response: ServerResponse, bytes: number): void {
  const chunk = Buffer.alloc(64 * 1024, " ");
  let left = bytes;
  response.writeHead(200, { "Content-Type": "application/json" });
  const more = () => {
    while (left > 0 && !response.destroyed) {
      left -= chunk.length;
      if (!response.write(chunk)) {
        response.once("drain", more);
        return;
      }
    }
    if (!response.destroyed) response.end();
  };
  more();
}
