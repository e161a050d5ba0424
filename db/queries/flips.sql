-- Which answers does one run put right, and which does it spoil, compared with another?
-- Definitions: the first run is the reference; every other one is compared with it on the graded samples that both have,
--   paired by problem and sample_index (with one greedy sample a problem, a pair is a problem). wrong_right: pairs that
--   the reference has wrong and the run right; right_wrong, both_right, both_wrong likewise; n_unpaired: graded samples
--   that only one of the two runs has. difference: (wrong_right - right_wrong) / n_pairs, the gain in accuracy, -1 to 1.
--   p_exact: McNemar's exact two-sided test, min(1, 2 P(X <= m)), X binomial with n = wrong_right + right_wrong trials of
--   1/2, m the smaller of the two counts. p_mid: its mid-p, p_exact - P(X = m), or 1 - P(X = m) / 2 where both counts
--   are equal (Fagerland et al. 2013). Both take pairs as independent: with several samples a problem they are too small;
--   the interval of the difference resamples problems and is not.
-- Paper: flips (intervention): 152 wrong to right and 3 right to wrong of 400 problems.
-- Parameters: $runs run ids, the reference first (parameter base)
WITH outcomes AS (
    SELECT run_id, problem_id, sample_index, correct
    FROM samples
    WHERE run_id IN (SELECT unnest($runs)) AND correct IS NOT NULL
),
reference AS (
    SELECT * EXCLUDE (run_id) FROM outcomes WHERE run_id = $runs[1]
),
shared AS (
    SELECT other.run_id, problem_id, reference.correct AS before, other.correct AS after
    FROM outcomes AS other
    JOIN reference USING (problem_id, sample_index)
    WHERE other.run_id <> $runs[1]
),
by_problem AS (
    SELECT
        run_id,
        problem_id,
        count(*) AS pairs,
        count(*) FILTER (NOT before AND after) AS wrong_right,
        count(*) FILTER (before AND NOT after) AS right_wrong,
        count(*) FILTER (before AND after) AS both_right,
        count(*) FILTER (NOT before AND NOT after) AS both_wrong,
        sum(after::INTEGER - before::INTEGER) AS gained
    FROM shared
    GROUP BY run_id, problem_id
)
SELECT
    $runs[1] AS base_run_id,
    run_id,
    runs.program,
    n_pairs,
    wrong_right,
    right_wrong,
    both_right,
    both_wrong,
    n_graded + (SELECT count(*) FROM reference) - 2 * n_pairs AS n_unpaired,
    (wrong_right - right_wrong) / NULLIF(n_pairs, 0) AS difference,
    least(1, 2 * list_sum(chances)) AS p_exact,
    CASE WHEN wrong_right = right_wrong THEN 1 - chances[-1] / 2 ELSE 2 * list_sum(chances) - chances[-1] END AS p_mid
FROM (
    SELECT
        *,
        wrong_right + right_wrong AS n,
        list_transform(
            range(least(wrong_right, right_wrong) + 1),
            lambda i: exp(lgamma(n + 1) - lgamma(i + 1) - lgamma(n - i + 1) - n * ln(2))
        ) AS chances
    FROM (
        SELECT
            run_id,
            COALESCE(sum(pairs), 0)::BIGINT AS n_pairs,
            COALESCE(sum(wrong_right), 0)::BIGINT AS wrong_right,
            COALESCE(sum(right_wrong), 0)::BIGINT AS right_wrong,
            COALESCE(sum(both_right), 0)::BIGINT AS both_right,
            COALESCE(sum(both_wrong), 0)::BIGINT AS both_wrong
        FROM (SELECT unnest($runs[2:]) AS run_id)
        LEFT JOIN by_problem USING (run_id)
        GROUP BY run_id
    )
)
JOIN (SELECT run_id, count(*) AS n_graded FROM outcomes GROUP BY run_id) USING (run_id)
JOIN runs USING (run_id)
ORDER BY list_position($runs, run_id)
