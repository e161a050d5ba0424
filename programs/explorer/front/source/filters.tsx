// The filters beside the samples. Each is one name of the address's query; a change is shown at once.

import type { ComponentChildren, InputHTMLAttributes } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { href } from "./address";
import type { RunInfo, StoreInfo } from "./contract";
import { percentOf, runLabel, shortRun, times } from "./format";
import { apply, useNarrow } from "./samples";

const FILTERS = ["run", "program", "outcome", "flipped", "flip", "takeoversMin", "takeoversMax", "word", "tagged", "from", "to", "scoreMin", "scoreMax", "text"];

export function Filters({ store, query }: { store: StoreInfo; query: URLSearchParams }) {
  const narrow = useNarrow();
  const active = FILTERS.filter((name) => query.has(name)).length;
  const [open, setOpen] = useState(false);
  const set = (name: string, value: string): void => {
    const next = new URLSearchParams(query);
    if (value) next.set(name, value);
    else next.delete(name);
    if (name === "flipped" && !value) next.delete("flip");
    apply(next);
  };
  const field = (name: string, rest: Omit<FieldProps, "name" | "value" | "set">) => (
    <Field name={name} value={query.get(name) ?? ""} set={set} {...rest} />
  );
  return (
    <form class="filters" role="search" onSubmit={(event) => event.preventDefault()}>
      {field("text", { label: "Search", placeholder: "question or answer", type: "search" })}
      {narrow && (
        <button type="button" class="more" aria-expanded={open} onClick={() => setOpen(!open)}>
          Filters{active ? ` (${active})` : ""}
        </button>
      )}
      {(!narrow || open) && (
        <>
          <div class="pair">
            <Choice label="Outcome" name="outcome" value={query.get("outcome") ?? ""} set={set} options={[["", "any"], ["right", "right"], ["wrong", "wrong"], ["ungraded", "ungraded"]]} />
            <Programs store={store} query={query} set={set} />
          </div>
          <Choice
            label="Flipped against"
            name="flipped"
            value={query.get("flipped") ?? ""}
            set={set}
            options={[["", "–"], ...store.runs.map((run): [string, string] => [run.run, `${runLabel(run)} · ${shortRun(run.run)}`])]}
          />
          {query.has("flipped") && (
            <Choice
              label="How it flipped"
              name="flip"
              value={query.get("flip") ?? "any"}
              set={set}
              options={[["any", "gained or lost"], ["gained", "gained: wrong there, right here"], ["lost", "lost: right there, wrong here"]]}
            />
          )}
          <Range label="Takeovers">
            {field("takeoversMin", { label: "Takeovers, at least", short: "from", type: "number", min: "0" })}
            {field("takeoversMax", { label: "Takeovers, at most", short: "to", type: "number", min: "0" })}
          </Range>
          <Range label="Score of some token">
            {field("scoreMin", { label: "Score, at least", short: "from", type: "number", step: "any" })}
            {field("scoreMax", { label: "Score, at most", short: "to", type: "number", step: "any" })}
          </Range>
          <Range label="Position of it, or of a takeover">
            {field("from", { label: "Position, first", short: "from", type: "number", min: "0" })}
            {field("to", { label: "Position, last", short: "to", type: "number", min: "0" })}
          </Range>
          {field("word", { label: "Word", placeholder: "a token, such as wait" })}
          <label class="check">
            <input type="checkbox" checked={query.get("tagged") === "true"} onChange={(event) => set("tagged", event.currentTarget.checked ? "true" : "")} />{" "}
            with a planning word
          </label>
          {active > 0 && (
            <a class="clear" href={href([], keptOrder(query))}>
              Clear {times(active, "filter")}
            </a>
          )}
          <Runs runs={store.runs} query={query} />
        </>
      )}
    </form>
  );
}

function keptOrder(query: URLSearchParams): URLSearchParams {
  return new URLSearchParams([...query].filter(([name]) => !FILTERS.includes(name)));
}

