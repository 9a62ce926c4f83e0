type Fields = { readonly [name: string]: unknown };

/** An answer of the API. */
export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The JSON body; empty when it is none. */
  readonly body: Fields;
}

/** A caller of the API: what it sends carries its key. */
export class Api {
  readonly url: string;
  readonly key: string | null;

  constructor(url: string, key: string | null = null) {
    this.url = url;
    this.key = key;
  }

  /** Sends a request, whatever its answer. */
  async ask(method: string, path: string, body?: unknown): Promise<Answer> {
    const headers: Record<string, string> = {};
    if (this.key !== null) headers.Authorization = `Bearer ${this.key}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const init = body === undefined ? { method, headers } : { method, headers, body: JSON.stringify(body) };
    const response = await fetch(`${this.url}${path}`, init);
    const bytes = new Uint8Array(await response.arrayBuffer());
    const isJson = response.headers.get("Content-Type")?.includes("json") ?? false;
    const parsed: unknown = isJson ? JSON.parse(new TextDecoder().decode(bytes)) : {};
    const fields = typeof parsed === "object" && parsed !== null ? (parsed as Fields) : {};
    return { status: response.status, headers: response.headers, bytes, body: fields };
  }

  /** Sends a request that must succeed (2xx). */
  async send(method: string, path: string, body?: unknown): Promise<Answer> {
    const answer = await this.ask(method, path, body);
    if (answer.status < 200 || answer.status > 299) {
      throw new Error(`${method} ${path}: ${answer.status} ${new TextDecoder().decode(answer.bytes).slice(0, 1000)}`);
    }
    return answer;
  }

  async get(path: string): Promise<Fields> {
    return (await this.send("GET", path)).body;
  }

  async post(path: string, body?: unknown): Promise<Fields> {
    return (await this.send("POST", path, body)).body;
  }

  as(key: string): Api {
    return new Api(this.url, key);
  }
}

/** A text field of an answer; anything else there is an error. */
export function text(fields: Fields, name: string): string {
  const value = fields[name];
  if (typeof value !== "string") throw new Error(`${name} is ${JSON.stringify(value)} in ${JSON.stringify(fields)}`);
  return value;
}

/** The first administrator of a fresh server. */
export async function bootstrap(url: string, token: string): Promise<Api> {
  const api = new Api(url);
  const body = await api.post("/api/v1/auth/bootstrap", { token, actor_name: "admin" });
  return api.as(text(body, "key_value"));
}
