import { describe, expect, it } from "vitest";
import { type Bytes, concat, fromHex } from "../../src/pki/bytes.ts";
import {
  assembleCertificate,
  buildOcspResponderTbs,
  type Certificate,
  parseCertificate,
  randomSerial,
  signTbs,
} from "../../src/pki/certificate.ts";
import { generalizedTime, integer, NULL, octetString, oid, sequence, set, tlv, utf8String } from "../../src/pki/der.ts";
import {
  EXTENSION,
  encodeAuthorityInfoAccess,
  encodeAuthorityKeyIdentifier,
  encodeBasicConstraints,
  encodeCrlDistributionPoints,
  encodeExtendedKeyUsage,
  encodeKeyUsage,
  extension,
  type KeyUsage,
} from "../../src/pki/extensions.ts";
import { encodeGeneralNames, type GeneralName, parseSan } from "../../src/pki/general-names.ts";
import { buildTbs } from "../../src/pki/issue.ts";
import { KEY_ALGORITHMS, keyIdentifier, parseSpki } from "../../src/pki/keys.ts";
import { type LintContext, lintCertificate, lintErrors, lintTbsCertificate, RULES } from "../../src/pki/lint/index.ts";
import { encodeNameConstraints, parseNameConstraints } from "../../src/pki/name-constraints.ts";
import { encodeName } from "../../src/pki/names.ts";
import { subordinateCertificate } from "../support/ca-certificates.ts";
import { issue, keyPair, NOT_AFTER, NOT_BEFORE, random, testLeaf, testRoot } from "./support.ts";

const ROOT = await testRoot("ECDSA-P256", { pathLen: 1 });
const LEAF = await testLeaf();
const ROOT_SKI = ROOT.certificate.subjectKeyIdentifier ?? random(20);

/** Extensions of a flawless leaf by name, each to be replaced or removed. */
const EXTENSIONS = {
  keyUsage: usage(["digitalSignature"]),
  eku: extension(EXTENSION.extendedKeyUsage, false, encodeExtendedKeyUsage(["serverAuth"])),
  ski: extension(EXTENSION.subjectKeyIdentifier, false, octetString(LEAF.subjectKeyIdentifier)),
  aki: extension(EXTENSION.authorityKeyIdentifier, false, encodeAuthorityKeyIdentifier(ROOT_SKI)),
  san: san(false, "a.example"),
  aia: extension(EXTENSION.authorityInfoAccess, false, encodeAuthorityInfoAccess(["http://o/"], ["http://i/"])),
  cdp: extension(EXTENSION.crlDistributionPoints, false, encodeCrlDistributionPoints(["http://c/"])),
} as const;

function usage(usages: readonly KeyUsage[], critical = true): Bytes {
  return extension(EXTENSION.keyUsage, critical, encodeKeyUsage(usages));
}

function raw(critical: boolean, names: readonly GeneralName[]): Bytes {
  return extension(EXTENSION.subjectAltName, critical, encodeGeneralNames(names));
}

function san(critical: boolean, ...names: readonly string[]): Bytes {
  return raw(critical, names.map(parseSan));
}

function basic(ca: boolean, pathLen: number | null, critical = true): Bytes {
  return extension(EXTENSION.basicConstraints, critical, encodeBasicConstraints({ ca, pathLen }));
}

interface Forgery {
  readonly fields?: Partial<Parameters<typeof buildTbs>[0]>;
  readonly extensions?: Partial<Record<keyof typeof EXTENSIONS | "more", Bytes | null>>;
  readonly outer?: Bytes;
  readonly context?: Partial<LintContext>;
}

function forge({ fields = {}, extensions = {}, outer }: Forgery): Bytes {
  const all = { ...EXTENSIONS, ...extensions };
  const tbs = buildTbs(
    {
      serial: LEAF.serial,
      signatureAlgorithmIdentifier: ROOT.signer.algorithmIdentifier,
      issuer: ROOT.certificate.subject.der,
      notBefore: LEAF.notBefore,
      notAfter: LEAF.notAfter,
      subject: LEAF.subject,
      spki: LEAF.publicKey.spki,
      ...fields,
    },
    Object.values(all).filter((one) => one !== null),
  );
  return assembleCertificate(
    tbs,
    outer ?? fields.signatureAlgorithmIdentifier ?? ROOT.signer.algorithmIdentifier,
    random(64),
  );
}

