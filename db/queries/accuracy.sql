-- How good is each run, at which budget, and how much of the reasoning model's lead does it recover?
-- Definitions: n_samples and rho are over all samples; accuracy and pass_at_k over graded ones (with a reference
--   answer). rho_mean: mean over samples of n_takeovers / n_tokens; rho_pooled: all takeovers over all tokens; changed:
--   takeovers whose token differs from the base model's, over all tokens. accuracy: mean over problems of the share of
--   its n graded samples that are right (c / n). pass_at_k: mean over problems of the unbiased estimate
--   1 - C(n - c, k) / C(n, k). recovery_accuracy, recovery_pass: (run - base) / (reasoning - base), 1 is all of the
--   lead; NULL when no base and reasoning runs are named or when they are equal. All are shares from 0 to 1.
-- Paper: main table, accuracy, Pass@8, rho and recovery (intervention).
-- Parameters: $runs run ids; $k of pass@k (default: as many as every problem has graded samples); $base, $reasoning
--   run ids or NULL
WITH problem_counts AS (
    SELECT run_id, problem_id, count(*) AS n, count(*) FILTER (correct) AS c
    FROM samples
    WHERE run_id IN (SELECT unnest($runs)) AND correct IS NOT NULL
    GROUP BY run_id, problem_id
),
graded AS (
    SELECT
        run_id,
        count(*) AS n_problems,
        avg(c / n) AS accuracy,
        avg(1 - COALESCE(list_product(list_transform(range(n - c + 1, n + 1), lambda i: 1 - $k / i)), 1)) AS pass_at_k
    FROM problem_counts
    GROUP BY run_id
),
budgets AS (
    SELECT
        run_id,
        count(*) AS n_samples,
        avg(n_takeovers / NULLIF(n_tokens, 0)) AS rho_mean,
        sum(n_takeovers) / NULLIF(sum(n_tokens), 0) AS rho_pooled,
        sum(n_changed) / NULLIF(sum(n_tokens), 0) AS changed
    FROM samples
    WHERE run_id IN (SELECT unnest($runs))
    GROUP BY run_id
)
SELECT
    run_id,
    runs.program,
    graded.n_problems,
    n_samples,
    rho_mean,
    rho_pooled,
    changed,
    graded.accuracy,
    $k AS k,
    graded.pass_at_k,
    (graded.accuracy - base.accuracy) / NULLIF(reasoning.accuracy - base.accuracy, 0) AS recovery_accuracy,
    (graded.pass_at_k - base.pass_at_k) / NULLIF(reasoning.pass_at_k - base.pass_at_k, 0) AS recovery_pass
FROM graded
JOIN budgets USING (run_id)
JOIN runs USING (run_id)
LEFT JOIN graded AS base ON base.run_id = $base
LEFT JOIN graded AS reasoning ON reasoning.run_id = $reasoning
ORDER BY list_position($runs, run_id)
