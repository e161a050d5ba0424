// Filters and order of samples, and the tokens behind a point, where there is no server: as the server's queries have them.

import type { Sample, SampleRow, TokenHit, TokensQuery, TreeNode } from "./contract";

type Key = (row: SampleRow) => number | string | null;
type Reads<T> = (run: string, sample: string) => Promise<T>;

const KEYS: Record<string, Key> = {
  problem: (row) => row.problem,
  tokens: (row) => row.tokens,
  takeovers: (row) => row.takeovers,
  changed: (row) => row.changed,
  maxScore: (row) => row.maxScore,
  outcome: (row) => (row.correct === null ? null : Number(!row.correct)), // right first
};
const FROM_THE_TOP = new Set(["tokens", "takeovers", "changed", "maxScore"]);
const TOGETHER = 64; // samples that are read at once
const AROUND = 12; // tokens that are shown before and after each

/** The rows that a query selects, in its order; samples are read only where a filter looks into their tokens or text. */
export async function selected(rows: readonly SampleRow[], query: URLSearchParams, read: Reads<Sample>): Promise<SampleRow[]> {
  let found = rows.filter(ofRows(rows, query));
  const inside = insideOf(query);
  if (inside) {
    const kept = await inTurn(found, async (row) => inside(await read(row.run, row.sample)));
    found = found.filter((_, place) => kept[place]);
  }
  const sort = query.get("sort") ?? "run";
  if (sort === "run") return query.get("order") === "down" ? found.reverse() : found; // the order of the export
  const key = KEYS[sort] ?? (KEYS.problem as Key);
  const sign = (query.get("order") ?? (FROM_THE_TOP.has(sort) ? "down" : "up")) === "down" ? -1 : 1;
  return found.sort((a, b) => ordered(key(a), key(b), sign) || a.problem.localeCompare(b.problem, "en", { numeric: true }) || a.index - b.index);
}

/** What a row itself says. */
function ofRows(rows: readonly SampleRow[], query: URLSearchParams): (row: SampleRow) => boolean {
  const [runs, programs] = [new Set(query.getAll("run")), new Set(query.getAll("program"))];
  const [outcome, flipped, flip] = [query.get("outcome"), query.get("flipped"), query.get("flip") ?? "any"];
  const takeovers = within(numberOf(query, "takeoversMin"), numberOf(query, "takeoversMax"));
  const there = new Map(rows.filter((row) => row.run === flipped).map((row) => [`${row.problem} ${row.index}`, row.correct]));
  return (row) =>
    (!runs.size || runs.has(row.run)) &&
    (!programs.size || programs.has(row.program)) &&
    (!outcome || outcome === outcomeOf(row)) &&
    (!flipped || hasFlipped(row, there.get(`${row.problem} ${row.index}`) ?? null, flip)) &&
    takeovers(row.takeovers);
}

/** What only its tokens and its text say; null where nothing of them is asked for. One token must be all that is asked of one. */
function insideOf(query: URLSearchParams): ((sample: Sample) => boolean) | null {
  const [text, tagged] = [query.get("text")?.toLowerCase(), query.get("tagged")];
  const [word, from, to] = [query.get("word"), numberOf(query, "from"), numberOf(query, "to")];
  const [scoreMin, scoreMax] = [numberOf(query, "scoreMin"), numberOf(query, "scoreMax")];
  const [place, score] = [within(from, to), within(scoreMin, scoreMax)];
  const scored = scoreMin !== null || scoreMax !== null;
  const ofToken = Boolean(word) || scored || from !== null || to !== null;
  if (!text && !tagged && !ofToken) return null;
  const takeover = !word && !scored && tagged !== "true";
  const holds = (sample: Sample, at: number): boolean =>
    place(at) &&
    (!word || plain(sample.texts[at]) === plain(word)) &&
    (!scored || score(sample.score[at])) &&
    (tagged !== "true" || sample.planning[at] != null) &&
    (!takeover || sample.source[at] === "reasoning");
  return (sample) =>
    (!text || sample.question.toLowerCase().includes(text) || sample.text.toLowerCase().includes(text)) &&
    (tagged !== "true" || sample.planning.some((tag) => tag !== null)) &&
    (tagged !== "false" || sample.planning.every((tag) => tag === null)) &&
    (!ofToken || sample.ids.some((_, at) => holds(sample, at)));
}

/** The tokens of a run that a query asks for, in the order of its samples. */
export async function hitsOf(rows: readonly SampleRow[], query: TokensQuery, read: Reads<Sample>, readTree: Reads<TreeNode[]>): Promise<TokenHit[]> {
  const own = rows.filter((row) => row.run === query.run);
  const found = await inTurn(own, async ({ run, sample }) => {
    const tested = query.tested ? testedIn(sample, await readTree(run, sample)) : null;
    return hitsIn(await read(run, sample), query, tested);
  });
  return found.flat();
}

function hitsIn(sample: Sample, query: TokensQuery, tested: Set<number> | null): TokenHit[] {
  const { row, ids, texts, fired, baseDrewIds } = sample;
  const scores = (query.metric ?? "score") === "score" ? sample.score : (sample.metrics[query.metric ?? ""] ?? []);
  const bounded = query.scoreMin !== undefined || query.scoreMax !== undefined;
  const [score, place] = [within(query.scoreMin, query.scoreMax), within(query.positionFrom, query.positionTo)];
  const relative = (at: number): boolean => {
    const u = (at + 0.5) / ids.length;
    return u >= (query.positionFrom ?? 0) && u < (query.positionTo ?? Infinity);
  };
  const changed = (at: number): boolean => fired[at] === true && baseDrewIds[at] != null && baseDrewIds[at] !== ids[at];
  return [...ids.keys()]
    .filter(
      (at) =>
        (query.relative ? relative(at) : place(at)) &&
        (query.word === undefined || plain(texts[at]) === plain(query.word)) &&
        (!bounded || score(scores[at])) &&
        (query.fired === undefined || fired[at] === query.fired) &&
        (query.changed === undefined || changed(at) === query.changed) &&
        (tested === null || tested.has(at)),
    )
    .map((at) => ({
      run: row.run,
      sample: row.sample,
      position: at,
      token: texts[at] ?? "",
      before: texts.slice(Math.max(0, at - AROUND), at).join(""),
      after: texts.slice(at + 1, at + 1 + AROUND).join(""),
      score: scores[at] ?? null,
      fired: fired[at] === true,
      correct: row.correct,
    }));
}

/** Positions at which both arms were graded. */
function testedIn(sample: string, nodes: readonly TreeNode[]): Set<number> {
  const graded = nodes.filter((node) => node.parent === sample && node.correct !== null);
  const at = (arm: string): Set<number> => new Set(graded.filter((node) => node.arm === arm).map((node) => node.position));
  const denied = at("denied");
  return new Set([...at("taken")].filter((position) => denied.has(position)));
}

/** Some at a time: a browser that is asked for thousands of files at once gives up on some. */
async function inTurn<T, R>(all: readonly T[], one: (each: T) => Promise<R>): Promise<R[]> {
  const found: R[] = [];
  for (let start = 0; start < all.length; start += TOGETHER) found.push(...(await Promise.all(all.slice(start, start + TOGETHER).map(one))));
  return found;
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
