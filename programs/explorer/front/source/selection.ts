// Filters and order of samples where there is no server: the same names as the server's query.

import type { SampleRow } from "./contract";

type Key = (row: SampleRow) => number | string | null;
const KEYS: Record<string, Key> = {
  problem: (row) => row.problem,
  tokens: (row) => row.tokens,
  takeovers: (row) => row.takeovers,
  changed: (row) => row.changed,
  maxScore: (row) => row.maxScore,
  outcome: (row) => (row.correct === null ? null : Number(!row.correct)), // right first
};

const FROM_THE_TOP = new Set(["tokens", "takeovers", "changed", "maxScore"]);

export function selected(rows: readonly SampleRow[], query: URLSearchParams): SampleRow[] {
  const text = query.get("text")?.toLowerCase() ?? "";
  const [runs, programs] = [new Set(query.getAll("run")), new Set(query.getAll("program"))];
  const [outcome, flipped] = [query.get("outcome"), query.get("flipped")];
  const [least, most] = [numberOf(query, "takeoversMin") ?? 0, numberOf(query, "takeoversMax") ?? Infinity];
  const scoreMin = numberOf(query, "scoreMin") ?? -Infinity;
  const there = new Map(rows.filter((row) => row.run === flipped).map((row) => [`${row.problem} ${row.index}`, row.correct]));
  const found = rows.filter(
    (row) =>
      (!runs.size || runs.has(row.run)) &&
      (!programs.size || programs.has(row.program)) &&
      (!outcome || outcome === outcomeOf(row)) &&
      (!flipped || hasFlipped(row, there.get(`${row.problem} ${row.index}`) ?? null, query.get("flip") ?? "any")) &&
      row.takeovers >= least &&
      row.takeovers <= most &&
      (scoreMin === -Infinity || (row.maxScore ?? -Infinity) >= scoreMin) &&
      (!text || `${row.question}\n${row.answer ?? ""}`.toLowerCase().includes(text)),
  );
  const sort = query.get("sort") ?? "run";
  if (sort === "run") return query.get("order") === "down" ? found.reverse() : found; // the order of the export
  const key = KEYS[sort] ?? (KEYS.problem as Key);
  const sign = (query.get("order") ?? (FROM_THE_TOP.has(sort) ? "down" : "up")) === "down" ? -1 : 1;
  return found.sort((a, b) => ordered(key(a), key(b), sign) || a.problem.localeCompare(b.problem, "en", { numeric: true }) || a.index - b.index);
}

export const outcomeOf = (row: { correct: boolean | null }): "right" | "wrong" | "ungraded" =>
  row.correct === null ? "ungraded" : row.correct ? "right" : "wrong";

function hasFlipped(row: SampleRow, there: boolean | null, flip: string): boolean {
  if (row.correct === null || there === null || row.correct === there) return false;
  return flip === "any" || (flip === "gained") === row.correct;
}

/** What is not known comes last, whichever way one sorts. */
function ordered(a: number | string | null, b: number | string | null, sign: number): number {
  if (a === null || b === null) return Number(a === null) - Number(b === null);
  const order = typeof a === "number" ? a - (b as number) : a.localeCompare(b as string, "en", { numeric: true });
  return sign * order;
}

function numberOf(query: URLSearchParams, name: string): number | null {
  const value = query.get(name);
  return value === null || value === "" || Number.isNaN(Number(value)) ? null : Number(value);
}