function findings(forgery: Forgery): string[] {
  const context = { kind: "leaf", issuer: ROOT.certificate, ...forgery.context } as const;
  return lintCertificate(forge(forgery), context).map(({ rule }) => rule);
}

const CA_PARTS = { keyUsage: usage(["keyCertSign", "cRLSign"]), eku: null, san: null, more: basic(true, 0) };
const CA = { kind: "ca" } as const;
const RESPONDER_PARTS = {
  eku: extension(EXTENSION.extendedKeyUsage, false, encodeExtendedKeyUsage(["OCSPSigning"])),
  san: null,
  more: extension(EXTENSION.ocspNoCheck, false, NULL),
};
const named = (attributes: readonly [string, string][]): Bytes =>
  sequence(...attributes.map(([type, value]) => set(sequence(oid(type), utf8String(value)))));
const ekus = (...names: string[]): Bytes => extension(EXTENSION.extendedKeyUsage, false, encodeExtendedKeyUsage(names));
const tlsFeature = (critical: boolean, ...numbers: number[]): Bytes =>
  extension(EXTENSION.tlsFeature, critical, sequence(...numbers.map((n) => integer(n))));
const limited = (list: { permitted?: string[]; excluded?: string[] }): Bytes => {
  const parsed = parseNameConstraints([list]);
  return parsed === null ? new Uint8Array(0) : encodeNameConstraints(parsed);
};
const constrained = (certificate: Certificate, permitted: string[]): Certificate => ({
  ...certificate,
  nameConstraints: parseNameConstraints([{ permitted }]),
});
const weak = (await keyPair("ECDSA-P256", "weak")).spki.map((octet, i, all) =>
  i === all.length - 1 ? octet ^ 1 : octet,
);

