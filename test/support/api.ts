import { env, exports } from "cloudflare:workers";

export interface Answer<T = Record<string, unknown>> {
  readonly status: number;
  readonly headers: Headers;
  readonly body: T;
}

/** A client of the API that shows one key. */
export class Client {
  readonly key: string | null;

  constructor(key: string | null) {
    this.key = key;
  }

  async send<T = Record<string, unknown>>(
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<Answer<T>> {
    const init: RequestInit = { method, headers: { ...headers } };
    const set = init.headers as Record<string, string>;
    if (this.key !== null) set.Authorization = `Bearer ${this.key}`;
    if (body !== undefined) {
      init.body = typeof body === "string" ? body : JSON.stringify(body);
      set["Content-Type"] ??= "application/json";
    }
    const response = await exports.default.fetch(new Request(`http://localhost${path}`, init));
    const text = await response.text();
    const json = /json/.test(response.headers.get("Content-Type") ?? "");
    return { status: response.status, headers: response.headers, body: (json ? JSON.parse(text) : { text }) as T };
  }

  get<T = Record<string, unknown>>(path: string, headers?: Record<string, string>) {
    return this.send<T>("GET", path, undefined, headers);
  }
  post<T = Record<string, unknown>>(path: string, body?: unknown, headers?: Record<string, string>) {
    return this.send<T>("POST", path, body, headers);
  }
  put<T = Record<string, unknown>>(path: string, body?: unknown, headers?: Record<string, string>) {
    return this.send<T>("PUT", path, body, headers);
  }
  delete<T = Record<string, unknown>>(path: string, headers?: Record<string, string>) {
    return this.send<T>("DELETE", path, undefined, headers);
  }

  /** Creates and answers the resource; throws with the error when it was not created. */
  async create<T = Record<string, string>>(path: string, body: unknown): Promise<T> {
    const answer = await this.post<T>(path, body);
    if (answer.status !== 201) throw new Error(`POST ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
    return answer.body;
  }
}

/** The administrator that the bootstrap makes; once in each test file. */
export async function administrator(): Promise<Client> {
  const answer = await new Client(null).post<{ key_value: string }>("/api/v1/auth/bootstrap", {
    token: "test-bootstrap-token",
    actor_name: "root-admin",
  });
  if (answer.status !== 201) throw new Error(`bootstrap: ${JSON.stringify(answer.body)}`);
  return new Client(answer.body.key_value);
}

/** How many audit events of `action` there are for a resource. */
export async function auditCount(action: string, resourceId: string): Promise<number> {
  const row = await env.DB.prepare("select count(*) as n from audit_events where action = ? and resource_id = ?")
    .bind(action, resourceId)
    .first<{ n: number }>();
  return row?.n ?? 0;
}
