// Runs and samples: filters, order and search are in the address; the rows are read a page at a time.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { href, isStatic, keep } from "./address";
import type { RunInfo, SampleRow, StoreInfo } from "./contract";
import { PAGE, readSamples } from "./data";
import { Filters } from "./filters";
import { count, number, percentOf, runLabel, times } from "./format";
import { moveAmongRows, useList } from "./list";
import { Trouble, useTitle } from "./loading";
import { Outcome } from "./outcome";

const COLUMNS: { name: string; title: string; sort?: string; numeric?: boolean; meaning: string }[] = [
  { name: "outcome", title: "", sort: "outcome", meaning: "right or wrong" },
  { name: "run", title: "Run", sort: "run", meaning: "the program and its gate" },
  { name: "question", title: "Question", sort: "problem", meaning: "in the order of the problems" },
  { name: "answer", title: "Answer", meaning: "answer, and the reference where it differs" },
  { name: "tokens", title: "Tokens", sort: "tokens", numeric: true, meaning: "generated tokens" },
  { name: "takeovers", title: "Takeovers", sort: "takeovers", numeric: true, meaning: "tokens that the reasoning model took over" },
  { name: "changed", title: "Changed", sort: "changed", numeric: true, meaning: "takeovers that changed the token" },
  { name: "maxScore", title: "Max score", sort: "maxScore", numeric: true, meaning: "largest score of a token" },
];

/** Writes filters into the address and shows what they select. */
export function apply(query: URLSearchParams): void {
  keep(href([], query));
  dispatchEvent(new PopStateEvent("popstate"));
}

export function SamplesView({ store, query }: { store: StoreInfo; query: URLSearchParams }) {
  useTitle("Samples");
  const runs = useMemo(() => new Map(store.runs.map((run) => [run.run, run])), [store]);
  return (
    <div class="samples">
      <h1 class="hidden">Samples of {store.name}</h1>
      <aside aria-label="Filters">
        <Filters store={store} query={query} />
      </aside>
      <Rows runs={runs} query={query} />
    </div>
  );
}

interface Found {
  key: string;
  total: number;
  pages: Map<number, SampleRow[]>;
}

function Rows({ runs, query }: { runs: Map<string, RunInfo>; query: URLSearchParams }) {
  const key = query.toString();
  const [found, setFound] = useState<Found | null>(null);
  const [error, setError] = useState<Error | null>(null);
  const current = useRef(key);
  const asked = useRef(new Set<string>());
  current.current = key;

  const read = (page: number): void => {
    const name = `${key} ${page}`;
    if (asked.current.has(name)) return;
    asked.current.add(name);
    readSamples(query, page * PAGE).then(
      ({ total, rows }) => {
        if (current.current !== key) return void asked.current.delete(name);
        setError(null);
        setFound((before) => {
          const pages = new Map(before?.key === key ? before.pages : []);
          if (isStatic) for (let n = 0; n * PAGE < rows.length; n++) pages.set(n, rows.slice(n * PAGE, (n + 1) * PAGE));
          else pages.set(page, rows);
          return { key, total, pages };
        });
      },
      (reason: Error) => {
        asked.current.delete(name);
        if (current.current === key) setError(reason);
      },
    );
  };
  useEffect(() => {
    asked.current.clear();
    read(0);
  }, [key]);

  const body = useRef<HTMLDivElement>(null);
  const narrow = useNarrow();
  const total = found?.total ?? 0;
  const list = useList(total, narrow ? 76 : 40, body);
  const items = list.virtualizer.getVirtualItems();
  useEffect(() => {
    if (found?.key !== key) return;
    for (const item of items) {
      const page = Math.floor(item.index / PAGE);
      if (!found.pages.has(page)) read(page);
    }
  });
  useRememberedScroll(found !== null);

  return (
    <section class="list" aria-label="Samples" aria-busy={found?.key !== key && !error}>
      <div class="bar">
        <p class="total" role="status">
          {found ? times(total, "sample") : " "}
        </p>
        {narrow && <SortChoice query={query} />}
      </div>
      {error && <Trouble error={error} />}
      <div role="table" aria-label="Samples" aria-rowcount={total + 1} class="rows">
        <div role="rowgroup" class="head">
          <div role="row" aria-rowindex={1}>
            {COLUMNS.map((column) => (
              <Heading key={column.name} column={column} query={query} />
            ))}
          </div>
        </div>
        <div
          role="rowgroup"
          class="body"
          ref={body}
          style={{ height: `${list.virtualizer.getTotalSize()}px` }}
          onKeyDown={(event) => moveAmongRows(event, list, total)}
        >
          {items.map((item) => (
            <Row
              key={item.index}
              row={found?.pages.get(Math.floor(item.index / PAGE))?.[item.index % PAGE] ?? null}
              index={item.index}
              top={item.start - list.margin}
              height={item.size}
              runs={runs}
            />
          ))}
        </div>
      </div>
      {found?.key === key && total === 0 && (
        <p class="none">
          No sample is like this. <a href={href([])}>Show all</a>
        </p>
      )}
    </section>
  );
}

