// Aggregates that lead to tokens: choose a point, see the tokens behind it, go to any of them in its sample.

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { go, href, keep } from "./address";
import { Chart } from "./chart";
import type { Aggregate, StoreInfo, TokenHit, TokensQuery } from "./contract";
import { PAGE, readAggregate, readTokens } from "./data";
import { count, level, number, runLabel, shortRun, times, visible } from "./format";
import { moveAmongRows, useList } from "./list";
import { Awaited, Trouble, useLoaded, useTitle } from "./loading";
import { Outcome } from "./outcome";
import { NARROW, useNarrow } from "./samples";

export const STATISTICS: Record<string, string> = {
  budget: "Budget",
  position: "Positions",
  planning: "Planning words",
  causality: "Causality",
};

interface StatisticsProps {
  store: StoreInfo;
  name: string;
  query: URLSearchParams;
}

const ASKED = ["run", "metric", "p"]; // what is asked of a statistic, in the order of its data address

export function StatisticsView({ store, name, query }: StatisticsProps) {
  const asked = new URLSearchParams([...ASKED].flatMap((each) => (query.get(each) ? [[each, query.get(each) as string]] : [])));
  const search = asked.size ? `?${asked}` : "";
  const loaded = useLoaded(() => readAggregate(name, search), `${name}${search}`);
  return <Awaited of={loaded}>{(aggregate) => <Shown key={`${name}${search}`} store={store} aggregate={aggregate} name={name} query={query} />}</Awaited>;
}

function Shown({ store, aggregate, name, query }: StatisticsProps & { aggregate: Aggregate }) {
  useTitle(aggregate.title);
  const wanted = query.get("point");
  const [chosen, setChosen] = useState<number | null>(null);
  useLayoutEffect(() => setChosen(wanted !== null && aggregate.points[Number(wanted)] ? Number(wanted) : null), [wanted]);
  const choose = (index: number): void => {
    setChosen(index);
    if (NARROW.matches) requestAnimationFrame(() => hits.current?.scrollIntoView({ block: "start" }));
    keep(href(["statistics", name], { ...now, point: index }));
  };
  const now = Object.fromEntries(ASKED.map((each) => [each, query.get(each)]));
  const ask = (what: string, value: string): void => go(href(["statistics", name], { ...now, [what]: value }));
  const hits = useRef<HTMLElement>(null);
  const point = chosen === null ? undefined : aggregate.points[chosen];
  const runs = new Map(store.runs.map((run) => [run.run, runLabel(run)]));
  const words = new Set(aggregate.points.map(({ x }) => x)).size < aggregate.points.length || aggregate.name === "planning";
  return (
    <article class="statistics">
      <header class="head">
        <h1>{aggregate.title}</h1>
        <p class="choices">
          <Choice label="Run" value={aggregate.run} values={aggregate.runs} text={(run) => `${runs.get(run) ?? ""} · ${shortRun(run)}`} set={(run) => ask("run", run)} />
          <Choice label="Metric" value={aggregate.metric} values={aggregate.metrics} text={(metric) => metric} set={(metric) => ask("metric", metric)} />
          <Choice label="Tokens of largest value" value={aggregate.share} values={aggregate.shares} text={level} set={(share) => ask("p", String(share))} />
        </p>
        {aggregate.note && <p class="dim">{aggregate.note}</p>}
      </header>
      {aggregate.points.length === 0 && <p class="none">This run has nothing to show here.</p>}
      <div class="pages">
      <div class="numbers">
      {!words && aggregate.points.length > 0 && <Drawing aggregate={aggregate} chosen={chosen} choose={choose} />}
      {aggregate.points.length > 0 && <PointTable aggregate={aggregate} runs={runs} chosen={chosen} choose={choose} />}
      </div>
      {point && (
        <section class="hits" aria-label="Tokens behind the point" ref={hits}>
          <h2>{runs.get(point.label) ?? point.label}</h2>
          {point.tokens ? <Hits key={chosen ?? -1} query={point.tokens} /> : <p class="dim">No tokens of this run stand behind this point alone.</p>}
        </section>
      )}
      </div>
    </article>
  );
}

interface ChoiceProps<T> {
  label: string;
  value: T | null;
  values: readonly T[];
  text: (value: T) => string;
  set: (value: T) => void;
}

/** A field to choose one of some values; nothing where there is no choice. */
function Choice<T extends string | number>({ label, value, values, text, set }: ChoiceProps<T>) {
  if (value === null || values.length === 0) return null;
  const all = values.includes(value) ? values : [value, ...values];
  return (
    <label class="field">
      <span>{label}</span>
      <select value={all.indexOf(value)} onChange={(event) => set(all[event.currentTarget.selectedIndex] as T)}>
        {all.map((each, place) => (
          <option key={each} value={place}>
            {text(each)}
          </option>
        ))}
      </select>
    </label>
  );
}

interface PointsProps {
  aggregate: Aggregate;
  chosen: number | null;
  choose: (index: number) => void;
}

