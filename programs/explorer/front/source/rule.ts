// The rule that a sample's view starts from: that of its run, or a line through the sample's own scores.

import type { Sample } from "./contract";
import type { Rule } from "./threshold";

export const LAMBDA = 2; // where the condition is switched on and the run has none

export interface Start {
  rule: Rule;
  own: boolean; // the run's own gate
}

/** Null where no token has a score. */
export function startingRule(sample: Sample): Start | null {
  const scores = sample.score.filter((score): score is number => score !== null && Number.isFinite(score)).sort((a, b) => a - b);
  if (scores.length === 0) return null;
  const gate = sample.runInfo.gate;
  const rest = { window: gate?.window ?? 16, warmup: gate?.warmup ?? "tau", cooldown: gate?.cooldown ?? 0, rolling: gate?.rolling ?? 1 } as const;
  if (gate && gate.tau !== null) return { rule: { tau: gate.tau, lambda: gate.lambda, ...rest }, own: true };
  const tau = scores[Math.floor(0.92 * (scores.length - 1))] ?? 0;
  return { rule: { tau: Number(tau.toPrecision(3)), lambda: null, ...rest }, own: false };
}
