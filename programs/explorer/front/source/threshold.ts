// The threshold rule, as in rrti_sgl/science/threshold.py: `fires`. The local mean is the stored one; it does not depend on tau.

export interface Rule {
  tau: number;
  lambda: number | null; // null: tau alone decides
  window: number;
  warmup: "tau" | "partial" | "never";
  cooldown: number; // scores after one that fired that fire nothing
  rolling: number; // above 1: the mean of so many scores is compared with tau, and the local mean is of those before
}

/** Whether each token would fire. `seen`: scores before it in its sample; a token without a score never fires. */
export function fires(
  scores: readonly (number | null)[],
  localMean: readonly (number | null)[],
  seen: readonly number[],
  rule: Rule,
): Uint8Array {
  const fired = new Uint8Array(scores.length);
  let silentTo = -1; // by scores seen, which begin anew with a sample
  for (let t = 0; t < scores.length; t++) {
    const score = scores[t] ?? NaN, at = seen[t] ?? 0;
    if (at === 0) silentTo = -1;
    if (!(level(score, localMean[t] ?? NaN, at, rule.rolling) > rule.tau) || at <= silentTo) continue;
    if (rule.lambda !== null && !aboveMean(score, localMean[t] ?? NaN, at, rule.lambda, rule)) continue;
    fired[t] = 1;
    if (rule.cooldown > 0) silentTo = at + rule.cooldown;
  }
  return fired;
}

/** What is compared with tau at each token: its score, or the mean of the last `rolling` scores. */
export const levels = ({ score, localMean, seen }: Scored, rolling: number): (number | null)[] =>
  score.map((own, t) => (own === null ? null : level(own, localMean[t] ?? NaN, seen[t] ?? 0, rolling)));

interface Scored { score: readonly (number | null)[]; localMean: readonly (number | null)[]; seen: readonly number[] }

function level(score: number, localMean: number, seen: number, rolling: number): number {
  const before = Math.min(seen, rolling - 1);
  return before > 0 ? (score + before * localMean) / (before + 1) : score;
}

function aboveMean(score: number, localMean: number, seen: number, lambda: number, rule: Rule): boolean {
  const above = score > lambda * localMean;
  switch (rule.warmup) {
    case "tau":
      return above || seen < rule.window;
    case "partial":
      return above || seen === 0;
    case "never":
      return above && seen >= rule.window;
  }
}