function Drawing({ aggregate, chosen, choose }: PointsProps) {
  const root = useRef<HTMLDivElement>(null);
  const chart = useRef<Chart | null>(null);
  const latest = useRef(choose);
  latest.current = choose;
  useEffect(() => {
    if (!root.current) return undefined;
    const made = new Chart(root.current, aggregate, (index) => latest.current(index));
    chart.current = made;
    return () => made.remove();
  }, [aggregate]);
  useEffect(() => chart.current?.mark(chosen), [aggregate, chosen]);
  return (
    <figure class="chart">
      <p class="ylabel dim">{aggregate.y}</p>
      <div ref={root} class="plot" role="img" aria-label={`${aggregate.y} by ${aggregate.x}; the same numbers are in the table`} />
      <figcaption>Click a point, or a line of the table, to see its tokens.</figcaption>
    </figure>
  );
}

function PointTable({ aggregate, runs, chosen, choose }: PointsProps & { runs: Map<string, string> }) {
  const top = Math.max(...aggregate.points.map(({ y, high }) => high ?? y), 1e-12);
  const bottom = Math.min(...aggregate.points.map(({ y }) => y), 0);
  const place = (y: number): number => (100 * (y - bottom)) / (top - bottom);
  const named = aggregate.points.some(({ label }) => runs.has(label));
  const interval = aggregate.points.some(({ low }) => low !== null);
  return (
    <div class="table">
      <table class="points">
        <thead>
          <tr>
            <th scope="col">{named ? "run" : aggregate.x}</th>
            {named && (
              <th scope="col" class="n">
                {aggregate.x}
              </th>
            )}
            <th scope="col" class="n y">
              {aggregate.y}
            </th>
            {interval && (
              <th scope="col" class="n">
                interval
              </th>
            )}
            <th scope="col" class="n">
              n
            </th>
            <th scope="col">
              <span class="hidden">bar</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {aggregate.points.map((point, index) => (
            <tr key={index} class={chosen === index ? "chosen" : ""} onClick={() => choose(index)}>
              <th scope="row">
                <button type="button" aria-pressed={chosen === index}>
                  {runs.get(point.label) ?? point.label}
                </button>
              </th>
              {named && <td class="n">{point.said.x}</td>}
              <td class="n">{point.said.y}</td>
              {interval && <td class="n dim">{point.said.interval ?? "–"}</td>}
              <td class="n">{count(point.n)}</td>
              <td class="track" aria-hidden="true">
                <span class={point.y < 0 ? "below" : ""} style={{ marginLeft: `${place(Math.min(0, point.y))}%`, width: `${place(Math.abs(point.y)) - place(0)}%` }} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** Tokens in their context, one a line; more are read as one scrolls. */
function Hits({ query }: { query: TokensQuery }) {
  const [hits, setHits] = useState<TokenHit[]>([]);
  const [state, setState] = useState<"reading" | "more" | "all">("reading");
  const [error, setError] = useState<Error | null>(null);
  const there = useRef(true);
  const read = (offset: number): void => {
    setState("reading");
    readTokens(query, offset).then(
      (found) => {
        if (!there.current) return;
        setHits((before) => [...before.slice(0, offset), ...found]);
        setState(found.length < PAGE ? "all" : "more");
      },
      (reason: Error) => there.current && setError(reason),
    );
  };
  useEffect(() => {
    read(0);
    return () => void (there.current = false);
  }, []);
  const body = useRef<HTMLDivElement>(null);
  const narrow = useNarrow();
  const list = useList(hits.length, narrow ? 52 : 32, body);
  const items = list.virtualizer.getVirtualItems();
  useEffect(() => {
    if (state === "more" && (items.at(-1)?.index ?? 0) >= hits.length - 20) read(hits.length);
  });
  if (error) return <Trouble error={error} />;
  return (
    <>
      <p class="dim" role="status">
        {state === "reading" && hits.length === 0 ? " " : state === "all" ? times(hits.length, "token") : `${count(hits.length)}+ tokens`}
      </p>
      <div class="kwic" role="list" aria-label="Tokens" ref={body} style={{ height: `${list.virtualizer.getTotalSize()}px` }} onKeyDown={(event) => moveAmongRows(event, list, hits.length)}>
        {items.map((item) => {
          const hit = hits[item.index];
          if (!hit) return null;
          return (
            <div role="listitem" key={item.index} class="hit" style={{ transform: `translateY(${item.start - list.margin}px)`, height: `${item.size}px` }}>
              <a href={href(["sample", hit.run, hit.sample], { at: hit.position })} data-index={item.index}>
                <Outcome correct={hit.correct} />
                <span class="before">
                  <bdi>{hit.before}</bdi>
                </span>
                <b class={hit.fired ? "t taken" : "t"}>{visible(hit.token).replace(/^␣/, "")}</b>
                <span class="after">{hit.after}</span>
                <span class="where dim n">
                  {number(hit.score)} at {hit.position}
                </span>
              </a>
            </div>
          );
        })}
      </div>
    </>
  );
}
