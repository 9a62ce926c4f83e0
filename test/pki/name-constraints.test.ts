import { afterAll, describe, expect, it } from "vitest";
import { fromHex, toHex } from "../../src/pki/bytes.ts";
import { parseCertificate, randomSerial } from "../../src/pki/certificate.ts";
import { decode } from "../../src/pki/der.ts";
import { parseSan } from "../../src/pki/general-names.ts";
import { importSigner } from "../../src/pki/keys.ts";
import {
  decodeNameConstraints,
  encodeNameConstraints,
  formatNameConstraints,
  inheritNameConstraints,
  isSubset,
  type NameConstraints,
  parseNameConstraints,
  violationOf,
  wideningOf,
} from "../../src/pki/name-constraints.ts";
import { EMPTY_NAME, encodeName, parseName } from "../../src/pki/names.ts";
import { encodePem } from "../../src/pki/pem.ts";
import { subordinateCertificate } from "../support/ca-certificates.ts";
import { issue, keyPair, NOT_AFTER, NOT_BEFORE, openssl, random, Scratch, testLeaf, testRoot } from "./support.ts";

const scratch = new Scratch();
afterAll(() => scratch.dispose());

function constraints(permitted: string[], excluded: string[] = []): NameConstraints {
  const parsed = parseNameConstraints([{ permitted, excluded }]);
  if (parsed === null) throw new Error("no constraints");
  return parsed;
}

const allows = (limits: NameConstraints, ...names: string[]): boolean =>
  violationOf({ names: names.map(parseSan), subject: parseName(EMPTY_NAME) }, limits) === null;

describe("name constraints as text and DER", () => {
  it("read and write every type", () => {
    const text = {
      permitted: ["DNS:corp.example", "IP:10.0.0.0/8", "IP:2001:db8::/32", "email:corp.example", "URI:.corp.example"],
      excluded: ["DNS:secret.corp.example", "email:Root@corp.example", "email:.corp.example", "IP:10.1.2.3/32", "DNS:"],
    };
    const parsed = constraints(text.permitted, text.excluded);
    expect(formatNameConstraints(parsed)).toEqual([text]);
    expect(decodeNameConstraints(decode(encodeNameConstraints(parsed)))).toEqual(parsed);
    expect(toHex(encodeNameConstraints(constraints(["DNS:a.b", "IP:10.0.0.0/8"])))).toBe(
      "3015a0133005" + "8203612e62" + "300a87080a000000ff000000",
    );
    expect(parseNameConstraints([])).toBeNull();
    expect(parseNameConstraints([{ permitted: [] }])).toBeNull();
    expect(constraints(["dns:Bücher.Example", "IP:10.1.1.1", "EMAIL:A@B.example"])).toEqual(
      constraints(["DNS:xn--bcher-kva.example", "IP:10.1.1.1/32", "email:A@b.example"]),
    );
  });

  it.each([
    "corp.example",
    "DNS:.corp.example",
    "DNS:*.corp.example",
    "DNS:a_b",
    "IP:10.0.0.0/33",
    "IP:10.0.0.1/8",
    "IP:10.0.0.0/08",
    "IP:10.0.0.0/-1",
    "IP:10.0.0.0/8/8",
    "IP:10/8",
    "IP:corp.example",
    "IP:2001:db8::/129",
    "IP:",
    "email:a b@c.example",
    "email:@c.example",
    "URI:http://x.example",
    "dirName:CN=x",
    "",
  ])("refuse %j", (text) => {
    expect(() => parseNameConstraints([{ permitted: [text] }])).toThrow(
      expect.objectContaining({ code: "invalid_name" }),
    );
  });

  it.each([
    ["empty", "3000", "certificate_invalid"],
    ["an empty list", "3002a000", "der_invalid"],
    ["a minimum", "300ca00a30088203612e62800101", "certificate_invalid"],
    ["a mask with gaps", "300ea00c300a87080a000000ff00ff00", "certificate_invalid"],
    ["bits behind the mask", "300ea00c300a87080a000001ff000000", "certificate_invalid"],
    ["an address of 4 octets", "300aa008300687040a000000", "der_invalid"],
    ["otherName", "300fa00d300ba00906022a03a0030c0161", "certificate_invalid"],
    ["lists the wrong way round", "3012a10730058203612e62a00730058203612e62", "der_invalid"],
  ])("refuse DER with %s", (_, text, code) => {
    expect(() => decodeNameConstraints(decode(fromHex(text)))).toThrow(expect.objectContaining({ code }));
  });
});