function Heading({ column, query }: { column: (typeof COLUMNS)[number]; query: URLSearchParams }) {
  const { name, title, sort, numeric, meaning } = column;
  const shown = title || "Outcome";
  const now = (query.get("sort") ?? "run") === sort && sort !== undefined;
  const down = (query.get("order") ?? (numeric ? "down" : "up")) === "down";
  const state = now ? ({ "aria-sort": down ? "descending" : "ascending" } as const) : {};
  return (
    <div role="columnheader" class={`c-${name}${numeric ? " n" : ""}`} {...state}>
      {sort ? (
        <button
          type="button"
          title={`Sort by this column: ${meaning}`}
          onClick={() => {
            const next = new URLSearchParams(query);
            next.set("sort", sort);
            next.set("order", now ? (down ? "up" : "down") : numeric ? "down" : "up");
            apply(next);
          }}
        >
          {title ? shown : <span class="hidden">{shown}</span>}
          {!title && !now && <span aria-hidden="true">✓</span>}
        </button>
      ) : (
        <span title={meaning}>{shown}</span>
      )}
    </div>
  );
}

function SortChoice({ query }: { query: URLSearchParams }) {
  const sorted = COLUMNS.find(({ sort }) => sort === (query.get("sort") ?? "run"));
  const value = `${sorted?.sort ?? "run"} ${query.get("order") ?? (sorted?.numeric ? "down" : "up")}`;
  const choices = COLUMNS.flatMap(({ sort, title, numeric }) =>
    sort ? (numeric ? ["down", "up"] : ["up", "down"]).map((order) => ({ value: `${sort} ${order}`, title: title || "Outcome", order })) : [],
  );
  return (
    <label class="sortchoice">
      Sort{" "}
      <select
        value={value}
        onChange={(event) => {
          const [sort = "", order = ""] = event.currentTarget.value.split(" ");
          const next = new URLSearchParams(query);
          next.set("sort", sort);
          next.set("order", order);
          apply(next);
        }}
      >
        {choices.map((choice) => (
          <option key={choice.value} value={choice.value}>
            {choice.title} {choice.order === "up" ? "↑" : "↓"}
          </option>
        ))}
      </select>
    </label>
  );
}

interface RowProps {
  row: SampleRow | null;
  index: number;
  top: number;
  height: number;
  runs: Map<string, RunInfo>;
}

function Row({ row, index, top, height, runs }: RowProps) {
  const style = { transform: `translateY(${top}px)`, height: `${height}px` };
  if (!row) return <div role="row" class="row" style={style} aria-busy="true" />;
  const run = runs.get(row.run);
  const address = href(["sample", row.run, row.sample]);
  return (
    <div role="row" class="row" style={style} aria-rowindex={index + 2}>
      <span role="cell" class="c-outcome">
        <Outcome correct={row.correct} />
      </span>
      <span role="cell" class="c-run" title={row.run}>
        {run ? runLabel(run) : row.program}
        {row.parent && <span class="dim"> branch</span>}
      </span>
      <span role="cell" class="c-question" title={row.question}>
        <a href={address} data-index={index}>
          {row.question || "(no question)"}
        </a>
        {row.index > 0 && <span class="dim"> #{row.index}</span>}
      </span>
      <span role="cell" class="c-answer">
        {row.answer ?? "–"}
        {row.correct === false && row.gold !== null && <span class="dim"> ({row.gold})</span>}
      </span>
      <span role="cell" class="c-tokens n">
        {count(row.tokens)}
      </span>
      <span role="cell" class="c-takeovers n" title={percentOf(row.takeovers, row.tokens)}>
        {count(row.takeovers)}
      </span>
      <span role="cell" class="c-changed n">
        {count(row.changed)}
      </span>
      <span role="cell" class="c-maxScore n">
        {number(row.maxScore)}
      </span>
    </div>
  );
}

export const NARROW = matchMedia("(max-width: 44rem)");
export function useNarrow(): boolean {
  const [narrow, setNarrow] = useState(NARROW.matches);
  useEffect(() => {
    const change = (): void => setNarrow(NARROW.matches);
    NARROW.addEventListener("change", change);
    return () => NARROW.removeEventListener("change", change);
  }, []);
  return narrow;
}

/** Back leads to the row that one left from: the place is kept with the history entry. */
function useRememberedScroll(ready: boolean): void {
  useEffect(() => {
    if (!ready) return undefined;
    const place = (history.state as { top?: number } | null)?.top;
    if (place) scrollTo(0, place);
    let timer = 0;
    const note = (): void => {
      clearTimeout(timer);
      timer = setTimeout(() => history.replaceState({ top: scrollY }, ""), 150);
    };
    addEventListener("scroll", note, { passive: true });
    return () => {
      clearTimeout(timer);
      removeEventListener("scroll", note);
    };
  }, [ready]);
}