/** One planted fault for each rule; a rule may show more than once. */
const PLANTED: readonly [rule: string, forgery: Forgery][] = [
  ["serial_positive", { fields: { serial: new Uint8Array(20).fill(0x7f) }, context: {} }],
  ["serial_random", { fields: { serial: new Uint8Array([1, 2, 3, 4, 5, 6, 7]) } }],
  ["signature_algorithms_equal", { outer: sequence(oid("1.2.840.10045.4.3.3")) }],
  ["signature_algorithm_offered", { fields: { signatureAlgorithmIdentifier: sequence(oid("1.2.840.10045.4.3.3")) } }],
  ["signature_algorithm_offered", { fields: { signatureAlgorithmIdentifier: sequence(oid("1.3.101.112")) } }],
  [
    "signature_algorithm_offered",
    { fields: { signatureAlgorithmIdentifier: sequence(oid("1.2.840.113549.1.1.5"), NULL) } },
  ],
  ["issuer_not_empty", { fields: { issuer: sequence() } }],
  ["issuer_is_parents_subject", { fields: { issuer: encodeName({ common_name: "Other" }) } }],
  ["issuer_may_sign", { context: { issuer: { ...ROOT.certificate, basicConstraints: null } } }],
  ["issuer_may_sign", { context: { issuer: { ...ROOT.certificate, keyUsage: ["cRLSign"] } } }],
  ["validity_order", { fields: { notAfter: LEAF.notBefore } }],
  ["validity_within_issuer", { fields: { notAfter: new Date(NOT_AFTER.getTime() + 1000) } }],
  [
    "validity_within_issuer",
    { context: { ancestors: [{ ...ROOT.certificate, notAfter: new Date(LEAF.notAfter.getTime() - 1000) }] } },
  ],
  ["validity_starts_within_issuer", { fields: { notBefore: new Date(NOT_BEFORE.getTime() - 1000) } }],
  ["key_strong", { fields: { spki: weak } }],
  ["critical_extensions_understood", { extensions: { more: extension("1.2.3.4", true, NULL) } }],
  ["subject_attributes_bounded", { fields: { subject: named([["2.5.4.3", "x".repeat(65)]]) } }],
  ["subject_attributes_bounded", { fields: { subject: named([["2.5.4.6", "che"]]) } }],
  [
    "subject_one_common_name",
    {
      fields: {
        subject: named([
          ["2.5.4.3", "a.example"],
          ["2.5.4.3", "a.example"],
        ]),
      },
    },
  ],
  ["ca_subject_not_empty", { fields: { subject: sequence() }, extensions: CA_PARTS, context: CA }],
  ["san_present", { extensions: { san: null } }],
  ["san_critical_without_subject", { fields: { subject: sequence() } }],
  ["san_critical_without_subject", { extensions: { san: san(true, "a.example") } }],
  ["san_values_valid", { extensions: { san: raw(false, [{ type: "dns", value: "A.example" }]) } }],
  ["san_values_valid", { extensions: { san: raw(false, [{ type: "dns", value: "x.*.example" }]) } }],
  ["san_values_valid", { extensions: { san: raw(false, [{ type: "uri", value: "mailto:x" }]) } }],
  ["san_types_offered", { extensions: { san: extension(EXTENSION.subjectAltName, false, fromHex("300588032a0304")) } }],
  ["san_without_doubles", { extensions: { san: san(false, "a.example", "a.example") } }],
  ["common_name_among_sans", { extensions: { san: san(false, "b.example") } }],
  ["common_name_among_sans", { fields: { subject: encodeName({ common_name: "My Server" }) } }],
  ["name_constraints_hold", { context: { issuer: constrained(ROOT.certificate, ["DNS:b.example"]) } }],
  ["name_constraints_hold", { context: { ancestors: [constrained(ROOT.certificate, ["DNS:b.example"])] } }],
  ["key_usage_criticality", { extensions: { keyUsage: usage(["digitalSignature"], false) } }],
  ["basic_constraints_criticality", { extensions: { more: basic(false, null, false) } }],
  [
    "name_constraints_criticality",
    {
      extensions: { ...CA_PARTS, aia: extension(EXTENSION.nameConstraints, false, limited({ permitted: ["DNS:a"] })) },
      context: CA,
    },
  ],
  [
    "ski_criticality",
    { extensions: { ski: extension(EXTENSION.subjectKeyIdentifier, true, octetString(random(20))) } },
  ],
  [
    "aki_criticality",
    { extensions: { aki: extension(EXTENSION.authorityKeyIdentifier, true, encodeAuthorityKeyIdentifier(ROOT_SKI)) } },
  ],
  [
    "aia_criticality",
    {
      extensions: { aia: extension(EXTENSION.authorityInfoAccess, true, encodeAuthorityInfoAccess(["http://o/"], [])) },
    },
  ],
  [
    "cdp_criticality",
    {
      extensions: { cdp: extension(EXTENSION.crlDistributionPoints, true, encodeCrlDistributionPoints(["http://c/"])) },
    },
  ],
  ["tls_feature_criticality", { extensions: { more: tlsFeature(true, 5) } }],
  [
    "ocsp_nocheck_criticality",
    {
      extensions: { ...RESPONDER_PARTS, more: extension(EXTENSION.ocspNoCheck, true, NULL) },
      context: { kind: "responder" },
    },
  ],
  ["end_entity_is_no_ca", { extensions: { more: basic(true, null) } }],
  ["end_entity_is_no_ca", { extensions: { keyUsage: usage(["digitalSignature", "cRLSign"]) } }],
  ["ca_is_ca", { extensions: { ...CA_PARTS, more: basic(false, null) }, context: CA }],
  ["ca_is_ca", { extensions: { ...CA_PARTS, keyUsage: usage(["keyCertSign"]) }, context: CA }],
  ["path_length", { extensions: { ...CA_PARTS, more: basic(true, 1) }, context: CA }],
  [
    "path_length",
    {
      extensions: CA_PARTS,
      context: { ...CA, issuer: { ...ROOT.certificate, basicConstraints: { ca: true, pathLen: 0 } } },
    },
  ],
  [
    "path_length",
    {
      extensions: CA_PARTS,
      context: { ...CA, ancestors: [{ ...ROOT.certificate, basicConstraints: { ca: true, pathLen: 1 } }] },
    },
  ],
  ["key_usage_present", { extensions: { keyUsage: null } }],
  ["key_usage_fits_key", { extensions: { keyUsage: usage(["digitalSignature", "keyEncipherment"]) } }],
  ["eku_present", { extensions: { eku: null } }],
  ["eku_for_leaf", { extensions: { eku: ekus("anyExtendedKeyUsage") } }],
  ["eku_for_leaf", { extensions: { eku: ekus("OCSPSigning") } }],
  ["eku_for_leaf", { extensions: { eku: ekus("serverAuth", "serverAuth") } }],
  ["eku_fits_key_usage", { extensions: { keyUsage: usage(["nonRepudiation"]) } }],
  ["eku_within_chain", { context: { issuer: { ...ROOT.certificate, extendedKeyUsage: ["clientAuth"] } } }],
  ["eku_within_chain", { context: { ancestors: [{ ...ROOT.certificate, extendedKeyUsage: ["OCSPSigning"] }] } }],
  ["time_stamping_alone", { extensions: { eku: ekus("timeStamping", "serverAuth") } }],
  ["ocsp_responder", { extensions: { ...RESPONDER_PARTS, more: null }, context: { kind: "responder" } }],
  [
    "ocsp_responder",
    { extensions: { ...RESPONDER_PARTS, eku: ekus("OCSPSigning", "serverAuth") }, context: { kind: "responder" } },
  ],
  ["ski_present", { extensions: { ski: null } }],
  ["ski_present", { extensions: { ski: extension(EXTENSION.subjectKeyIdentifier, false, octetString(random(8))) } }],
  ["aki_is_issuers_ski", { extensions: { aki: null } }],
  [
    "aki_is_issuers_ski",
    {
      extensions: { aki: extension(EXTENSION.authorityKeyIdentifier, false, encodeAuthorityKeyIdentifier(random(20))) },
    },
  ],
  [
    "pointers_are_http",
    {
      extensions: {
        cdp: extension(EXTENSION.crlDistributionPoints, false, encodeCrlDistributionPoints(["ldap://c/"])),
      },
    },
  ],
  [
    "pointers_are_http",
    {
      extensions: {
        aia: extension(EXTENSION.authorityInfoAccess, false, encodeAuthorityInfoAccess(["http:///o"], [])),
      },
    },
  ],
  [
    "pointers_are_plain_http",
    {
      extensions: {
        cdp: extension(EXTENSION.crlDistributionPoints, false, encodeCrlDistributionPoints(["https://c/"])),
      },
    },
  ],
  ["must_staple_form", { extensions: { more: tlsFeature(false, 5, 17) } }],
  ["must_staple_needs_ocsp", { extensions: { aia: null, more: tlsFeature(false, 5) } }],
];

