-- Are the totals of sealed runs those of their samples?
-- Rows: a finding for each run of which others were noted when it was sealed.
WITH counted AS (
    SELECT
        sealed_runs.run_id,
        count(sample_id) AS samples,
        COALESCE(sum(samples.n_takeovers), 0) AS takeovers,
        count(samples.correct) AS graded,
        COALESCE(sum(samples.correct::INTEGER), 0) AS right_ones,
        count(DISTINCT samples.problem_id) FILTER (samples.parent_sample_id IS NULL) AS whole
    FROM sealed_runs
    LEFT JOIN sealed_samples AS samples USING (run_id)
    GROUP BY sealed_runs.run_id
)
SELECT
    run_id, NULL AS sample_id,
    'has other takeovers, grades or problems than were added up when it was sealed' AS finding
FROM sealed_runs
JOIN counted USING (run_id)
WHERE (n_takeovers, n_graded, n_correct, n_problems) IS DISTINCT FROM (takeovers, graded, right_ones, whole)
ORDER BY ALL
