/** How tests in workerd drive the identity provider of idp.ts. */

export type Misbehaviour = "hang" | "drip" | "error" | "huge" | "broken-json" | "not-an-object" | "redirect";

/** What is signed and how; a claim of null is left out. */
export interface Token {
  readonly claims: Readonly<Record<string, unknown>>;
  readonly header?: Readonly<Record<string, string>>;
  readonly by?: "the provider" | "a stranger" | "nobody" | "hmac of the public key";
}

/** What a test sets; what it does not name stays as it was. */
export interface Script {
  readonly misbehave?: Readonly<Partial<Record<"discovery" | "jwks" | "token" | "userinfo", Misbehaviour>>>;
  /** Members over those of the metadata; null leaves one out. */
  readonly discovery?: Readonly<Record<string, unknown>>;
  /** Published beside the provider's own key. */
  readonly more_keys?: readonly Readonly<Record<string, unknown>>[];
  /** The ID token of each code, with members over those of the token endpoint's answer. */
  readonly codes?: Readonly<Record<string, Token & { readonly answer?: Readonly<Record<string, unknown>> }>>;
  readonly userinfo?: Readonly<Record<string, unknown>>;
}

export interface IdpRequest {
  readonly method: string;
  readonly path: string;
  readonly authorization: string | null;
  readonly body: string;
}

/** A provider of its own; without a name one that nobody else has. */
export function testIdp(name: string = crypto.randomUUID()) {
  const issuer = `https://idp.test/${name}`;
  const post = async (path: string, body: unknown) => {
    const answer = await fetch(issuer + path, { method: "POST", body: JSON.stringify(body) });
    return (await answer.json()) as Record<string, unknown>;
  };
  return {
    issuer,
    /** Changes what it does; answers the ids of its own keys. */
    script: async (script: Script): Promise<string[]> => (await post("/__script", script)).kids as string[],
    /** Replaces its key; answers the new one's id. */
    rotate: async (to: "another id" | "the same id" = "another id"): Promise<string[]> =>
      (await post("/__script", { rotate: to })).kids as string[],
    sign: async (token: Token): Promise<string> => String((await post("/__sign", token)).token),
    /** What was asked of it so far, the test's own requests apart. */
    requests: async (): Promise<IdpRequest[]> => (await fetch(`${issuer}/__requests`)).json(),
    /** How often a path was asked for. */
    asked: async (path: "/.well-known/openid-configuration" | "/jwks" | "/token" | "/userinfo"): Promise<number> => {
      const all: IdpRequest[] = await (await fetch(`${issuer}/__requests`)).json();
      return all.filter((one) => one.path === path).length;
    },
  };
}
