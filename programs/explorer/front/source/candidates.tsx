// What both models would have said at one token: their candidates on one axis, base to the left, reasoning to the right.

import { useState } from "preact/hooks";
import { type Cell, useCell } from "./cell";
import type { Sample, TokenCandidates } from "./contract";
import type { CandidateReader } from "./data";
import { number, percent, visible } from "./format";
import { levels, type Rule } from "./threshold";
import { isReasoning, otherDrawn } from "./tokens";

const ROWS = 8;

interface Pair {
  id: number;
  text: string;
  base: number | null; // probabilities; null: not in the list
  reasoning: number | null;
}

/** The tokens of both lists, most probable (under either) first. */
export function aligned({ base, reasoning }: TokenCandidates): Pair[] {
  const pairs = new Map<number, Pair>();
  for (const [id, text, logprob] of base) pairs.set(id, { id, text, base: Math.exp(logprob), reasoning: null });
  for (const [id, text, logprob] of reasoning) {
    const pair = pairs.get(id);
    if (pair) pair.reasoning = Math.exp(logprob);
    else pairs.set(id, { id, text, base: null, reasoning: Math.exp(logprob) });
  }
  const height = (pair: Pair): number => Math.max(pair.base ?? 0, pair.reasoning ?? 0);
  return [...pairs.values()].sort((a, b) => height(b) - height(a) || a.id - b.id);
}

/** Which token is looked at, the hovered one before the chosen one, and its candidates as soon as they are there. */
export function useLookedAt(reader: CandidateReader, chosen: Cell<number>, pointed: Cell<number | null>) {
  const hovered = useCell(pointed);
  const selected = useCell(chosen);
  const at = hovered ?? selected;
  const [, again] = useState(0);
  return { at, hovered, candidates: reader.at(at, () => again((n) => n + 1)) };
}

interface CandidatesProps {
  candidates: TokenCandidates | null;
  emitted: number; // token id
  drew: number | null; // token id that the base model had drawn
  force?: ((id: number, text: string) => void) | undefined;
}

export function CandidateBars({ candidates, emitted, drew, force }: CandidatesProps) {
  const pairs = candidates ? aligned(candidates) : [];
  const shown = pairs.slice(0, ROWS);
  const own = pairs.find((pair) => pair.id === emitted);
  if (own && !shown.includes(own)) shown[ROWS - 1] = own;
  const empty = candidates !== null && pairs.length === 0;
  return (
    <div class={`candidates${empty ? " empty" : ""}`} role="table" aria-label="Candidates of both models">
      <div role="row" class="names">
        <span role="columnheader">base</span>
        <span role="columnheader">token</span>
        <span role="columnheader">reasoning</span>
      </div>
      {empty && <p class="dim">No candidates are stored for this token.</p>}
      {!empty &&
        Array.from({ length: ROWS }, (_, place) => (
          <Bar key={place} pair={shown[place] ?? null} emitted={emitted} drew={drew} force={force} />
        ))}
      {!empty && (
        <div role="row" class="pairrow rest">
          <span role="cell" class="left">
            <span class="value">{percent(candidates?.baseTail)}</span>
          </span>
          <span role="cell" class="token">
            outside the lists
          </span>
          <span role="cell" class="right">
            <span class="value">{percent(candidates?.reasoningTail)}</span>
          </span>
        </div>
      )}
    </div>
  );
}

function Bar({ pair, emitted, drew, force }: { pair: Pair | null; emitted: number; drew: number | null } & Pick<CandidatesProps, "force">) {
  if (!pair) return <div role="row" class="pairrow" aria-hidden="true" />;
  const marks = `${pair.id === emitted ? " emitted" : ""}${pair.id === drew && drew !== emitted ? " struck" : ""}`;
  const name = visible(pair.text);
  const side = (probability: number | null, which: "left" | "right") => (
    <span role="cell" class={which}>
      <span class="bar" style={{ width: `${100 * (probability ?? 0)}%` }} />
      <span class="value">{probability === null ? "" : percent(probability)}</span>
    </span>
  );
  return (
    <div role="row" class={`pairrow${marks}`}>
      {side(pair.base, "left")}
      <span role="cell" class="token" title={force ? "" : JSON.stringify(pair.text)}>
        {force ? (
          <button type="button" title={`Force ${JSON.stringify(pair.text)} here and go on`} onClick={() => force(pair.id, pair.text)}>
            {name}
          </button>
        ) : (
          name
        )}
      </span>
      {side(pair.reasoning, "right")}
    </div>
  );
}

/** The numbers of one token, always as many lines. */
export function TokenFacts({ sample, at, candidates, rule, fired }: { sample: Sample; at: number; candidates: TokenCandidates | null; rule: Rule | null; fired: boolean }) {
  const score = sample.score[at] ?? null;
  const mean = sample.localMean[at] ?? null;
  const compared = rule && rule.rolling > 1 ? (levels(sample, rule.rolling)[at] ?? null) : score;
  const metric = (name: string): number | null => sample.metrics[name]?.[at] ?? null;
  const drew = otherDrawn(sample, at);
  const emitted = sample.texts[at] ?? "";
  const taken = isReasoning(sample.source[at]);
  const mass = (logprob: number | null | undefined): string => percent(logprob === null || logprob === undefined ? null : Math.exp(logprob));
  const rank = (value: number | null | undefined): string => (value ? `rank ${value}` : "not in its list");
  return (
    <>
      <p class="which">
        <span class="token">{visible(emitted)}</span>{" "}
        <span class="dim">
          at {at}
          {", "}
          {taken ? (drew === null && sample.baseDrew[at] !== null ? "reasoning, as base had drawn" : "reasoning") : "base"}
          {taken && drew !== null && (
            <>
              {"; base had drawn "}
              <s>{visible(drew)}</s>
            </>
          )}
          {sample.planning[at] && `; planning word (${sample.planning[at]})`}
        </span>
      </p>
      <dl class="facts">
        <dt>score</dt>
        <dd>
          {number(score)}
          {rule && score !== null && (
            <span class="dim">
              {" "}
              {rule.rolling > 1 && `mean of ${rule.rolling}: ${number(compared)} `}
              {compared !== null && compared > rule.tau ? ">" : "≤"} τ {number(rule.tau)}
            </span>
          )}
        </dd>
        <dt>local mean</dt>
        <dd>
          {number(mean)}
          {rule && rule.lambda !== null && mean !== null && score !== null && (
            <span class="dim">
              {" "}
              × {number(rule.lambda)} {score > rule.lambda * mean ? "<" : "≥"} score
            </span>
          )}
        </dd>
        <dt>gate</dt>
        <dd class={fired ? "on" : ""}>{rule === null || score === null ? "–" : fired ? "fires" : "lets base go on"}</dd>
        <dt>entropy</dt>
        <dd>
          {number(metric("entropy_base"))} <span class="dim">base</span> {number(metric("entropy_reasoning"))} <span class="dim">reasoning</span>
        </dd>
        <dt>base gave it</dt>
        <dd>
          {mass(sample.baseLogprob[at])} <span class="dim">{rank(candidates?.baseRank)}</span>
        </dd>
        <dt>reasoning gave it</dt>
        <dd>
          {mass(sample.reasoningLogprob[at])} <span class="dim">{rank(candidates?.reasoningRank)}</span>
        </dd>
      </dl>
    </>
  );
}
