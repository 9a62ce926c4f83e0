import { PkiError } from "../errors.ts";
import { EXTENSION } from "../extensions.ts";
import { canonicalName, type GeneralName, parseSan, sameName } from "../general-names.ts";
import { violationOf } from "../name-constraints.ts";
import type { Rule, Subject } from "./rule.ts";

/** Rules for the subject and the subject alternative names. */

const COMMON_NAME = "2.5.4.3";

/** Upper bounds of RFC 5280 appendix A.1 in characters. */
const BOUNDS: ReadonlyMap<string, number> = new Map([
  [COMMON_NAME, 64],
  ["2.5.4.5", 64],
  ["2.5.4.7", 128],
  ["2.5.4.8", 128],
  ["2.5.4.10", 64],
  ["2.5.4.11", 64],
  ["2.5.4.17", 40],
]);

function canonical(read: () => GeneralName): GeneralName | null {
  try {
    return read();
  } catch (error) {
    if (error instanceof PkiError) return null;
    throw error;
  }
}

function commonNameAmongSans({ certificate }: Subject): string | null {
  const { commonName } = certificate.subject;
  if (commonName === null) return null;
  const name = canonical(() => parseSan(commonName));
  const names = certificate.subjectAltName?.names ?? [];
  return name !== null && names.some((san) => sameName(san, name))
    ? null
    : `commonName ${JSON.stringify(commonName)} is not among the subject alternative names`;
}

function namesValid({ certificate }: Subject): string | null {
  for (const name of certificate.subjectAltName?.names ?? []) {
    const wanted = canonical(() => canonicalName(name));
    if (wanted === null) return `${name.type} name ${JSON.stringify(name.value)} is not valid`;
    if (!sameName(wanted, name)) return `${name.type} name ${JSON.stringify(name.value)} should be ${wanted.value}`;
  }
  return null;
}

function constraintsHold({ certificate, chain }: Subject): string | null {
  const names = certificate.subjectAltName?.names ?? [];
  for (const authority of chain) {
    const violation = violationOf({ names, subject: certificate.subject }, authority.nameConstraints);
    if (violation !== null) return violation;
  }
  return null;
}

function attributeBounds({ certificate }: Subject): string | null {
  for (const { type, value } of certificate.subject.attributes) {
    const bound = BOUNDS.get(type);
    if (bound !== undefined && [...value].length > bound) return `attribute ${type} is longer than ${bound} characters`;
    if (type === "2.5.4.6" && !/^[A-Z]{2}$/.test(value)) return "country is not two capital letters";
    if (value.trim() === "") return `attribute ${type} is blank`;
  }
  return null;
}

export const NAME_RULES: readonly Rule[] = [
  { name: "subject_attributes_bounded", source: "RFC 5280 A.1", level: "error", check: attributeBounds },
  {
    name: "subject_one_common_name",
    source: "CA/B BR 7.1.4.3",
    level: "error",
    check: ({ certificate }) =>
      certificate.subject.attributes.filter(({ type }) => type === COMMON_NAME).length > 1
        ? "several commonNames"
        : null,
  },
  {
    name: "ca_subject_not_empty",
    source: "RFC 5280 4.1.2.6",
    level: "error",
    kinds: ["ca", "root", "responder"],
    check: ({ certificate }) => (certificate.subject.attributes.length > 0 ? null : "subject is empty"),
  },
  {
    name: "san_present",
    source: "CA/B BR 7.1.2.7.12",
    level: "error",
    kinds: ["leaf"],
    check: ({ certificate }) => (certificate.subjectAltName === null ? "no subject alternative name" : null),
  },
  {
    name: "san_critical_without_subject",
    source: "RFC 5280 4.2.1.6",
    level: "error",
    kinds: ["leaf"],
    check: ({ certificate }) => {
      const san = certificate.extensions.find(({ oid }) => oid === EXTENSION.subjectAltName);
      if (san === undefined || san.critical === (certificate.subject.attributes.length === 0)) return null;
      return san.critical ? "critical although there is a subject" : "not critical although the subject is empty";
    },
  },
  { name: "san_values_valid", source: "RFC 5280 4.2.1.6", level: "error", check: namesValid },
  {
    name: "san_types_offered",
    source: "CA/B BR 7.1.2.7.12",
    level: "error",
    check: ({ certificate }) => {
      const others = certificate.subjectAltName?.others ?? [];
      return others.length === 0 ? null : `subject alternative name of type ${others.join(", ")}`;
    },
  },
  {
    name: "san_without_doubles",
    source: "CA/B BR 7.1.2.7.12",
    level: "warning",
    check: ({ certificate }) => {
      const names = certificate.subjectAltName?.names ?? [];
      return new Set(names.map(({ type, value }) => `${type}:${value}`)).size === names.length
        ? null
        : "a name stands twice";
    },
  },
  {
    name: "common_name_among_sans",
    source: "CA/B BR 7.1.4.3",
    level: "error",
    kinds: ["leaf"],
    check: commonNameAmongSans,
  },
  { name: "name_constraints_hold", source: "RFC 5280 6.1.3", level: "error", check: constraintsHold },
];
