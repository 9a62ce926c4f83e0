import { afterAll, describe, expect, it } from "vitest";
import { fromHex, toHex, utf8 } from "../../src/pki/bytes.ts";
import { decode, oid, sequence, tlv } from "../../src/pki/der.ts";
import {
  canonicalName,
  decodeGeneralNames,
  encodeGeneralNames,
  hostOfUri,
  parseSan,
} from "../../src/pki/general-names.ts";
import {
  EMPTY_NAME,
  encodeName,
  formatName,
  nameBelow,
  organizationOf,
  parseName,
  type SubjectName,
  subjectOf,
} from "../../src/pki/names.ts";
import { encodePem } from "../../src/pki/pem.ts";
import { openssl, Scratch, testRoot } from "./support.ts";

const scratch = new Scratch();
afterAll(() => scratch.dispose());

describe("distinguished names", () => {
  it("a name below another one keeps where that belongs, byte for byte, and not what names its bearer", () => {
    // C and O as PrintableString, O and UID in one RDN, DC as IA5String: another encoder's choices.
    const rdn = (...pairs: [string, number, string][]) =>
      tlv(0x31, ...pairs.map(([type, tag, value]) => sequence(oid(type), tlv(tag, utf8(value)))));
    const base = sequence(
      rdn(["0.9.2342.19200300.100.1.25", 0x16, "example"]),
      rdn(["2.5.4.6", 0x13, "DE"]),
      rdn(["2.5.4.10", 0x13, "Org"]),
      rdn(["0.9.2342.19200300.100.1.1", 0x0c, "u1"], ["2.5.4.11", 0x0c, "Unit of u1"]),
      rdn(["2.5.4.5", 0x13, "123"]),
      rdn(["2.5.4.3", 0x0c, "The CA"]),
      rdn(["1.2.840.113549.1.9.1", 0x16, "ca@example.com"]),
    );
    const kept = organizationOf(parseName(base));
    expect(toHex(base)).toContain(toHex(kept.subarray(2)));
    expect(formatName(parseName(kept))).toBe("O=Org,C=DE,DC=example");
    const below = nameBelow(kept, "Responder");
    expect(toHex(below)).toContain(toHex(kept.subarray(2)));
    expect(formatName(parseName(below))).toBe("CN=Responder,O=Org,C=DE,DC=example");
    expect(toHex(nameBelow(EMPTY_NAME, "x"))).toBe(toHex(encodeName({ common_name: "x" })));
    expect(organizationOf(parseName(encodeName({ common_name: "x" })))).toEqual(EMPTY_NAME);
  });

  const full: SubjectName = {
    common_name: 'Grüße, "Welt" + <x>; #\\ ü',
    organization: "Ünïcode 株式会社",
    organizational_unit: "R&D=1",
    country: "CH",
    state: "Zürich",
    locality: "#Zürich",
    postal_code: "8000",
    street_address: "Weg 1",
    serial_number: "A-1",
  };

  it("are encoded as openssl reads them, in the order of the Baseline Requirements", async () => {
    const root = await testRoot("ECDSA-P256", { subject: encodeName(full) });
    const pem = scratch.write("n.pem", encodePem("CERTIFICATE", root.certificate.der));
    const text = openssl("x509", "-in", pem, "-noout", "-subject", "-nameopt", "RFC2253,-esc_msb,utf8");
    const street = formatName(root.certificate.subject).replace("STREET=", "street=");
    expect(text.trim()).toBe(`subject=${street}`);
    const order = openssl("x509", "-in", pem, "-noout", "-subject", "-nameopt", "sname,sep_comma_plus,utf8");
    expect([...order.matchAll(/(?:^|[=,])\s*([A-Za-z]+)=/g)].length).toBeGreaterThan(0);
    expect(subjectOf(parseName(encodeName(full)))).toEqual(full);
    expect(parseName(encodeName(full)).commonName).toBe(full.common_name);
  });

  it("golden: country printable, the rest UTF-8", () => {
    expect(toHex(encodeName({ common_name: "a", country: "CH" }))).toBe(
      "3019310b3009060355040613024348310a300806035504030c0161",
    );
    expect(toHex(encodeName({ common_name: "", organization: null }))).toBe("3000");
    expect(EMPTY_NAME).toHaveLength(2);
  });

  it.each([
    [{ common_name: "x".repeat(65) }, "common_name is longer than 64"],
    [{ organization: "x\u0000y" }, "control character"],
    [{ organization: "x\ny" }, "control character"],
    [{ organization: " x" }, "white space"],
    [{ organization: "   " }, "white space"],
    [{ organization: "\ud800" }, "control character"],
    [{ country: "ch" }, "two capital letters"],
    [{ country: "CHE" }, "longer than 2"],
    [{ serial_number: "ü" }, "letters, digits"],
  ])("refuse %o", (subject, message) => {
    expect(() => encodeName(subject)).toThrow(expect.objectContaining({ code: "invalid_name" }));
    expect(() => encodeName(subject)).toThrow(message);
  });

  it("show multi-valued parts, unknown types and values that are no string (RFC 4514)", () => {
    const pair = (type: string, value: Uint8Array) => sequence(fromHex(type), value);
    const name = sequence(
      tlv(0x31, pair("0603550403", tlv(0x0c, utf8("a"))), pair("060355040b", tlv(0x0c, utf8("b")))),
      tlv(0x31, pair("06022a03", tlv(0x0c, utf8(" x ")))),
      tlv(0x31, pair("060355042d", fromHex("03020700"))),
    );
    expect(formatName(parseName(name))).toBe("2.5.4.45=\\#03020700,1.2.3=\\ x\\ ,CN=a+OU=b");
  });

  it.each([
    ["an empty RDN", "30023100"],
    ["a pair without value", "300931073005060355040300".slice(0, 22)],
    ["no SEQUENCE", "3100"],
    ["something behind the value", "300f310d300b06035504030c0161050000".slice(0, 34)],
  ])("refuse %s", (_, text) => {
    expect(() => parseName(fromHex(text))).toThrow(expect.objectContaining({ code: "der_invalid" }));
  });
});

