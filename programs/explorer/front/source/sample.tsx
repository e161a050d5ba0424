// One sample: its text shaded by a metric, the score along it, and at every token what both models would have said.

import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { href, keep } from "./address";
import { BranchCards, BranchChoice, useBranches } from "./branch";
import { CandidateBars, TokenFacts, useLookedAt } from "./candidates";
import { Cell } from "./cell";
import type { Sample, StoreInfo } from "./contract";
import { CandidateReader, readSample } from "./data";
import { count, leftAt, number, percentOf, runLabel, times } from "./format";
import { Awaited, useLoaded, useTitle } from "./loading";
import { Outcome } from "./outcome";
import { Partners } from "./partners";
import { LAMBDA, startingRule } from "./rule";
import { RuleFields } from "./rulefields";
import { useNarrow } from "./samples";
import { Strip } from "./strip";
import { fires, levels, type Rule } from "./threshold";
import { levelsOf, LEVELS, otherDrawn, TokenText, topOf } from "./tokens";

interface SampleViewProps {
  store: StoreInfo;
  run: string;
  sample: string;
  query: URLSearchParams;
}

export function SampleView({ store, run, sample, query }: SampleViewProps) {
  const loaded = useLoaded(() => readSample(run, sample), `${run}/${sample}`);
  return <Awaited of={loaded}>{(value) => <Looked store={store} sample={value} query={query} />}</Awaited>;
}

function Looked({ store, sample, query }: { store: StoreInfo; sample: Sample; query: URLSearchParams }) {
  const { row, runInfo } = sample;
  useTitle(`${row.problem}, ${runLabel(runInfo)}`);
  const start = useMemo(() => startingRule(sample), [sample]);
  const [rule, setRule] = useState<Rule | null>(() => ruleOf(query, start?.rule ?? null));
  const [metric, setMetric] = useState(() => query.get("metric") ?? "score");
  const chosen = useMemo(() => new Cell<number>(positionOf(query, sample)), [sample]);
  const pointed = useMemo(() => new Cell<number | null>(null), [sample]);
  const reader = useMemo(() => new CandidateReader(row.run, row.sample, sample.ids.length), [sample]);
  const fired = useMemo(() => (rule ? fires(sample.score, sample.localMean, sample.seen, rule) : new Uint8Array(sample.ids.length)), [sample, rule]);
  const branches = useBranches(sample);
  const seen = useRef(query);
  useEffect(() => {
    if (seen.current === query) return; // another address of the same sample
    seen.current = query;
    chosen.set(positionOf(query, sample));
    setMetric(query.get("metric") ?? "score");
    setRule(ruleOf(query, start?.rule ?? null));
  }, [query]);

  useEffect(() => {
    const write = (): void => {
      const asked: Record<string, string | number | null> = { at: chosen.value };
      if (metric !== "score") asked.metric = metric;
      if (rule && start && rule.tau !== start.rule.tau) asked.tau = rule.tau;
      if (rule && start && rule.lambda !== start.rule.lambda) asked.lambda = rule.lambda ?? "off";
      keep(href(["sample", row.run, row.sample], asked));
    };
    const timer = setTimeout(write, 120); // browsers limit how often an address is written
    let later = 0;
    const stop = chosen.follow(() => {
      clearTimeout(later);
      later = setTimeout(write, 120);
    });
    return () => {
      clearTimeout(timer);
      clearTimeout(later);
      stop();
    };
  }, [sample, rule, metric]);

  return (
    <article class="sample">
      <Head sample={sample} />
      <div class="work">
        <div class="left">
          <Controls store={store} sample={sample} metric={metric} setMetric={setMetric} rule={rule} setRule={setRule} start={start?.rule ?? null} own={start?.own ?? false} fired={fired} />
          {rule && <StripChart sample={sample} rule={rule} fired={fired} chosen={chosen} pointed={pointed} setRule={setRule} />}
          <Words sample={sample} reader={reader} metric={metric} fired={fired} chosen={chosen} pointed={pointed} />
          <BranchCards store={store} sample={sample} branches={branches} />
        </div>
        <Sheet>
          <Detail sample={sample} reader={reader} chosen={chosen} pointed={pointed} rule={rule} fired={fired} force={store.branching ? branches.start : undefined} />
          {sample.ids.length > 0 && <BranchChoice store={store} sample={sample} branches={branches} />}
        </Sheet>
      </div>
      <Partners store={store} sample={sample} />
      <Prompts sample={sample} />
    </article>
  );
}

