// The threshold rule, as in rrti_sgl/science/threshold.py: `fires`. The local mean is the stored one; it does not depend on tau.

export interface Rule {
  tau: number;
  lambda: number | null; // null: tau alone decides
  window: number;
  warmup: "tau" | "partial" | "never";
}

/** Whether each token would fire. `seen`: scores before it in its sample; a token without a score never fires. */
export function fires(
  scores: readonly (number | null)[],
  localMean: readonly (number | null)[],
  seen: readonly number[],
  rule: Rule,
): Uint8Array {
  const fired = new Uint8Array(scores.length);
  for (let t = 0; t < scores.length; t++) {
    const score = scores[t] ?? NaN;
    if (!(score > rule.tau)) continue;
    fired[t] = rule.lambda === null || aboveMean(score, localMean[t] ?? NaN, seen[t] ?? 0, rule.lambda, rule) ? 1 : 0;
  }
  return fired;
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
