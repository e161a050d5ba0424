// Numbers and names as the page writes them.

import type { RunInfo } from "./contract";

const COUNT = new Intl.NumberFormat("en");
export const count = (value: number): string => COUNT.format(value);

/** Three significant digits, no exponent where it can be helped. */
export function number(value: number | null | undefined): string {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e6)) return value.toExponential(1);
  return size >= 100 ? value.toFixed(0) : size >= 10 ? value.toFixed(1) : size >= 1 ? value.toFixed(2) : value.toFixed(3);
}

export function percent(share: number | null | undefined): string {
  if (share === null || share === undefined || Number.isNaN(share)) return "–";
  const value = 100 * share;
  if (value > 0 && value < 0.1) return "<0.1%";
  return `${value >= 99.95 || value === 0 ? value.toFixed(0) : value.toFixed(1)}%`;
}

/** A part of a whole that may be nothing. */
export const percentOf = (part: number, whole: number): string => percent(whole > 0 ? part / whole : null);

/** A share that somebody chose: three digits, without zeros at the end. */
export const level = (share: number): string => `${Number((100 * share).toPrecision(3))}%`;

/** A token as one word of a line: what cannot be seen gets a sign. */
export function visible(text: string): string {
  if (text === "") return "∅";
  const shown = text.replaceAll("\n", "↵").replaceAll("\t", "⇥").replaceAll("\r", "␍");
  return /^ +$/.test(shown) ? "␣".repeat(shown.length) : shown.replace(/^ /, "␣");
}

/** A run in a few words: its program and what tells it from others of the same program. */
export function runLabel(run: RunInfo): string {
  const parts = [run.program, ...(run.unit ? [run.unit] : [])];
  const gate = run.gate;
  if (gate?.metric && gate.tau !== null) parts.push(`τ=${number(gate.tau)}`);
  if (gate?.metric && gate.lambda !== null) parts.push(`λ=${number(gate.lambda)}${gate.warmup && gate.warmup !== "tau" ? ` ${gate.warmup}` : ""}`);
  for (const name of ["rolling", "cooldown"] as const) if (gate && gate[name] > (name === "rolling" ? 1 : 0)) parts.push(`${name} ${gate[name]}`);
  if (run.temperature > 0) parts.push(`T=${number(run.temperature)}`);
  return parts.join(" ");
}

/** Where a branch left the sample that it continues. */
export const leftAt = (position: number | null): string => (position !== null && position < 0 ? "from the beginning" : `at ${position ?? "?"}`);

/** The part of a run's id that people read out. */
export const shortRun = (run: string): string => run.split("-").at(-1) ?? run;

export const times = (n: number, one: string, many = `${one}s`): string => `${count(n)} ${n === 1 ? one : many}`;
