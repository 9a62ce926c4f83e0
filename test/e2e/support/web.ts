/** A browser of tests: cookies by host, redirects followed one by one, so that a test sees each of them. */

export interface Page {
  readonly url: URL;
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
}

const MAX_REDIRECTS = 20;

export class WebBrowser {
  readonly #jars = new Map<string, Map<string, string>>();
  /** Every address it went to, the newest last. */
  readonly visited: URL[] = [];

  /** The value of a cookie for a host (with its port); undefined without. `Secure` is not looked at: loopback counts as secure. */
  cookie(host: string, name: string): string | undefined {
    return this.#jars.get(host)?.get(name);
  }

  /** Loses all cookies of a host, as a page in another container of the same browser has none. */
  forget(host: string): void {
    this.#jars.delete(host);
  }

  /** One request, no redirect followed. */
  async send(url: URL, init: { method?: string; headers?: Record<string, string>; body?: string } = {}): Promise<Page> {
    this.visited.push(url);
    const jar = this.#jars.get(url.host) ?? new Map<string, string>();
    this.#jars.set(url.host, jar);
    const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join("; ");
    const response = await fetch(url, {
      ...init,
      headers: { ...init.headers, ...(cookie === "" ? {} : { Cookie: cookie }) },
      redirect: "manual",
    });
    for (const line of response.headers.getSetCookie()) keep(jar, line);
    return { url, status: response.status, headers: response.headers, text: await response.text() };
  }

  /** Goes to an address and on, until a page answers or `stopAt` holds for the next address. */
  async visit(address: string | URL, stopAt: (next: URL) => boolean = () => false): Promise<Page> {
    return this.#follow(await this.send(new URL(address)), stopAt);
  }

  /** Submits a form and follows. */
  async submit(address: string | URL, fields: Record<string, string>): Promise<Page> {
    const headers = { "Content-Type": "application/x-www-form-urlencoded" };
    const body = new URLSearchParams(fields).toString();
    return this.#follow(await this.send(new URL(address), { method: "POST", headers, body }), () => false);
  }

  async #follow(first: Page, stopAt: (next: URL) => boolean): Promise<Page> {
    let page = first;
    for (let hop = 0; hop < MAX_REDIRECTS; hop++) {
      const location = page.headers.get("Location");
      if (page.status < 300 || page.status > 399 || location === null) return page;
      const next = new URL(location, page.url);
      if (stopAt(next)) return page;
      page = await this.send(next);
    }
    throw new Error(`more than ${MAX_REDIRECTS} redirects, the last from ${page.url}`);
  }
}

function keep(jar: Map<string, string>, line: string): void {
  const [, name = "", value = ""] = /^([^=]+)=([^;]*)/.exec(line) ?? [];
  const expires = /; *expires=([^;]+)/i.exec(line)?.[1];
  const over = /; *max-age=0(?:;|$)/i.test(line) || (expires !== undefined && Date.parse(expires) <= Date.now());
  if (over) jar.delete(name);
  else jar.set(name, value);
}