/** The token's place: beside the text, or where there is no room below it, with a few lines until more are asked for. */
function Sheet({ children }: { children: ComponentChildren }) {
  const narrow = useNarrow();
  const [open, setOpen] = useState(false);
  return (
    <aside class={`detail${narrow && !open ? " closed" : ""}`} aria-label="The token">
      {narrow && (
        <button type="button" class="more" aria-expanded={open} onClick={() => setOpen(!open)}>
          {open ? "Less" : "More"}
        </button>
      )}
      {children}
    </aside>
  );
}

function positionOf(query: URLSearchParams, sample: Sample): number {
  const at = Number(query.get("at") ?? NaN);
  if (Number.isInteger(at) && at >= 0 && at < sample.ids.length) return at;
  const changed = sample.ids.findIndex((_, index) => otherDrawn(sample, index) !== null);
  return Math.max(0, changed >= 0 ? changed : sample.fired.indexOf(true));
}

function ruleOf(query: URLSearchParams, start: Rule | null): Rule | null {
  if (!start) return null;
  const tau = query.get("tau");
  const lambda = query.get("lambda");
  return {
    ...start,
    tau: tau !== null && Number.isFinite(Number(tau)) ? Number(tau) : start.tau,
    lambda: lambda === "off" || start.rolling > 1 ? null : lambda !== null && Number(lambda) > 0 ? Number(lambda) : start.lambda,
  };
}

function Head({ sample }: { sample: Sample }) {
  const { row, runInfo } = sample;
  return (
    <header class="head">
      <p class="crumbs">
        <a href={href([], { run: row.run })} title={row.run}>
          {runLabel(runInfo)}
        </a>
        {" / "}
        <span>
          {row.problem}
          {row.index > 0 && ` #${row.index}`}
        </span>
        {row.parent && (
          <>
            {" / branch "}
            <a href={href(["tree", row.run, row.sample])}>{leftAt(row.parentPosition)}</a>
          </>
        )}
      </p>
      <h1 class="asked">{sample.question}</h1>
      <p class="ended">
        <Outcome correct={row.correct} word /> <span>answer {row.answer ?? "none"}</span>
        {row.correct !== true && row.gold !== null && <span>reference {row.gold}</span>}
        <span>{times(row.tokens, "token")}</span>
        <span>
          {times(row.takeovers, "takeover")} ({percentOf(row.takeovers, row.tokens)}), {count(row.changed)} changed the token
        </span>
        {row.finish !== "stop" && <span>ended by {row.finish}</span>}
        <a href={href(["tree", row.run, row.sample])}>branches</a>
      </p>
    </header>
  );
}

interface ControlsProps {
  store: StoreInfo;
  sample: Sample;
  metric: string;
  setMetric: (name: string) => void;
  rule: Rule | null;
  setRule: (rule: Rule) => void;
  start: Rule | null;
  own: boolean;
  fired: Uint8Array;
}

