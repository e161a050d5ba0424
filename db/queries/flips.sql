-- Which answers does one run put right, and which does it spoil, compared with another?
-- Definitions: the first run is the reference; every other one is compared with it on the n_problems that both have graded
--   samples of; n_unshared: problems that only one of the two has. rose, fell: problems on which the share of right samples is larger (smaller) than the reference's.
--   difference: mean over those problems of the run's share less the reference's, the gain in accuracy, -1 to 1.
--   The other columns are of runs with one graded sample a problem each, where a problem is a pair: wrong_right: the reference
--   has it wrong and the run right; right_wrong, both_right, both_wrong likewise. p_exact: McNemar's exact two-sided test,
--   min(1, 2 P(X <= m)), X binomial with n = wrong_right + right_wrong trials of 1/2, m the smaller of the two counts.
--   p_mid: its mid-p, p_exact - P(X = m), or 1 - P(X = m) / 2 where both counts are equal (Fagerland et al. 2013).
--   Where a problem has several samples, none belongs to one of the other run: there are no pairs, and those columns are
--   NULL. note: why there is no test.
-- Paper: flips (intervention): 152 wrong to right and 3 right to wrong of 400 problems.
-- Parameters: $runs run ids, the reference first (parameter base)
WITH graded AS (
    SELECT run_id, problem_id, count(*) AS n, count(*) FILTER (correct) AS c
    FROM samples
    WHERE run_id IN (SELECT unnest($runs)) AND correct IS NOT NULL
    GROUP BY run_id, problem_id
),
shared AS (
    SELECT
        graded.run_id,
        problem_id,
        reference.n AS n_before,
        reference.c AS c_before,
        graded.n AS n_after,
        graded.c AS c_after
    FROM graded
    JOIN graded AS reference USING (problem_id)
    WHERE reference.run_id = $runs[1] AND graded.run_id <> $runs[1]
),
by_problem AS (
    -- pairs: what one sample is of, where the trial of an interval is a sample.
    SELECT
        *,
        least(avg(n_before) OVER of_run, avg(n_after) OVER of_run) AS pairs,
        (c_after / n_after - c_before / n_before) * least(avg(n_before) OVER of_run, avg(n_after) OVER of_run) AS gained
    FROM shared
    WINDOW of_run AS (PARTITION BY run_id)
)
SELECT
    $runs[1] AS base_run_id,
    run_id,
    program,
    n_problems,
    n_graded + (SELECT count(*) FROM graded WHERE run_id = $runs[1]) - 2 * n_problems AS n_unshared,
    rose,
    fell,
    difference,
    CASE WHEN paired THEN rose END AS wrong_right,
    CASE WHEN paired THEN fell END AS right_wrong,
    CASE WHEN paired THEN both_right END AS both_right,
    CASE WHEN paired THEN n_problems - rose - fell - both_right END AS both_wrong,
    CASE WHEN paired AND rose + fell > 0 THEN least(1, 2 * list_sum(chances)) END AS p_exact,
    CASE
        WHEN NOT paired OR rose + fell = 0 THEN NULL
        WHEN rose = fell THEN 1 - chances[-1] / 2
        ELSE 2 * list_sum(chances) - chances[-1]
    END AS p_mid,
    CASE
        WHEN NOT paired THEN 'several samples a problem: none is the pair of another, no McNemar test'
        WHEN rose + fell = 0 THEN 'both runs agree on every problem: nothing to test'
    END AS note
FROM (
    SELECT
        *,
        list_transform(
            range(least(rose, fell) + 1),
            lambda i: exp(
                lgamma(rose + fell + 1) - lgamma(i + 1) - lgamma(rose + fell - i + 1) - (rose + fell) * ln(2)
            )
        ) AS chances
    FROM (
        SELECT
            run_id,
            count(*) AS n_problems,
            count(*) FILTER (gained > 0) AS rose,
            count(*) FILTER (gained < 0) AS fell,
            count(*) FILTER (c_before = 1 AND c_after = 1) AS both_right,
            avg(c_after / n_after - c_before / n_before) AS difference,
            bool_and(n_before = 1 AND n_after = 1) AS paired
        FROM by_problem
        GROUP BY run_id
    )
)
JOIN (SELECT run_id, count(*) AS n_graded FROM graded GROUP BY run_id) USING (run_id)
JOIN (SELECT run_id, program FROM runs) USING (run_id)
ORDER BY list_position($runs, run_id)