function Programs({ store, query, set }: { store: StoreInfo; query: URLSearchParams; set: (name: string, value: string) => void }) {
  const programs = [...new Set(store.runs.map((run) => run.program))].sort();
  return <Choice label="Program" name="program" value={query.get("program") ?? ""} set={set} options={[["", "any"], ...programs.map((name): [string, string] => [name, name])]} />;
}

interface FieldProps {
  name: string;
  value: string;
  set: (name: string, value: string) => void;
  label: string;
  short?: string;
  type?: "text" | "search" | "number";
  placeholder?: string;
  min?: string;
  step?: string;
}

/** A text or number that is applied while one types, once one pauses. */
function Field({ name, value, set, label, short, type = "text", ...rest }: FieldProps) {
  const timer = useRef(0);
  const input = useRef<HTMLInputElement>(null);
  const latest = useRef(set);
  latest.current = set; // a pause may end after another filter has changed
  useEffect(() => {
    if (input.current && document.activeElement !== input.current) input.current.value = value;
  }, [value]);
  const change = (event: Event): void => {
    const written = (event.currentTarget as HTMLInputElement).value;
    clearTimeout(timer.current);
    timer.current = setTimeout(() => latest.current(name, written.trim()), 160);
  };
  const bounds = { ...(rest.min ? { min: rest.min } : {}), ...(rest.step ? { step: rest.step } : {}) };
  return (
    <label class="field">
      <span class={short ? "hidden" : ""}>{label}</span>
      {/* The attributes of an input depend on its type, which is not known here. */}
      <input {...({ ref: input, name, type, defaultValue: value, placeholder: rest.placeholder ?? short ?? "", autocomplete: "off", onInput: change, ...bounds } as InputHTMLAttributes<HTMLInputElement>)} />
    </label>
  );
}

function Range({ label, children }: { label: string; children: ComponentChildren }) {
  return (
    <fieldset class="range">
      <legend>{label}</legend>
      <div class="pair">{children}</div>
    </fieldset>
  );
}

interface ChoiceProps {
  label: string;
  name: string;
  value: string;
  set: (name: string, value: string) => void;
  options: [string, string][];
}

function Choice({ label, name, value, set, options }: ChoiceProps) {
  return (
    <label class="field">
      <span>{label}</span>
      <select name={name} value={value} onChange={(event) => set(name, event.currentTarget.value)}>
        {options.map(([id, text]) => (
          <option key={id} value={id}>
            {text}
          </option>
        ))}
      </select>
    </label>
  );
}

/** Every run with its share of right answers; checked ones select their samples. */
function Runs({ runs, query }: { runs: RunInfo[]; query: URLSearchParams }) {
  const chosen = new Set(query.getAll("run"));
  const sets = new Set(runs.map((run) => run.problemSet));
  const toggle = (run: string, on: boolean): void => {
    const next = new URLSearchParams([...query].filter(([name, value]) => name !== "run" || value !== run));
    if (on) next.append("run", run);
    apply(next);
  };
  return (
    <fieldset class="runs">
      <legend>
        {times(runs.length, "run")} <span class="dim">right</span>
      </legend>
      {runs.map((run, place) => [
        sets.size > 1 && run.problemSet !== runs[place - 1]?.problemSet && (
          <p key={`set ${place}`} class="set">
            {run.problemSet}
          </p>
        ),
        <label key={run.run} title={`${run.run}\n${run.problemSet}, ${run.status}\n${times(run.samples, "sample")}, ${times(run.takeovers, "takeover")}`}>
          <input type="checkbox" checked={chosen.has(run.run)} onChange={(event) => toggle(run.run, event.currentTarget.checked)} />
          <span class="label">
            {runLabel(run)}
            {run.status !== "finished" && <span class="dim"> {run.status}</span>}
          </span>
          <span class="meter" aria-hidden="true">
            <span style={{ width: `${run.graded ? (100 * run.right) / run.graded : 0}%` }} />
          </span>
          <span class="share">{percentOf(run.right, run.graded)}</span>
        </label>,
      ])}
    </fieldset>
  );
}