describe("names within constraints (RFC 5280 section 4.2.1.10)", () => {
  it.each([
    [
      "DNS:corp.example",
      ["corp.example", "a.corp.example", "*.corp.example", "10.0.0.1"],
      ["xcorp.example", "example", "*.example"],
    ],
    ["IP:10.0.0.0/8", ["10.255.255.255", "a.example"], ["11.0.0.0", "2001:db8::1", "::ffff:10.0.0.1"]],
    ["IP:2001:db8::/32", ["2001:db8:ffff::"], ["2001:db9::", "10.0.0.1"]],
    ["email:corp.example", ["a@corp.example"], ["a@b.corp.example", "a@xcorp.example"]],
    ["email:.corp.example", ["a@b.corp.example"], ["a@corp.example"]],
    ["email:a@corp.example", ["a@corp.example"], ["A@corp.example", "b@corp.example"]],
    [
      "URI:host.example",
      ["https://host.example/x", "https://HOST.example:1/"],
      ["https://a.host.example/", "https://10.0.0.1/"],
    ],
    [
      "URI:.host.example",
      ["spiffe://a.host.example/x"],
      ["https://host.example/", "https://[2001:db8::1]/", "urn:a1:b"],
    ],
  ])("permitted %s", (limit, inside, outside) => {
    for (const name of inside) expect(allows(constraints([limit]), name), name).toBe(true);
    for (const name of outside) expect(allows(constraints([limit]), name), name).toBe(false);
  });

  it.each([
    [
      "DNS:corp.example",
      ["example", "xcorp.example", "10.0.0.1"],
      ["corp.example", "a.corp.example", "*.corp.example", "*.example"],
    ],
    ["DNS:a.b.corp.example", ["*.corp.example"], ["*.b.corp.example"]],
    ["DNS:", ["10.0.0.1", "a@b.example"], ["a.example"]],
    ["IP:0.0.0.0/0", ["2001:db8::1", "a.example"], ["1.2.3.4"]],
    ["email:corp.example", ["a@x.corp.example"], ["a@corp.example"]],
    ["URI:.host.example", ["https://host.example/"], ["https://a.host.example/", "https://10.0.0.1/", "urn:a1:b"]],
  ])("excluded %s", (limit, inside, outside) => {
    for (const name of inside) expect(allows(constraints([], [limit]), name), name).toBe(true);
    for (const name of outside) expect(allows(constraints([], [limit]), name), name).toBe(false);
  });

  it("names every name, not the first alone, and says which", () => {
    const limits = constraints(["DNS:corp.example", "DNS:other.example"], ["DNS:x.corp.example"]);
    const names = ["a.corp.example", "b.other.example", "a.x.corp.example"].map(parseSan);
    expect(violationOf({ names, subject: parseName(EMPTY_NAME) }, limits)).toBe(
      "DNS:a.x.corp.example is excluded by DNS:x.corp.example",
    );
  });

  it("holds directory names against the subject", () => {
    const own = parseName(encodeName({ country: "CH", organization: "Corp  Ltd", common_name: "a" }));
    const subtree = (subject: Parameters<typeof encodeName>[0]) => {
      const name = parseName(encodeName(subject));
      return { type: "directory", value: "", name } as const;
    };
    const inside = { permitted: [subtree({ country: "CH", organization: "corp ltd" })], excluded: [] };
    expect(violationOf({ names: [], subject: own }, inside)).toBeNull();
    expect(
      violationOf({ names: [], subject: own }, { permitted: [subtree({ country: "DE" })], excluded: [] }),
    ).toContain("outside");
    expect(
      violationOf({ names: [], subject: own }, { permitted: [], excluded: [subtree({ country: "CH" })] }),
    ).toContain("excluded");
    const der = encodeNameConstraints(inside);
    expect(toHex(encodeNameConstraints(decodeNameConstraints(decode(der))))).toBe(toHex(der));
  });
});

