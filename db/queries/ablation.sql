-- What does each way of spending the budget achieve on the same problems?
-- Definitions: rho: takeovers over tokens; changed: takeovers whose token differs from the base model's, over tokens; both
--   over all samples. accuracy: mean over problems of the share of graded samples that are right; pass_at_k: mean of the
--   unbiased estimate 1 - C(n - c, k) / C(n, k). recovery_accuracy, recovery_pass: (run - base) / (reasoning - base), 1
--   is all of the lead. accuracy_over_base, pass_over_base, accuracy_over_guided, pass_over_guided: the run less the base
--   (guided) run, positive where it is better. Shares from 0 to 1, differences from -1 to 1. What compares with a run
--   that is not there, or divides by a lead of 0, is NULL.
-- Paper: controls at matched or larger budget, main table (intervention).
-- Parameters: $runs run ids; $k of pass@k; $base, $guided, $reasoning run ids ($guided, $reasoning may be NULL);
--   $passed by run the mean of pass@1, pass@2, ...
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
        any_value(passed[$k]) AS pass_at_k
    FROM problem_counts
    JOIN (SELECT unnest($runs) AS run_id, unnest($passed::DOUBLE[][]) AS passed) USING (run_id)
    GROUP BY run_id
),
budgets AS (
    SELECT
        run_id,
        count(*) AS n_samples,
        sum(n_takeovers) / NULLIF(sum(n_tokens), 0) AS rho,
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
    rho,
    changed,
    graded.accuracy,
    $k AS k,
    graded.pass_at_k,
    (graded.accuracy - base.accuracy) / NULLIF(reasoning.accuracy - base.accuracy, 0) AS recovery_accuracy,
    (graded.pass_at_k - base.pass_at_k) / NULLIF(reasoning.pass_at_k - base.pass_at_k, 0) AS recovery_pass,
    graded.accuracy - base.accuracy AS accuracy_over_base,
    graded.pass_at_k - base.pass_at_k AS pass_over_base,
    graded.accuracy - guided.accuracy AS accuracy_over_guided,
    graded.pass_at_k - guided.pass_at_k AS pass_over_guided
FROM graded
JOIN budgets USING (run_id)
JOIN runs USING (run_id)
JOIN graded AS base ON base.run_id = $base
LEFT JOIN graded AS guided ON guided.run_id = $guided
LEFT JOIN graded AS reasoning ON reasoning.run_id = $reasoning
ORDER BY list_position($runs, run_id)