describe("lint", () => {
  it.each(KEY_ALGORITHMS)("finds nothing in what is made here: %s", async (algorithm) => {
    const root = await testRoot(algorithm, { pss: algorithm === "RSA-3072" });
    const leaf = await testLeaf(algorithm, { mustStaple: true });
    expect(lintCertificate(root.certificate.der, { kind: "root", issuer: null })).toEqual([]);
    const der = await issue(root, leaf);
    expect(lintCertificate(der, { kind: "leaf", issuer: root.certificate })).toEqual([]);
    const { tbs } = parseCertificate(der);
    expect(lintTbsCertificate(tbs, random(64), { kind: "leaf", issuer: root.certificate })).toEqual([]);
    const common = {
      ...leaf,
      issuerCertificate: root.certificate,
      subject: encodeName({ common_name: "S" }),
      signatureAlgorithmIdentifier: root.signer.algorithmIdentifier,
    };
    const sub = await subordinateCertificate({ ...common, serial: randomSerial(random), pathLen: 0 }, root.signer);
    expect(lintCertificate(sub, { kind: "ca", issuer: root.certificate })).toEqual([]);
    const responder = await signTbs(buildOcspResponderTbs(common), root.signer);
    expect(lintCertificate(responder, { kind: "responder", issuer: root.certificate })).toEqual([]);
  });

  it("finds nothing in the certificate into which the faults below are planted", () => {
    expect(findings({})).toEqual([]);
    expect(findings({ extensions: CA_PARTS, context: CA })).toEqual([]);
    expect(findings({ extensions: RESPONDER_PARTS, context: { kind: "responder" } })).toEqual([]);
  });

  it.each(PLANTED.filter(([rule]) => rule !== "serial_positive"))("%s", (rule, forgery) => {
    expect(findings(forgery)).toContain(rule);
  });

  it("version_3, serial_positive, validity_time_type, well_formed: faults that no builder makes", async () => {
    const context = { kind: "leaf", issuer: ROOT.certificate } as const;
    const rules = (der: Bytes): string[] => lintCertificate(der, context).map(({ rule }) => rule);
    const { algorithmIdentifier } = ROOT.signer;
    const assembled = (...fields: Bytes[]): Bytes =>
      assembleCertificate(sequence(...fields), algorithmIdentifier, random(64));
    const validity = sequence(generalizedTime(LEAF.notBefore), generalizedTime(LEAF.notAfter));
    const rest = [algorithmIdentifier, ROOT.certificate.subject.der, validity, LEAF.subject, LEAF.publicKey.spki];
    const found = rules(assembled(integer(0), ...rest));
    expect(found).toEqual(expect.arrayContaining(["version_3", "serial_positive", "validity_time_type"]));
    const long = tlv(0x02, concat(new Uint8Array([0]), new Uint8Array(20).fill(0xff)));
    expect(rules(assembled(long, ...rest))).toContain("serial_positive");
    expect(rules(assembled(fromHex("0201ff"), ...rest))).toEqual(["well_formed"]);
    expect(rules(forge({ extensions: { more: EXTENSIONS.eku } }))).toEqual(["well_formed"]);
    expect(lintTbsCertificate(fromHex("3000"), random(64), context).map(({ rule }) => rule)).toEqual(["well_formed"]);
  });

  it("aki_is_issuers_ski also of a root that names another key", async () => {
    const other = await testRoot("ECDSA-P256", { label: "other" });
    const aki = extension(EXTENSION.authorityKeyIdentifier, false, encodeAuthorityKeyIdentifier(random(20)));
    const ski = extension(
      EXTENSION.subjectKeyIdentifier,
      false,
      octetString(await keyIdentifier(parseSpki(LEAF.publicKey.spki))),
    );
    const root = forge({ fields: { issuer: LEAF.subject }, extensions: { ...CA_PARTS, aki, ski } });
    expect(lintCertificate(root, { kind: "root", issuer: null }).map(({ rule }) => rule)).toContain(
      "aki_is_issuers_ski",
    );
    expect(lintCertificate(other.certificate.der, { kind: "root", issuer: null })).toEqual([]);
  });

  it("has a planted fault for every rule, and each rule says where it comes from", () => {
    const elsewhere = ["version_3", "validity_time_type"];
    expect(new Set([...PLANTED.map(([rule]) => rule), ...elsewhere])).toEqual(new Set(RULES.map(({ name }) => name)));
    expect(new Set(RULES.map(({ name }) => name)).size).toBe(RULES.length);
    for (const { source } of RULES) expect(source).toMatch(/^(RFC \d{4}|CA\/B BR) /);
  });

  it("tells errors from warnings", () => {
    const der = forge({ extensions: { san: san(false, "a.example", "a.example"), ski: null } });
    const all = lintCertificate(der, { kind: "leaf", issuer: ROOT.certificate });
    expect(all.map(({ rule, level }) => [rule, level])).toEqual([
      ["san_without_doubles", "warning"],
      ["ski_present", "error"],
    ]);
    expect(lintErrors(all).map(({ rule }) => rule)).toEqual(["ski_present"]);
  });
});