describe("constraints of a child", () => {
  it.each([
    ["the same", ["DNS:corp.example"], [], ["DNS:corp.example"], [], true, null],
    ["narrower", ["DNS:a.corp.example"], [], ["DNS:corp.example"], [], true, null],
    ["wider", ["DNS:example"], [], ["DNS:corp.example"], [], false, "DNS:example"],
    ["beside", ["DNS:evil.example"], [], ["DNS:corp.example"], [], false, "DNS:evil.example"],
    ["a suffix that is no label", ["DNS:xcorp.example"], [], ["DNS:corp.example"], [], false, "DNS:xcorp.example"],
    ["one of two", ["DNS:a.x", "DNS:a.z"], [], ["DNS:x", "DNS:y"], [], false, "DNS:a.z"],
    ["all names", ["DNS:"], [], ["DNS:corp.example"], [], false, "DNS:"],
    ["another type only", ["IP:10.0.0.0/8"], [], ["DNS:corp.example"], [], false, null],
    ["a smaller range", ["IP:10.1.0.0/16"], [], ["IP:10.0.0.0/8"], [], true, null],
    ["a larger range", ["IP:10.0.0.0/7"], [], ["IP:10.0.0.0/8"], [], false, "IP:10.0.0.0/7"],
    ["another family", ["IP:2001:db8::/32"], [], ["IP:10.0.0.0/8"], [], false, "IP:2001:db8::/32"],
    ["an exclusion left out", ["DNS:corp.example"], [], [], ["DNS:x.corp.example"], false, null],
    ["an exclusion that cannot matter", ["DNS:a.corp.example"], [], [], ["DNS:x.corp.example"], true, null],
    ["an exclusion repeated", [], ["DNS:x"], [], ["DNS:x"], true, null],
    ["an exclusion widened", [], ["DNS:corp.example"], [], ["DNS:x.corp.example"], true, null],
    ["an exclusion narrowed", [], ["DNS:a.x"], [], ["DNS:x"], false, null],
    ["what the parent excludes", ["DNS:a.x.example"], [], [], ["DNS:x.example"], false, "DNS:a.x.example"],
    ["a mailbox of a host", ["email:a@corp.example"], [], ["email:corp.example"], [], true, null],
    ["a host of a mailbox", ["email:corp.example"], [], ["email:a@corp.example"], [], false, "email:corp.example"],
    ["hosts of a domain", ["URI:a.corp.example"], [], ["URI:.corp.example"], [], true, null],
    ["the apex of a domain", ["URI:corp.example"], [], ["URI:.corp.example"], [], false, "URI:corp.example"],
  ])("%s", (_, permitted, excluded, parentPermitted, parentExcluded, subset, widening) => {
    const child = constraints(permitted, excluded);
    const parent = constraints(parentPermitted, parentExcluded);
    expect(isSubset(child, parent)).toBe(subset);
    const found = wideningOf(child, parent);
    expect(found === null ? null : formatNameConstraints({ permitted: [found], excluded: [] })[0]?.permitted[0]).toBe(
      widening,
    );
    if (widening === null) expect(isSubset(inheritNameConstraints(child, parent), parent)).toBe(true);
  });

  it("none at all inherits, and no parent binds nothing", () => {
    const parent = constraints(["DNS:corp.example"], ["DNS:x.corp.example"]);
    expect(isSubset(null, parent)).toBe(false);
    expect(isSubset(parent, null)).toBe(true);
    expect(isSubset(null, null)).toBe(true);
    expect(inheritNameConstraints(null, parent)).toEqual(parent);
    expect(inheritNameConstraints(parent, null)).toEqual(parent);
    expect(inheritNameConstraints(null, null)).toBeNull();
    expect(inheritNameConstraints(constraints(["DNS:a.corp.example", "IP:10.0.0.0/8"]), parent)).toEqual(
      constraints(["DNS:a.corp.example", "IP:10.0.0.0/8"], ["DNS:x.corp.example"]),
    );
  });
});

describe("openssl agrees", () => {
  const CHECKED = [
    ["DNS:corp.example", "a.corp.example"],
    ["DNS:corp.example", "corp.example"],
    ["DNS:corp.example", "xcorp.example"],
    ["IP:10.0.0.0/8", "10.2.3.4"],
    ["IP:10.0.0.0/8", "11.2.3.4"],
    ["IP:2001:db8::/32", "2001:db8::1"],
    ["IP:2001:db8::/32", "2001:db9::1"],
    ["email:corp.example", "a@corp.example"],
    ["email:corp.example", "a@x.corp.example"],
    ["email:.corp.example", "a@x.corp.example"],
    ["URI:.corp.example", "https://x.corp.example/"],
    ["URI:corp.example", "https://x.corp.example/"],
    ["URI:corp.example", "https://corp.example/"],
  ] as const;

  it.each(CHECKED.flatMap(([limit, name]) => [false, true].map((exclude) => ({ limit, name, exclude }))))(
    "$limit, excluded $exclude: $name",
    async ({ limit, name, exclude }) => {
      const root = await testRoot();
      const keys = await keyPair("ECDSA-P256", "sub");
      const limits = exclude ? constraints([], [limit]) : constraints([limit]);
      const der = await subordinateCertificate(
        {
          serial: randomSerial(random),
          notBefore: NOT_BEFORE,
          notAfter: NOT_AFTER,
          subject: encodeName({ common_name: "Sub" }),
          publicKey: keys.publicKey,
          issuerCertificate: root.certificate,
          nameConstraints: limits,
          pathLen: 0,
        },
        root.signer,
      );
      const certificate = parseCertificate(der);
      expect(certificate.nameConstraints).toEqual(limits);
      const sub = { certificate, signer: await importSigner(keys.pkcs8), keys };
      const leaf = await issue(sub, await testLeaf("ECDSA-P256", { subject: EMPTY_NAME, sans: [parseSan(name)] }));
      scratch.write("root.pem", encodePem("CERTIFICATE", root.certificate.der));
      scratch.write("sub.pem", encodePem("CERTIFICATE", der));
      scratch.write("leaf.pem", encodePem("CERTIFICATE", leaf));
      const verified = (): string =>
        openssl(
          "verify",
          "-x509_strict",
          "-attime",
          String(Date.parse("2026-12-01T00:00:00Z") / 1000),
          "-CAfile",
          scratch.file("root.pem"),
          "-untrusted",
          scratch.file("sub.pem"),
          scratch.file("leaf.pem"),
        );
      if (allows(limits, name)) expect(verified()).toContain(": OK");
      else expect(verified).toThrow(/permitted subtree violation|excluded subtree violation/);
    },
  );
});
