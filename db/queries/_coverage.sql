-- What does each run have that a statistic can be made of?
-- Definitions: counts of tokens, of tokens with a value of each metric, of planning words, of takeovers; counts of
--   samples, of graded samples (those with a reference answer), of wrong ones, and the fewest graded samples that any
--   graded problem of the run has.
-- Parameters: $runs run ids
WITH chosen AS (
    SELECT unnest($runs) AS run_id
),
token_counts AS (
    SELECT
        run_id,
        count(*) AS n_tokens,
        count(score) AS score,
        count(ce) AS ce,
        count(kl) AS kl,
        count(reverse_kl) AS reverse_kl,
        count(js) AS js,
        count(tv) AS tv,
        count(entropy_base) AS entropy_base,
        count(entropy_reasoning) AS entropy_reasoning,
        count(planning_tag) AS planning,
        count(*) FILTER (fired) AS takeovers
    FROM tokens
    WHERE run_id IN (SELECT run_id FROM chosen)
    GROUP BY run_id
),
problem_counts AS (
    SELECT
        run_id,
        problem_id,
        count(*) AS n_samples,
        count(correct) AS graded,
        count(*) FILTER (NOT correct) AS wrong
    FROM samples
    WHERE run_id IN (SELECT run_id FROM chosen)
    GROUP BY run_id, problem_id
),
sample_counts AS (
    SELECT
        run_id,
        sum(n_samples)::BIGINT AS samples,
        sum(graded)::BIGINT AS graded,
        sum(wrong)::BIGINT AS wrong,
        min(graded) FILTER (graded > 0) AS fewest_graded,
        list_sort(list(problem_id) FILTER (graded > 0)) AS graded_problems
    FROM problem_counts
    GROUP BY run_id
)
SELECT runs.program, runs.problem_set, chosen.run_id, sample_counts.* EXCLUDE (run_id), token_counts.* EXCLUDE (run_id)
FROM chosen
JOIN runs USING (run_id)
LEFT JOIN sample_counts USING (run_id)
LEFT JOIN token_counts USING (run_id)
ORDER BY list_position($runs, chosen.run_id)
