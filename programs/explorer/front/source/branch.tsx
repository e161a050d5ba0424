// Branching from a token: choose who goes on, click a candidate, watch it being written.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { href } from "./address";
import { decodeBranch } from "./branches";
import type { BranchRequest, Sample, StoreInfo } from "./contract";
import { Failure } from "./data";
import { number, times, visible } from "./format";
import { Said } from "./loading";
import { Outcome } from "./outcome";
import { LAMBDA } from "./rule";
import { RuleFields } from "./rulefields";
import { isReasoning } from "./tokens";

type Program = BranchRequest["program"];

/** What a guided continuation fires by; as in the branched run where it is not changed. */
interface GuidedBy {
  tau: number | null; // null: that of the newest calibration
  lambda: number | null; // null: tau alone decides
}

export interface Live {
  key: number;
  position: number;
  forced: string;
  program: Program;
  changed: string; // what differs from the branched run, in a few signs
  texts: string[];
  source: string[];
  state: "running" | "finished" | "failed" | "stopped";
  run: string | null;
  sample: string | null;
  answer: string | null;
  correct: boolean | null;
  takeovers: number;
  trouble: string;
}

export interface Branches {
  live: Live[];
  program: Program;
  setProgram: (program: Program) => void;
  temperature: number;
  setTemperature: (temperature: number) => void;
  rule: GuidedBy;
  setRule: (rule: GuidedBy) => void;
  start: (position: number, id: number, text: string) => void;
  stop: (key: number) => void;
}

export function useBranches(sample: Sample): Branches {
  const [live, setLive] = useState<Live[]>([]);
  const [program, setProgram] = useState<Program>("base");
  const [temperature, setTemperature] = useState(sample.runInfo.temperature);
  const own = useMemo(() => ownRule(sample), [sample]);
  const [rule, setRule] = useState(own);
  const running = useRef(new Map<number, AbortController>());
  const next = useRef(0);
  useEffect(() => () => running.current.forEach((controller) => controller.abort()), []);

  const change = (key: number, made: (branch: Live) => Partial<Live>): void =>
    setLive((all) => all.map((branch) => (branch.key === key ? { ...branch, ...made(branch) } : branch)));

  const start = (position: number, token: number, forced: string): void => {
    const key = next.current++;
    const controller = new AbortController();
    running.current.set(key, controller);
    const asked = { ...(program === "guided" ? changes(rule, own) : {}), temperature };
    const fresh: Live = { key, position, forced, program, changed: said(asked), texts: [], source: [], state: "running", run: null, sample: null, answer: null, correct: null, takeovers: 0, trouble: "" };
    setLive((all) => [fresh, ...all]);
    const { run, sample: id } = sample.row;
    decodeBranch(
      { run, sample: id, position, token, program, ...asked },
      (event) =>
        change(key, (branch) => {
          switch (event.event) {
            case "started":
              return { run: event.run, sample: event.sample };
            case "tokens":
              return { texts: [...branch.texts, ...event.texts], source: [...branch.source, ...event.source] };
            case "finished":
              return { state: "finished", run: event.run, sample: event.sample, answer: event.answer, correct: event.correct, takeovers: event.takeovers };
            case "failed":
              return { state: "failed", trouble: `${event.message} ${event.remedy}` };
          }
        }),
      controller.signal,
    )
      .catch((error: Error) =>
        change(key, () =>
          controller.signal.aborted
            ? { state: "stopped" }
            : { state: "failed", trouble: `${error.message} ${error instanceof Failure ? error.remedy : ""}` },
        ),
      )
      .finally(() => running.current.delete(key));
  };
  const stop = (key: number): void => running.current.get(key)?.abort();
  return { live, program, setProgram, temperature, setTemperature, rule, setRule, start, stop };
}

function ownRule({ runInfo: { writer, gate } }: Sample): GuidedBy {
  return writer === "guided" && gate ? { tau: gate.tau, lambda: gate.lambda } : { tau: null, lambda: null };
}

function changes(rule: GuidedBy, own: GuidedBy): Pick<BranchRequest, "tau" | "lambda"> {
  return {
    ...(rule.tau !== null && rule.tau !== own.tau ? { tau: rule.tau } : {}),
    ...(rule.lambda !== own.lambda ? { lambda: rule.lambda ?? (false as const) } : {}),
  };
}