describe("subject alternative names", () => {
  it.each([
    ["a.example", "dns", "a.example"],
    ["A.Example", "dns", "a.example"],
    ["*.a.example", "dns", "*.a.example"],
    ["localhost", "dns", "localhost"],
    ["bücher.example", "dns", "xn--bcher-kva.example"],
    ["*.BÜCHER.example", "dns", "*.xn--bcher-kva.example"],
    ["xn--bcher-kva.example", "dns", "xn--bcher-kva.example"],
    ["日本語。jp", "dns", "xn--wgv71a119e.jp"],
    ["10.0.0.1", "ip", "10.0.0.1"],
    ["2001:DB8:0:0:0:0:0:1", "ip", "2001:db8::1"],
    ["::ffff:1.2.3.4", "ip", "::ffff:102:304"],
    ["Who@Example.COM", "email", "Who@example.com"],
    ["a+b@xn--bcher-kva.example", "email", "a+b@xn--bcher-kva.example"],
    ["spiffe://Trust.Example/ns/A", "uri", "spiffe://trust.example/ns/A"],
    ["spiffe://Trust_Domain/ns/a_b", "uri", "spiffe://trust_domain/ns/a_b"],
    ["URN:UUID:F81d4fae-7dec-11d0-a765-00a0c91e6bf6", "uri", "urn:uuid:F81d4fae-7dec-11d0-a765-00a0c91e6bf6"],
    ["urn:example:a:b@c", "uri", "urn:example:a:b@c"],
    ["HTTPS://a@Host.Example:8443/P?q#f", "uri", "https://a@host.example:8443/P?q#f"],
    ["https://[2001:DB8::1]/", "uri", "https://[2001:db8::1]/"],
  ])("%s is %s %s", (text, type, value) => {
    expect(parseSan(text)).toEqual({ type, value });
    expect(parseSan(value)).toEqual({ type, value });
  });

  it.each([
    "",
    ".",
    "a..b",
    "a.example.",
    ".a.example",
    "*",
    "*.",
    "*.*.example",
    "a.*.example",
    "w*.example",
    "*a.example",
    "-a.example",
    "a-.example",
    "a_b.example",
    "a b.example",
    "a.example/",
    "a.example:443",
    "a%2e.example",
    "ab--c.example",
    "xn--.example",
    "xn--a.example",
    "xn--zzzzzzzz99999.example",
    "1.2.3",
    "1.2.3.4.5",
    "256.1.1.1",
    "0x7f.1",
    "0x7f.example.1",
    "a\u0000.example",
    "a.exa\u00admple\u0000",
    `${"a".repeat(64)}.example`,
    `${"a.".repeat(127)}example`,
    "fe80::1%eth0",
    "10.0.0.0/8",
    "1::2::3",
    "@a.example",
    "a@",
    "a@b@c",
    "a b@c.example",
    ".a@c.example",
    "ü@c.example",
    `${"x".repeat(65)}@c.example`,
    "http://",
    "://a",
    "http:///x",
    "http://a b/",
    "http://a_b/",
    "http://ü.example/",
    "http://a/%zz",
    "http://a:99999/",
    "spiffe://user@trust_domain/x",
    "spiffe://trust_domain:8443/x",
    "https://host_name/x",
    "urn:",
    "urn:a:",
    "urn:-a:b",
    "urn:a b:c",
    "urn:uuid:a b",
    "urn:uuid:%zz",
  ])("%j is refused", (text) => {
    expect(() => parseSan(text)).toThrow(expect.objectContaining({ code: "invalid_name" }));
  });

  it("are octet for octet what openssl reads, and read back", () => {
    const texts = ["a.example", "10.0.0.1", "2001:db8::1", "a@b.example", "spiffe://x.example/y"];
    const encoded = encodeGeneralNames(texts.map(parseSan));
    expect(toHex(encoded)).toBe(
      `30${(encoded.length - 2).toString(16).padStart(2, "0")}` +
        `8209${Buffer.from("a.example").toString("hex")}87040a000001871020010db8000000000000000000000001` +
        `810b${Buffer.from("a@b.example").toString("hex")}8614${Buffer.from("spiffe://x.example/y").toString("hex")}`,
    );
    const back = decodeGeneralNames(decode(encoded));
    expect(back.names.map(canonicalName)).toEqual(texts.map(parseSan));
    expect(back.others).toEqual([]);
  });

  it("name the types that are not offered and refuse what is malformed", () => {
    const others = "a00906022a03a0030c0161" + "88022a03" + "a4023000";
    expect(decodeGeneralNames(decode(fromHex(`3013${others}`))).others).toEqual([
      "otherName 1.2.3",
      "registeredID 1.2.3",
      "directoryName",
    ]);
    for (const bad of ["3000", "3004870201ff", "30038201ff", "3003820100", "300389010a", "3007870501020304" + "05"]) {
      expect(() => decodeGeneralNames(decode(fromHex(bad))), bad).toThrow(
        expect.objectContaining({ code: "der_invalid" }),
      );
    }
  });

  it("give their host", () => {
    expect(hostOfUri("https://u:p@Host.example:1/x@y")).toBe("host.example");
    expect(hostOfUri("https://[2001:db8::1]:8/")).toBe("2001:db8::1");
  });
});
