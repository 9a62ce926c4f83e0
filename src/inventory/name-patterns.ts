import { invalid } from "../platform/errors.ts";

/**
 * Patterns for names: a subset of regular expressions with bounded running time. An alternative has at most three
 * repetitions of single characters and no repeated group, so matching takes at most the cube of the name's length.
 */
const MAX_LENGTH = 256;
const MAX_ALTERNATIVES = 8;
const MAX_REPETITIONS = 3;
/** Longer names never match. A DNS name has at most 253 characters. */
const MAX_NAME = 512;

const ATOM =
  /^(?:\\[.dw\-\\/+*?|()[\]{}^$]|\[\^?(?:[A-Za-z0-9._:/@%~+ -]|\\[dw.\-\\\]])+\]|[A-Za-z0-9_:/@%~,=!'";&<># -]|\.)/;
const REPETITION = /^(?:[*+?]|\{\d{1,4}(?:,\d{0,4})?\})/;

/** Throws a 400 naming `field` unless the pattern is in the subset; the message says what to write instead. */
export function checkPattern(field: string, pattern: string): void {
  if (pattern.length > MAX_LENGTH) throw invalid(field, `may have at most ${MAX_LENGTH} characters`);
  const alternatives = alternativesOf(pattern);
  if (alternatives.length > MAX_ALTERNATIVES) throw invalid(field, `may have at most ${MAX_ALTERNATIVES} alternatives`);
  for (const alternative of alternatives) checkAlternative(field, alternative);
  try {
    new RegExp(anchored(pattern), "u");
  } catch {
    throw invalid(field, "is not a regular expression");
  }
}

function checkAlternative(field: string, alternative: string): void {
  let rest = alternative.replace(/^\^/, "").replace(/(?<!\\)\$$/, "");
  if (rest === "") throw invalid(field, "an empty alternative matches no name");
  let repetitions = 0;
  while (rest !== "") {
    const atom = ATOM.exec(rest)?.[0];
    if (atom === undefined)
      throw invalid(
        field,
        `${JSON.stringify(rest.slice(0, 12))} is not of the subset: literals, '.', classes, '?', '*', '+', '{m,n}' after one character, '|' between whole alternatives; no groups`,
      );
    rest = rest.slice(atom.length);
    const repetition = REPETITION.exec(rest);
    if (!repetition) continue;
    if (atom === "/" && repetition[0] === "*")
      throw invalid(field, "'/*' repeats the slash: write '/[^/]+' for one segment or '/.*' for the rest");
    // {3} matches one length only and costs nothing.
    if (!/^\{\d+\}$/.test(repetition[0])) repetitions++;
    rest = rest.slice(repetition[0].length);
    if (/^[*+?{]/.test(rest)) throw invalid(field, "a repetition of a repetition is not of the subset");
  }
  if (repetitions > MAX_REPETITIONS)
    throw invalid(field, `has ${repetitions} repetitions; at most ${MAX_REPETITIONS} in each alternative`);
}

/** Splits at each `|` outside classes and escapes. */
function alternativesOf(pattern: string): string[] {
  const parts: string[] = [""];
  let inClass = false;
  for (let i = 0; i < pattern.length; i++) {
    const character = pattern[i] ?? "";
    if (character === "|" && !inClass) {
      parts.push("");
      continue;
    }
    if (character === "[") inClass = true;
    if (character === "]") inClass = false;
    const taken = character === "\\" ? character + (pattern[++i] ?? "") : character;
    parts[parts.length - 1] += taken;
  }
  return parts;
}

function anchored(pattern: string): string {
  return alternativesOf(pattern)
    .map((alternative) => `^(?:${alternative.replace(/^\^/, "").replace(/(?<!\\)\$$/, "")})$`)
    .join("|");
}

/** Compiled patterns of this isolate; cleared when full. */
const compiled = new Map<string, RegExp>();
const COMPILED = 1000;

/** Whether the checked pattern matches the whole name, ignoring case. */
export function matchesPattern(pattern: string, name: string): boolean {
  if (name.length > MAX_NAME) return false;
  let expression = compiled.get(pattern);
  if (!expression) {
    if (compiled.size >= COMPILED) compiled.clear();
    expression = new RegExp(anchored(pattern), "iu");
    compiled.set(pattern, expression);
  }
  return expression.test(name);
}