function Controls({ store, sample, metric, setMetric, rule, setRule, start, own, fired }: ControlsProps) {
  const shown = store.metrics.filter(({ name }) => name === "score" || name === metric || sample.metrics[name]?.some((value) => value !== null));
  const unit = shown.find(({ name }) => name === metric)?.unit ?? "";
  const top = useMemo(() => topOf(valuesOf(sample, metric)), [sample, metric]);
  const moved = rule && start && (rule.tau !== start.tau || rule.lambda !== start.lambda);
  return (
    <div class="controls">
      <label>
        Shade{" "}
        <select value={metric} onChange={(event) => setMetric(event.currentTarget.value)}>
          {shown.map(({ name, meaning }) => (
            <option key={name} value={name} title={meaning}>
              {name === "score" && sample.runInfo.metric ? `score (${sample.runInfo.metric})` : name}
            </option>
          ))}
          <option value="none">nothing</option>
        </select>
      </label>
      {metric !== "none" && (
        <span class="scale" role="img" aria-label={`from 0 to ${number(top)} ${unit}`}>
          <span aria-hidden="true">0</span>
          {Array.from({ length: LEVELS }, (_, level) => (
            <i key={level} data-h={level} aria-hidden="true" />
          ))}
          <span aria-hidden="true">
            {number(top)} {unit}
          </span>
        </span>
      )}
      {rule && start && (
        <>
          <RuleFields
            tau={rule.tau}
            lambda={rule.lambda}
            factor={start.lambda ?? LAMBDA}
            rolling={rule.rolling}
            of=""
            set={({ tau, lambda }) => setRule({ ...rule, tau: tau ?? rule.tau, lambda })}
          />
          <Counts sample={sample} fired={fired} own={own} />
          <button type="button" class="reset" disabled={!moved} onClick={() => setRule(start)}>
            {own ? "As decoded" : "Reset"}
          </button>
        </>
      )}
    </div>
  );
}

/** How many tokens the gate would take here, and how that differs from what was decoded. */
function Counts({ sample, fired, own }: { sample: Sample; fired: Uint8Array; own: boolean }) {
  let [now, added, dropped] = [0, 0, 0];
  const scored = sample.score.filter((score) => score !== null).length;
  fired.forEach((fires, index) => {
    now += fires;
    if (fires && !sample.fired[index]) added++;
    if (!fires && sample.fired[index]) dropped++;
  });
  return (
    <output class="counts" aria-live="polite" data-fires={now}>
      <strong>{count(now)}</strong> of {count(scored)} fire ({percentOf(now, scored)})
      {own && (
        <span class="dim">
          {" "}
          +{count(added)} −{count(dropped)}
        </span>
      )}
    </output>
  );
}

export function valuesOf(sample: Sample, metric: string): readonly (number | null)[] {
  return metric === "score" ? sample.score : (sample.metrics[metric] ?? []);
}

interface MarkedProps {
  sample: Sample;
  fired: Uint8Array;
  chosen: Cell<number>;
  pointed: Cell<number | null>;
}

function StripChart({ sample, rule, fired, chosen, pointed, setRule }: MarkedProps & { rule: Rule; setRule: (rule: Rule) => void }) {
  const root = useRef<HTMLDivElement>(null);
  const strip = useRef<Strip | null>(null);
  const latest = useRef(rule);
  latest.current = rule;
  const limit = useMemo(
    () => (rule.lambda === null ? sample.localMean.map(() => null) : sample.localMean.map((mean) => (mean === null ? null : mean * (rule.lambda ?? 1)))),
    [sample, rule.lambda],
  );
  useLayoutEffect(() => {
    if (!root.current) return undefined;
    const made = new Strip(root.current, levels(sample, rule.rolling), limit, rule.tau, fired, sample.runInfo.metric ?? "", {
      threshold: (tau) => setRule({ ...latest.current, tau }),
      point: (index) => pointed.set(index),
      choose: (index) => chosen.set(index),
    });
    strip.current = made;
    const look = (): void => made.choose(pointed.value ?? chosen.value);
    look();
    const stops = [chosen.follow(look), pointed.follow(look)];
    return () => {
      stops.forEach((stop) => stop());
      made.remove();
    };
  }, [sample]);
  useLayoutEffect(() => strip.current?.set(rule.tau, fired, limit), [fired, limit]);
  return (
    <figure class="strip">
      <div ref={root} class="plot" role="group" aria-label={`Score of each token; threshold ${number(rule.tau)}`} />
      <figcaption>
        {rule.rolling > 1 ? `Mean of the last ${rule.rolling} scores` : "Score"} by position{rule.lambda !== null && "; dotted: λ × local mean"}. Drag the line, or use its arrow keys: tokens above it light up.
      </figcaption>
    </figure>
  );
}

