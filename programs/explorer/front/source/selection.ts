// Filters and order of samples, and the tokens behind a point, where there is no server: as the server's queries have them.

import type { RunInfo, SampleRow, SearchedTokens, TokenHit, TokensQuery } from "./contract";

type Key = (row: SampleRow) => number | string | null;
/** A sample of the export. */
export interface Exported {
  row: SampleRow;
  tokens: SearchedTokens;
}

const KEYS: Record<string, Key> = {
  problem: (row) => row.problem,
  tokens: (row) => row.tokens,
  takeovers: (row) => row.takeovers,
  changed: (row) => row.changed,
  maxScore: (row) => row.maxScore,
  outcome: (row) => (row.correct === null ? null : Number(!row.correct)), // right first
};
const FROM_THE_TOP = new Set(["tokens", "takeovers", "changed", "maxScore"]);
const AROUND = 12; // tokens that are shown before and after each

/** The rows that a query selects, in its order; tokens and texts are read only where a filter looks into them. */
export async function selected(rows: readonly SampleRow[], runs: readonly RunInfo[], query: URLSearchParams, read: () => Promise<Exported[]>): Promise<SampleRow[]> {
  const inside = insideOf(query);
  const searched = inside ? (await read()).filter(({ tokens }) => inside(tokens)).map(({ row }) => row) : rows;
  const found = searched.filter(ofRows(rows, runs, query));
  const sort = query.get("sort") ?? "run";
  if (sort === "run") return query.get("order") === "down" ? found.reverse() : found; // the order of the export
  const key = KEYS[sort] ?? (KEYS.problem as Key);
  const sign = (query.get("order") ?? (FROM_THE_TOP.has(sort) ? "down" : "up")) === "down" ? -1 : 1;
  return found.sort((a, b) => ordered(key(a), key(b), sign) || a.problem.localeCompare(b.problem, "en", { numeric: true }) || a.index - b.index);
}

/** What a row itself says. */
function ofRows(rows: readonly SampleRow[], runs: readonly RunInfo[], query: URLSearchParams): (row: SampleRow) => boolean {
  const [chosen, programs] = [new Set(query.getAll("run")), new Set(query.getAll("program"))];
  const [outcome, flipped, flip] = [query.get("outcome"), query.get("flipped"), query.get("flip") ?? "any"];
  const takeovers = within(numberOf(query, "takeoversMin"), numberOf(query, "takeoversMax"));
  const draw = drawOf(runs);
  const there = new Map(rows.filter((row) => row.run === flipped).map((row) => [draw(row), row.correct]));
  return (row) =>
    (!chosen.size || chosen.has(row.run)) &&
    (!programs.size || programs.has(row.program)) &&
    (!outcome || outcome === outcomeOf(row)) &&
    (!flipped || hasFlipped(row, there.get(draw(row)) ?? null, flip)) &&
    takeovers(row.takeovers);
}

/** Names a sample's problem and which draw of it the sample is. */
function drawOf(runs: readonly RunInfo[]): (row: SampleRow) => string {
  const sets = new Map(runs.map((info) => [info.run, info.problemSet]));
  return (row) => JSON.stringify([sets.get(row.run), row.problem, row.index]);
}

/** What only its tokens and its text say; null where nothing of them is asked for. One token must be all that is asked of one. */
function insideOf(query: URLSearchParams): ((tokens: SearchedTokens) => boolean) | null {
  const [text, tagged] = [query.get("text")?.toLowerCase(), query.get("tagged")];
  const [word, from, to] = [query.get("word"), numberOf(query, "from"), numberOf(query, "to")];
  const [scoreMin, scoreMax] = [numberOf(query, "scoreMin"), numberOf(query, "scoreMax")];
  const [place, score] = [within(from, to), within(scoreMin, scoreMax)];
  const scored = scoreMin !== null || scoreMax !== null;
  const ofToken = Boolean(word) || scored || from !== null || to !== null;
  if (!text && !tagged && !ofToken) return null;
  const holds = (tokens: SearchedTokens, at: number): boolean =>
    place(at) && (!word || plain(tokens.texts[at]) === plain(word)) && (!scored || score(tokens.score[at]));
  // Those that may hold: with a planning word, takeovers where positions alone are asked for, or all.
  const among = (tokens: SearchedTokens): Iterable<number> =>
    tagged === "true" ? tokens.planning : word || scored ? tokens.texts.keys() : tokens.taken;
  return (tokens) =>
    (!text || tokens.question.toLowerCase().includes(text) || tokens.text.toLowerCase().includes(text)) &&
    (!tagged || tokens.planning.length > 0 === (tagged === "true")) &&
    (!ofToken || [...among(tokens)].some((at) => holds(tokens, at)));
}

