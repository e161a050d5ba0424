// Data of the store: from the server, from the first view's payload in the page, or from the files of a static export.

import { isStatic, joined } from "./address";
import type { Candidates, Sample, SampleRow, SamplesPage, SearchedTokens, StoreInfo, TokenCandidates, TokensQuery, TreeNode, Aggregate, TokenHit } from "./contract";
import { type Exported, hitsOf, partnersOf, selected } from "./selection";

/** What went wrong and what to do, as the server says it. */
export class Failure extends Error {
  constructor(
    message: string,
    readonly remedy: string,
  ) {
    super(message);
  }
}

const first: Map<string, unknown> = new Map(
  Object.entries(JSON.parse(document.getElementById("first")?.textContent || "{}") as Record<string, unknown>),
);

const loaded = new Map<string, (payload: unknown) => void>();
/** Called by the files of a static export. */
(globalThis as { rrti?: unknown }).rrti = (key: string, payload: unknown): void => loaded.get(key)?.(payload);

function loadFile(key: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    loaded.set(key, resolve);
    const script = document.createElement("script");
    script.src = `data/${key.replaceAll("%", "~").replace("?", "~3F")}.js`;
    script.onerror = () => reject(new Failure("This is not in the export.", "Export it with `rrti view --export`, or open the store."));
    script.onload = () => script.remove();
    document.head.append(script);
  });
}

async function ask(key: string, signal?: AbortSignal): Promise<unknown> {
  let answer: Response;
  try {
    answer = await fetch(`/data/${key}`, { headers: { accept: "application/json" }, ...(signal ? { signal } : {}) });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Failure("The server does not answer.", "Start it again: rrti view.");
  }
  if (!answer.ok) throw await failureOf(answer);
  return answer.json();
}

/** The server's refusal as an error. */
export async function failureOf(answer: Response): Promise<Failure> {
  try {
    const { error } = (await answer.json()) as { error: { message: string; remedy: string } };
    return new Failure(error.message, error.remedy ?? "");
  } catch {
    return new Failure(`The server answered ${answer.status}.`, "");
  }
}

const kept = new Map<string, Promise<unknown>>();
const KEPT = 400; // answers; the oldest go first

function once<T>(key: string): Promise<T> {
  const known = kept.get(key);
  if (known) return known as Promise<T>;
  const payload = first.has(key) ? Promise.resolve(first.get(key)) : isStatic ? loadFile(key) : ask(key);
  kept.set(key, payload);
  payload.catch(() => kept.delete(key));
  if (kept.size > KEPT) kept.delete(kept.keys().next().value as string);
  return payload as Promise<T>;
}

export const readStore = (): Promise<StoreInfo> => once("store");
export const readSample = (run: string, sample: string): Promise<Sample> => once(`sample/${joined(run, sample)}`);
export const readPartners = async (run: string, sample: string): Promise<SampleRow[]> =>
  isStatic ? partnersOf((await once<SamplesPage>("samples")).rows, (await readStore()).runs, run, sample) : once(`partners/${joined(run, sample)}`);
export const readAggregate = (name: string, search: string): Promise<Aggregate> => once(`statistics/${joined(name)}${search}`);

/** Not kept: branches are added while one looks. */
export async function readTree(run: string, sample: string): Promise<TreeNode[]> {
  const key = joined(run, sample);
  if (isStatic) return (await once<Record<string, TreeNode[]>>("trees"))[key] ?? [];
  return (await ask(`tree/${key}`)) as TreeNode[];
}

export const PAGE = 100; // rows a request

/** One page of the samples that a query selects, `offset` rows in. */
export async function readSamples(query: URLSearchParams, offset: number): Promise<SamplesPage> {
  if (isStatic) {
    const { rows } = await once<SamplesPage>("samples");
    const found = await selected(rows, (await readStore()).runs, query, exported);
    return { total: found.length, offset: 0, rows: found };
  }
  if (offset === 0) {
    const key = `samples${query.size ? `?${query}` : ""}`;
    if (first.has(key)) return first.get(key) as SamplesPage;
  }
  const asked = new URLSearchParams(query);
  asked.set("offset", String(offset));
  asked.set("limit", String(PAGE));
  return (await ask(`samples?${asked}`)) as SamplesPage;
}

/** The rows of a static export with what is searched in. */
async function exported(): Promise<Exported[]> {
  const [{ rows }, tokens] = await Promise.all([once<SamplesPage>("samples"), once<SearchedTokens[]>("tokens")]);
  return rows.map((row, place) => ({ row, tokens: tokens[place] as SearchedTokens }));
}

let found: { query: TokensQuery; hits: Promise<TokenHit[]> } | null = null;

/** The tokens behind a point of an aggregate. */
export async function readTokens(query: TokensQuery, offset: number): Promise<TokenHit[]> {
  if (isStatic) {
    if (found?.query !== query) found = { query, hits: exported().then((all) => hitsOf(all, query)) };
    return (await found.hits).slice(offset, offset + PAGE);
  }
  const asked = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value !== null && value !== undefined) asked.set(name, String(value));
  asked.set("offset", String(offset));
  asked.set("limit", String(PAGE));
  return (await ask(`tokens?${asked}`)) as TokenHit[];
}

const CHUNK = 256; // positions a request

/** Candidates of a sample's tokens, read in chunks round what is looked at. */
export class CandidateReader {
  readonly #chunks = new Map<number, TokenCandidates[] | Promise<void>>();

  constructor(
    readonly run: string,
    readonly sample: string,
    readonly length: number,
  ) {}

  /** The candidates at a position if they are here; else null, and `then` is called once they are. */
  at(position: number, then: () => void): TokenCandidates | null {
    const chunk = isStatic ? 0 : Math.floor(position / CHUNK);
    const known = this.#chunks.get(chunk);
    if (Array.isArray(known)) return known[position - chunk * CHUNK] ?? null;
    if (known) void known.then(then, () => {});
    else this.#chunks.set(chunk, this.#read(chunk).then(then, () => void this.#chunks.delete(chunk)));
    return null;
  }

  async #read(chunk: number): Promise<void> {
    const address = `candidates/${joined(this.run, this.sample)}`;
    const from = chunk * CHUNK;
    const answer = isStatic ? loadFile(address) : ask(`${address}?from=${from}&to=${Math.min(from + CHUNK, this.length)}`);
    this.#chunks.set(chunk, ((await answer) as Candidates).tokens);
  }
}