function Words({ sample, reader, metric, fired, chosen, pointed }: MarkedProps & { reader: CandidateReader; metric: string }) {
  const root = useRef<HTMLDivElement>(null);
  const text = useRef<TokenText | null>(null);
  useLayoutEffect(() => {
    if (!root.current) return undefined;
    const made = new TokenText(root.current, sample, { point: (index) => pointed.set(index), choose: (index) => chosen.set(index) });
    text.current = made;
    made.watch((index) => void reader.at(index, () => {}));
    made.choose(chosen.value, new URLSearchParams(location.search || location.hash.split("?")[1]).has("at"));
    const stops = [chosen.follow((index) => made.choose(index, true)), pointed.follow((index) => made.point(index))];
    return () => {
      stops.forEach((stop) => stop());
      made.remove();
    };
  }, [sample]);
  useEffect(() => {
    const values = valuesOf(sample, metric);
    text.current?.shade(metric === "none" ? new Int8Array(sample.ids.length) : levelsOf(values, topOf(values)));
  }, [sample, metric]);
  useLayoutEffect(() => text.current?.mark(fired), [sample, fired]); // together with the count beside it
  return (
    <>
      <div id="text" ref={root} class="text" role="listbox" tabIndex={0} aria-label={`The text, ${times(sample.ids.length, "token")}`} aria-describedby="keys" />
      <p id="keys" class="legend">
        <span class="t taken">takeover</span> <s class="drew">what base had drawn</s> <span class="t fires">would fire</span> <span class="t plan">planning word</span>
        <span class="keys">
          <kbd>←</kbd> <kbd>→</kbd> <kbd>↑</kbd> <kbd>↓</kbd> by token and line, <kbd>n</kbd> <kbd>p</kbd> takeovers, <kbd>f</kbd> next that fires
        </span>
      </p>
    </>
  );
}

interface DetailProps extends MarkedProps {
  reader: CandidateReader;
  rule: Rule | null;
  force: ((position: number, id: number, text: string) => void) | undefined;
}

function Detail({ sample, reader, chosen, pointed, rule, fired, force }: DetailProps) {
  const { at, hovered, candidates } = useLookedAt(reader, chosen, pointed);
  if (sample.ids.length === 0) return <p class="dim">It has no token of its own: what it was given was the whole solution.</p>;
  return (
    <div class={`look${hovered === null ? "" : " hovering"}`} data-at={at}>
      <TokenFacts sample={sample} at={at} candidates={candidates} rule={rule} fired={fired[at] === 1} />
      <CandidateBars
        candidates={candidates}
        emitted={sample.ids[at] ?? -1}
        drew={sample.baseDrewIds[at] ?? null}
        force={force && ((id, text) => force(at, id, text))}
      />
      {sample.bounds && <p class="bounds dim">Scores and metrics are {sample.bounds}.</p>}
    </div>
  );
}

function Prompts({ sample }: { sample: Sample }) {
  const prompts = [
    ["Base prompt", sample.basePrompt],
    ["Reasoning prompt", sample.reasoningPrompt],
  ] as const;
  return (
    <>
      {prompts.map(
        ([title, prompt]) =>
          prompt !== null && (
            <details key={title} class="prompt">
              <summary>{title}</summary>
              <pre tabIndex={0}>{prompt}</pre>
            </details>
          ),
      )}
    </>
  );
}
