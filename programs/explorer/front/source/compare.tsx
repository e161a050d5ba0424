// Two samples side by side, from the first token in which they differ: how they parted there, and how they ended.

import { useEffect, useMemo, useRef } from "preact/hooks";
import { href } from "./address";
import { Word } from "./branch";
import { CandidateBars, useLookedAt } from "./candidates";
import { Cell } from "./cell";
import type { Sample, StoreInfo } from "./contract";
import { CandidateReader, readSample } from "./data";
import { count, number, percent, runLabel, times, visible } from "./format";
import { Awaited, useLoaded, useTitle } from "./loading";
import { Outcome } from "./outcome";
import { type Parting, partingOf } from "./parting";
import { isReasoning, levelsOf, otherDrawn, TokenText, topOf } from "./tokens";

interface CompareProps {
  store: StoreInfo;
  run: string;
  sample: string;
  otherRun: string;
  otherSample: string;
}

export function CompareView({ run, sample, otherRun, otherSample }: CompareProps) {
  const key = `${run}/${sample} ${otherRun}/${otherSample}`;
  const loaded = useLoaded(() => Promise.all([readSample(run, sample), readSample(otherRun, otherSample)]), key);
  return <Awaited of={loaded}>{([left, right]) => <Both key={key} left={left} right={right} />}</Awaited>;
}

const BEFORE = 24; // common tokens that are shown

function Both({ left, right }: { left: Sample; right: Sample }) {
  useTitle(`${left.row.problem}: ${left.row.program} and ${right.row.program}`);
  const parting = useMemo(() => partingOf(left, right), [left, right]);
  const { kind, common, from, given } = parting;
  const alike = kind !== "siblings" && given.every((text) => text === "") && from[0] >= left.ids.length && from[1] >= right.ids.length;
  const other = left.row.problem === right.row.problem && left.question === right.question ? null : right.question;
  return (
    <article class="compare">
      <header class="head">
        <p class="crumbs">{left.row.problem}, side by side</p>
        <h1 class="asked">{left.question}</h1>
        {other !== null && <p class="missing">The other sample answers another question: {other}</p>}
        <p class="found">{alike ? `Both are the same ${times(common, "token")}.` : <Parted left={left} right={right} parting={parting} />}</p>
      </header>
      {common > 0 && !alike && (
        <p class="text common">
          <span class="dim">{common > BEFORE ? `${times(common, "token")} alike … ` : ""}</span>
          {(from[0] === common ? left : right).texts.slice(Math.max(0, common - BEFORE), common).join("")}
        </p>
      )}
      <div class="sides">
        <Side sample={left} from={alike ? 0 : from[0]} given={given[0]} />
        <Side sample={right} from={alike ? 0 : from[1]} given={given[1]} />
      </div>
    </article>
  );
}

function Parted({ left, right, parting }: { left: Sample; right: Sample; parting: Parting }) {
  const { kind, common, from, given } = parting;
  if (kind === "siblings") return <>Two branches of one sample, after {count((left.row.parentPosition ?? 0) + 1)} and {count((right.row.parentPosition ?? 0) + 1)} of its tokens.</>;
  const said = (sample: Sample, at: number, forced: string) => {
    if (forced) return <b class="token">{visible(forced)}</b>;
    return sample.texts[at] === undefined ? <b>the end</b> : <b class="token">{visible(sample.texts[at] ?? "")}</b>;
  };
  const reason = (sample: Sample, at: number, forced: string): string => (forced ? `${sample.row.program}: forced` : why(sample, at));
  return (
    <>
      Alike up to token {count(common)}; there {said(left, from[0], given[0])} ({reason(left, from[0], given[0])}) stands against {said(right, from[1], given[1])} ({reason(right, from[1], given[1])}).
    </>
  );
}

/** Who wrote a token, and what the base model had drawn where it was not that. */
function why(sample: Sample, at: number): string {
  if (sample.texts[at] === undefined) return `${sample.row.program} had ended`;
  const program = sample.row.program;
  if (!isReasoning(sample.source[at])) return `${program}: base wrote it`;
  const drew = otherDrawn(sample, at);
  return drew !== null
    ? `${program}: a takeover, base had drawn ${visible(drew)}`
    : `${program}: reasoning wrote it`;
}

function Side({ sample, from, given }: { sample: Sample; from: number; given: string }) {
  const { row, runInfo } = sample;
  const chosen = useMemo(() => new Cell<number>(Math.max(0, Math.min(from, sample.ids.length - 1))), [sample, from]);
  const pointed = useMemo(() => new Cell<number | null>(null), [sample]);
  return (
    <section class="side" aria-label={runLabel(runInfo)}>
      <h2>
        <a href={href(["sample", row.run, row.sample], { at: chosen.value })} title={row.run}>
          {runLabel(runInfo)}
          {row.index > 0 && ` #${row.index}`}
        </a>
      </h2>
      <p class="ended">
        <Outcome correct={row.correct} word /> <span>answer {row.answer ?? "none"}</span>
        {row.correct !== true && row.gold !== null && <span>reference {row.gold}</span>}
        <span>{times(row.tokens, "token")}</span>
        <span>{times(row.takeovers, "takeover")}</span>
        {row.finish !== "stop" && <span>ended by {row.finish}</span>}
      </p>
      <div>
        {given && (
          <p class="text small given">
            <Word text={given.trimStart()} forced /> <span class="dim">was given, then</span>
          </p>
        )}
        <Rest sample={sample} from={from} chosen={chosen} pointed={pointed} />
      </div>
      {sample.ids.length > 0 && <Look sample={sample} chosen={chosen} pointed={pointed} />}
    </section>
  );
}

interface LookProps {
  sample: Sample;
  chosen: Cell<number>;
  pointed: Cell<number | null>;
}

function Rest({ sample, from, chosen, pointed }: LookProps & { from: number }) {
  const root = useRef<HTMLDivElement>(null);
  const id = `text-${sample.row.run}-${sample.row.sample}`.replace(/[^\w-]/g, "_");
  useEffect(() => {
    if (!root.current) return undefined;
    const made = new TokenText(root.current, sample, { point: (index) => pointed.set(index), choose: (index) => chosen.set(index) }, from);
    made.shade(levelsOf(sample.score, topOf(sample.score)));
    made.choose(chosen.value, false);
    const stop = chosen.follow((index) => made.choose(index, true));
    return () => {
      stop();
      made.remove();
    };
  }, [sample, from]);
  return <div id={id} ref={root} class="text" role="listbox" tabIndex={0} aria-label={`What ${sample.row.program} wrote from there on`} />;
}

function Look({ sample, chosen, pointed }: LookProps) {
  const reader = useMemo(() => new CandidateReader(sample.row.run, sample.row.sample, sample.ids.length), [sample]);
  const { at, candidates } = useLookedAt(reader, chosen, pointed);
  return (
    <div class="look">
      <p class="which">
        <span class="token">{visible(sample.texts[at] ?? "")}</span>{" "}
        <span class="dim">
          at {at}, score {number(sample.score[at])}, entropy {number(sample.metrics.entropy_base?.[at])} / {number(sample.metrics.entropy_reasoning?.[at])}
          {sample.baseLogprob[at] !== null && `, base gave it ${percent(Math.exp(sample.baseLogprob[at] ?? 0))}`}
        </span>
      </p>
      <CandidateBars candidates={candidates} emitted={sample.ids[at] ?? -1} drew={sample.baseDrewIds[at] ?? null} />
    </div>
  );
}
