-- What does each run have that a statistic can be made of?
-- Definitions: what `runs` says of models, k and problem set; counts of samples, of graded samples (those with a reference
--   answer), of wrong ones, of tokens, of takeovers and of arms of interventions (counterfactual); the fewest graded samples
--   that any graded problem of the run has; the problems that are graded, sorted.
-- Parameters: $runs run ids
WITH chosen AS (
    SELECT unnest($runs) AS run_id
),
problem_counts AS (
    SELECT
        run_id,
        problem_id,
        count(*) AS n_samples,
        count(correct) AS graded,
        count(*) FILTER (NOT correct) AS wrong,
        sum(n_tokens) AS n_tokens,
        sum(n_takeovers) AS takeovers,
        count(arm) AS arms
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
        sum(n_tokens)::BIGINT AS n_tokens,
        sum(takeovers)::BIGINT AS takeovers,
        sum(arms)::BIGINT AS arms,
        min(graded) FILTER (graded > 0) AS fewest_graded,
        list_sort(list(problem_id) FILTER (graded > 0)) AS graded_problems
    FROM problem_counts
    GROUP BY run_id
)
SELECT
    chosen.run_id,
    runs.program,
    runs.problem_set,
    runs.base_model,
    runs.reasoning_model,
    runs.k,
    runs.score_kind,
    runs.metric AS run_metric,
    runs.gate,
    sample_counts.* EXCLUDE (run_id)
FROM chosen
JOIN runs USING (run_id)
LEFT JOIN sample_counts USING (run_id)
ORDER BY list_position($runs, chosen.run_id)
