/** Query parsing and unknown-parameter errors. */

export function queryOf(url: string): Record<string, string> {
  const query: Record<string, string> = {};
  if (!url.includes("?")) return query;
  for (const [name, value] of new URL(url).searchParams) query[name] ??= value;
  return query;
}

/** Describes the first unknown parameter, with the nearest known name; null if all names are known. */
export function unknownParameter(names: readonly string[], known: readonly string[]): string | null {
  const unknown = names.find((name) => !known.includes(name));
  if (unknown === undefined) return null;
  const shown = JSON.stringify(unknown.slice(0, 100));
  if (known.length === 0) return `${shown} is not a parameter of this request, which takes none`;
  const nearest = nearestTo(unknown, known);
  const hint = nearest === null ? "" : ` (did you mean ${nearest}?)`;
  return `${shown} is not a parameter of this request${hint}; it takes ${known.join(", ")}`;
}

/** The known name with the smallest edit distance, if that is small enough. */
function nearestTo(name: string, known: readonly string[]): string | null {
  const plain = (text: string) => text.toLowerCase().replaceAll(/[^a-z0-9]/g, "");
  const ranked = known
    .map((one) => ({ one, distance: distance(plain(name.slice(0, 64)), plain(one)) }))
    .sort((a, b) => a.distance - b.distance);
  const [best] = ranked;
  return best && best.distance <= Math.max(2, Math.floor(best.one.length / 3)) ? best.one : null;
}

/** Damerau-Levenshtein distance: insertions, deletions, substitutions and swaps of neighbours count one each. */
function distance(a: string, b: string): number {
  let before: number[] = [];
  let last: number[] = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      let least = Math.min((last[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (last[j - 1] ?? 0) + same);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        least = Math.min(least, (before[j - 2] ?? 0) + 1);
      row.push(least);
    }
    before = last;
    last = row;
  }
  return last[b.length] ?? 0;
}