function said({ tau, lambda, temperature }: Pick<BranchRequest, "tau" | "lambda" | "temperature">): string {
  const parts = [tau !== undefined && `τ=${number(tau)}`, lambda !== undefined && (lambda ? `λ=${number(lambda)}` : "no λ"), temperature && `T=${temperature}`];
  return parts.map((part) => (part ? `, ${part}` : "")).join("");
}

const GOES_ON: [Program, string][] = [
  ["base", "base"],
  ["reasoning", "reasoning"],
  ["guided", "guided"],
];

export function BranchChoice({ store, sample, branches }: { store: StoreInfo; sample: Sample; branches: Branches }) {
  if (!store.branching) {
    return (
      <details class="branching">
        <summary>And if it had said something else?</summary>
        <p class="dim">
          <Said text={store.branchingRemedy} />
        </p>
      </details>
    );
  }
  return (
    <fieldset class="branching">
      <legend>And if it had said …? Click a candidate; on goes</legend>
      {GOES_ON.map(([program, name]) => (
        <label key={program}>
          <input type="radio" name="goes-on" checked={branches.program === program} onChange={() => branches.setProgram(program)} /> {name}
        </label>
      ))}
      <label>
        T{" "}
        <input
          type="number"
          aria-label="Temperature"
          min="0"
          max="2"
          step="0.1"
          value={branches.temperature}
          onChange={(event) => Number.isFinite(event.currentTarget.valueAsNumber) && branches.setTemperature(event.currentTarget.valueAsNumber)}
        />
      </label>
      {branches.program === "guided" && (
        <p class="guidedby">
          <RuleFields {...branches.rule} factor={sample.runInfo.gate?.lambda ?? LAMBDA} rolling={sample.runInfo.writer === "guided" ? (sample.runInfo.gate?.rolling ?? 1) : 1} of=" of the branch" open={ownRule(sample).tau === null ? "calibrated" : "as the run"} set={branches.setRule} />
        </p>
      )}
    </fieldset>
  );
}

export function BranchCards({ store, sample, branches }: { store: StoreInfo; sample: Sample; branches: Branches }) {
  const { run, sample: id } = sample.row;
  if (branches.live.length === 0) return null;
  return (
    <section class="branches" aria-label="Branches">
      <h2>
        Branches <a href={href(["tree", run, id])}>as a tree</a>
      </h2>
      {branches.live.map((branch) => (
        <article key={branch.key} class="branch" aria-busy={branch.state === "running"} data-state={branch.state}>
          <p class="branchhead">
            <span>
              at {branch.position}: <b class="forced">{visible(branch.forced)}</b>, then {branch.program}
              {branch.changed}
            </span>
            <Ending branch={branch} />
            {branch.state === "running" && (
              <button type="button" onClick={() => branches.stop(branch.key)}>
                Stop
              </button>
            )}
            {branch.state === "finished" && branch.run && branch.sample && store.branching && (
              <>
                <a href={href(["sample", branch.run, branch.sample])}>open</a>
                <a href={href(["compare", run, id, branch.run, branch.sample])}>compare</a>
              </>
            )}
          </p>
          <p class="text small">
            <span class="dim">{sample.texts.slice(Math.max(0, branch.position - 12), branch.position).join("")}</span>
            <Word text={branch.forced} forced />
            {branch.texts.map((text, index) => (
              <Word key={index} text={text} taken={isReasoning(branch.source[index])} />
            ))}
          </p>
        </article>
      ))}
    </section>
  );
}

/** A token whose mark leaves out the space before it. */
export function Word({ text, forced = false, taken = false }: { text: string; forced?: boolean; taken?: boolean }) {
  const space = /^ \S/.test(text) ? " " : "";
  const kind = forced ? "forced" : taken ? "t taken" : "t";
  return (
    <>
      {space}
      <span class={kind}>{text.slice(space.length)}</span>
    </>
  );
}

function Ending({ branch }: { branch: Live }) {
  switch (branch.state) {
    case "running":
      return <span class="dim">{times(branch.texts.length, "token")} …</span>;
    case "finished":
      return (
        <span role="status">
          <Outcome correct={branch.correct} word /> answer {branch.answer ?? "none"}
          <span class="dim">
            , {times(branch.texts.length, "token")}{branch.program === "guided" && `, ${times(branch.takeovers, "takeover")}`}
          </span>
        </span>
      );
    case "stopped":
      return <span class="dim">stopped</span>;
    case "failed":
      return (
        <span class="trouble" role="alert">
          <Said text={branch.trouble} />
        </span>
      );
  }
}
