import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { checkOutboundUrl, checkSecureUrl, isAllowedAddress, outboundFetch } from "../../src/platform/outbound.ts";
import { parseRanges, parseSettings } from "../../src/platform/settings.ts";

describe("inv 9: reserved addresses", () => {
  it.each([
    "http://127.0.0.1/",
    "http://2130706433/",
    "http://0x7f.1/",
    "http://[::1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://10.1.2.3/",
    "http://172.16.0.1/",
    "http://192.168.1.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://100.100.100.200/",
    "http://168.63.129.16/",
    "http://[fd00:ec2::254]/",
    "http://[fe80::1]/",
    "http://0.0.0.0/",
    "http://224.0.0.1/",
    "http://localhost/",
    "http://LOCALHOST./",
    "http://x.localhost/",
    "http://metadata.google.internal/",
    "http://router/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "http://user:pass@example.com/",
    "not a url",
  ])("refuses %s", (url) => {
    expect(() => checkOutboundUrl(url, [])).toThrow(expect.objectContaining({ status: 400, code: "outbound_refused" }));
  });

  it("allows public addresses and names, and what the operator opened", () => {
    for (const url of ["https://example.com/", "http://93.184.216.34/", "https://[2606:4700::1111]/"]) {
      expect(checkOutboundUrl(url, []).href).toBe(url);
    }
    expect(isAllowedAddress("10.2.3.4", parseRanges("10.0.0.0/8"))).toBe(true);
    expect(isAllowedAddress("11.2.3.4", [])).toBe(true);
    expect(isAllowedAddress("192.168.0.1", parseRanges("10.0.0.0/8"))).toBe(false);
    expect(isAllowedAddress("::1", parseRanges("127.0.0.1"))).toBe(false);
  });
});

describe("a place that credentials depend on", () => {
  const opened = parseRanges("10.0.0.0/8,127.0.0.1,93.184.216.34");

  it("is https, or plain http to what the operator opened", () => {
    const fine = [
      "https://example.com/",
      "http://10.1.2.3/",
      "http://127.0.0.1:8080/",
      "http://localhost:8080/",
      "http://keycloak/",
    ];
    for (const url of [...fine, "http://93.184.216.34/", "http://[::ffff:10.1.2.3]/"])
      expect(checkSecureUrl(url, opened).protocol).toMatch(/^https?:$/);
  });

  it.each(["http://example.com/", "http://11.2.3.4/", "http://192.168.0.1/", "https://192.168.0.1/", "javascript:1"])(
    "refuses %s",
    (url) => {
      expect(() => checkSecureUrl(url, opened)).toThrow(expect.objectContaining({ code: "outbound_refused" }));
      expect(() => checkSecureUrl("http://localhost/", [])).toThrow(/OUTBOUND_ALLOW/);
    },
  );
});

describe("a fetch", () => {
  const settings = parseSettings({ OUTBOUND_ALLOW: "127.0.0.0/8" });
  const seen: { url: string | undefined; authorization: string | undefined; method: string | undefined }[] = [];
  let server: Server;
  let base = "";

  beforeAll(async () => {
    server = createServer((request, response) => {
      seen.push({ url: request.url, authorization: request.headers.authorization, method: request.method });
      if (request.url === "/to-metadata") response.writeHead(302, { Location: "http://169.254.169.254/" }).end();
      else if (request.url === "/loop") response.writeHead(302, { Location: "/loop" }).end();
      else if (request.url === "/once") response.writeHead(302, { Location: "/end" }).end();
      else if (request.url === "/big") response.end("x".repeat(5000));
      else if (request.url === "/hang") response.write("begin");
      else response.end("fine");
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterAll(() => {
    server.closeAllConnections();
    server.close();
  });

  it("checks every redirect again, and sends no credential and no body along", async () => {
    await expect(outboundFetch(settings, `${base}/to-metadata`)).rejects.toMatchObject({
      status: 400,
      code: "outbound_refused",
    });
    const answer = await outboundFetch(settings, `${base}/once`, {
      method: "POST",
      body: "secret",
      headers: { Authorization: "Bearer secret" },
    });
    expect(new TextDecoder().decode(answer.body)).toBe("fine");
    expect(seen.at(-1)).toEqual({ url: "/end", authorization: undefined, method: "GET" });
    await expect(outboundFetch(settings, `${base}/loop`)).rejects.toMatchObject({
      status: 502,
      message: expect.stringContaining("redirects"),
    });
  });

  it("bounds the size and the time of an answer", async () => {
    await expect(outboundFetch(settings, `${base}/big`, { maxBytes: 4999 })).rejects.toMatchObject({ status: 502 });
    expect((await outboundFetch(settings, `${base}/big`, { maxBytes: 5000 })).body.length).toBe(5000);
    await expect(outboundFetch(settings, `${base}/hang`, { timeoutMs: 50 })).rejects.toMatchObject({ status: 502 });
  });
});
