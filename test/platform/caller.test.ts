import { describe, expect, it } from "vitest";
import { addressKey, arrivalOf, PROXY_SECRET_HEADER } from "../../src/platform/caller.ts";
import { parseSettings, SettingsError } from "../../src/platform/settings.ts";

const SECRET = "proxy-secret";

async function addressOf(headers: Record<string, string>, env: Record<string, string> = {}, cf = false) {
  const request = new Request("http://localhost/", { headers });
  if (cf) Object.defineProperty(request, "cf", { value: { colo: "TEST" } });
  return arrivalOf(parseSettings(env), request).caller.address;
}

const FORGED = {
  "CF-Connecting-IP": "203.0.113.9",
  "X-Forwarded-For": "203.0.113.9",
  "X-Real-IP": "203.0.113.9",
  "True-Client-IP": "203.0.113.9",
  Forwarded: "for=203.0.113.9;proto=https",
};

describe("the caller's address", () => {
  it("on one machine no header names it", async () => {
    for (const env of [{}, { TRUSTED_PROXY_SECRET: SECRET }, { CERTCTL_LOCAL: "loopback" }]) {
      expect(await addressOf(FORGED, env)).toBe("local");
      for (const [name, value] of Object.entries(FORGED)) expect(await addressOf({ [name]: value }, env)).toBe("local");
    }
    // `wrangler dev` makes up a request.cf: CERTCTL_LOCAL says that it means nothing.
    expect(await addressOf(FORGED, { CERTCTL_LOCAL: "loopback" }, true)).toBe("local");
  });

  it("on Cloudflare it is CF-Connecting-IP, and no other header", async () => {
    expect(await addressOf({ ...FORGED, "CF-Connecting-IP": "198.51.100.4" }, {}, true)).toBe("198.51.100.4");
    expect(await addressOf({ "X-Forwarded-For": "203.0.113.9" }, {}, true)).toBe("local");
  });

  it("from a proxy with the secret it is the last entry of X-Forwarded-For", async () => {
    const env = { TRUSTED_PROXY_SECRET: SECRET, CERTCTL_LOCAL: "loopback" };
    const from = (list: string, secret = SECRET) =>
      addressOf({ "X-Forwarded-For": list, [PROXY_SECRET_HEADER]: secret }, env);
    expect(await from("198.51.100.4")).toBe("198.51.100.4");
    expect(await from("203.0.113.9, 10.0.0.1,198.51.100.4 ")).toBe("198.51.100.4");
    expect(await from("2001:DB8:0::1")).toBe("2001:db8::1");
    expect(await from("::ffff:198.51.100.4")).toBe("198.51.100.4");
    expect(await from("fe80::1%eth0")).toBe("fe80::1");
    for (const [written, address] of [
      ["198.51.100.4:1234", "198.51.100.4"],
      ["[2001:DB8::1]:1234", "2001:db8::1"],
      ["[2001:db8::1]", "2001:db8::1"],
    ] as const)
      expect(await from(written)).toBe(address);
    for (const none of ["unknown", "198.51.100.4,", "198.51.100.4:", "[198.51.100.4", "198.51.100.400", "_hidden", ""])
      expect([none, await from(none)]).toEqual([none, "local"]);
    for (const secret of ["", "x", `${SECRET}x`, SECRET.toUpperCase()])
      expect(await from("198.51.100.4", secret)).toBe("local");
    // Without a secret configured there is none to show.
    expect(await addressOf({ "X-Forwarded-For": "198.51.100.4", [PROXY_SECRET_HEADER]: "" })).toBe("local");
  });

  it("https is what a proven proxy says, and nobody else", async () => {
    const settings = parseSettings({ TRUSTED_PROXY_SECRET: SECRET });
    const secure = async (url: string, headers: Record<string, string>) =>
      arrivalOf(settings, new Request(url, { headers })).secure;
    expect(await secure("https://localhost/", {})).toBe(true);
    expect(await secure("http://localhost/", { "X-Forwarded-Proto": "https" })).toBe(false);
    const proven = { [PROXY_SECRET_HEADER]: SECRET };
    expect(await secure("http://localhost/", { ...proven, "X-Forwarded-Proto": "https" })).toBe(true);
    expect(await secure("http://localhost/", { ...proven, "X-Forwarded-Proto": "https, http" })).toBe(false);
  });

  it("counts as itself for IPv4, as its /64 for IPv6, and not at all where nobody knows", () => {
    expect(addressKey("198.51.100.4")).toBe("198.51.100.4");
    expect(addressKey("2001:db8:1:2:3:4:5:6")).toBe("2001:db8:1:2::/64");
    expect(addressKey("2001:db8:1:2::ffff")).toBe("2001:db8:1:2::/64");
    expect(addressKey("local")).toBeNull();
    expect(addressKey("other")).toBeNull();
  });
});

describe("settings of the door", () => {
  it("an origin is exact, without path, wildcard or null", () => {
    expect(
      parseSettings({ CERTCTL_CORS_ORIGINS: "https://a.example, http://localhost:3000" }).auth.corsOrigins,
    ).toEqual(["https://a.example", "http://localhost:3000"]);
    for (const value of ["*", "https://*.example.com", "https://a.example/", "null", "a.example", "https://A.example"])
      expect(() => parseSettings({ CERTCTL_CORS_ORIGINS: value })).toThrow(SettingsError);
  });

  it("an acknowledgement of the demo mode names its time", () => {
    expect(() => parseSettings({ CERTCTL_DEMO_MODE_ACK: "true" })).toThrow(/CERTCTL_DEMO_MODE_ACK_TS/);
    expect(() => parseSettings({ CERTCTL_AUTH_TYPE: "off" })).toThrow(/CERTCTL_AUTH_TYPE must be one of/);
  });
});