/** Other samples of the same problem: those of other runs with the same index first, then other draws. */
export function partnersOf(rows: readonly SampleRow[], runs: readonly RunInfo[], run: string, sample: string): SampleRow[] {
  const own = rows.find((row) => row.run === run && row.sample === sample);
  if (!own) return [];
  const places = new Map(runs.map((info, place) => [info.run, place]));
  const draw = drawOf(runs);
  const order = (row: SampleRow): number[] => [Number(row.parent !== null), Number(row.index !== own.index), places.get(row.run) ?? 0, row.index];
  return rows
    .filter((row) => row !== own && draw({ ...row, index: 0 }) === draw({ ...own, index: 0 }))
    .map((row) => ({ row, order: order(row) }))
    .sort((a, b) => a.order.reduce((found, value, at) => found || value - (b.order[at] ?? 0), 0))
    .map(({ row }) => row);
}

/** The tokens of a run that a query asks for, in the order of its samples. */
export const hitsOf = (all: readonly Exported[], query: TokensQuery): TokenHit[] =>
  all.filter(({ row }) => row.run === query.run).flatMap((one) => hitsIn(one, query));

function hitsIn({ row, tokens }: Exported, query: TokensQuery): TokenHit[] {
  const { texts } = tokens;
  const scores = (query.metric ?? "score") === "score" ? tokens.score : (tokens.metrics[query.metric ?? ""] ?? []);
  const bounded = query.scoreMin !== undefined || query.scoreMax !== undefined;
  const [score, place] = [within(query.scoreMin, query.scoreMax), within(query.positionFrom, query.positionTo)];
  const relative = (at: number): boolean => {
    const u = (at + 0.5) / texts.length;
    return u >= (query.positionFrom ?? 0) && u < (query.positionTo ?? Infinity);
  };
  const [fired, changed, tested] = [new Set(tokens.fired), new Set(tokens.changed), new Set(tokens.tested)];
  return [...texts.keys()]
    .filter(
      (at) =>
        (query.relative ? relative(at) : place(at)) &&
        (query.word === undefined || plain(texts[at]) === plain(query.word)) &&
        (!bounded || score(scores[at])) &&
        (query.fired === undefined || fired.has(at) === query.fired) &&
        (query.changed === undefined || changed.has(at) === query.changed) &&
        (!query.tested || tested.has(at)),
    )
    .map((at) => ({
      run: row.run,
      sample: row.sample,
      position: at,
      token: texts[at] ?? "",
      before: texts.slice(Math.max(0, at - AROUND), at).join(""),
      after: texts.slice(at + 1, at + 1 + AROUND).join(""),
      score: scores[at] ?? null,
      fired: fired.has(at),
      correct: row.correct,
    }));
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

/** Whether a value is there and between two ends, both included. */
const within =
  (least: number | null | undefined, most: number | null | undefined) =>
  (value: number | null | undefined): boolean =>
    value != null && value >= (least ?? -Infinity) && value <= (most ?? Infinity);

/** A token as a word: without the white space around it, in lower case. */
const plain = (text: string | undefined): string => (text ?? "").replace(/^[ \t\n\r]+|[ \t\n\r]+$/g, "").toLowerCase();

function numberOf(query: URLSearchParams, name: string): number | null {
  const value = query.get(name);
  return value === null || value === "" || Number.isNaN(Number(value)) ? null : Number(value);
}
