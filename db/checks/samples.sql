-- Does every sample belong to a run and hold what its row says?
-- Rows: a finding each, with the run, the sample and what is wrong. A sample's tokens are numbered 0 .. n_tokens - 1.
WITH counted AS (
    SELECT
        run_id, sample_id,
        count(*) AS n,
        count(DISTINCT position) AS n_positions,
        min(position) AS first,
        max(position) AS last,
        count(*) FILTER (source = 'reasoning') AS n_takeovers,
        count(*) FILTER (source = 'reasoning' AND base_token_id <> token_id) AS n_changed
    FROM tokens
    GROUP BY run_id, sample_id
),
joined AS (
    SELECT
        COALESCE(samples.run_id, counted.run_id) AS run_id,
        COALESCE(samples.sample_id, counted.sample_id) AS sample_id,
        samples.sample_id IS NULL AS orphaned,
        runs.run_id IS NULL AS unknown_run,
        problems.problem_id IS NULL AS unknown_problem,
        samples.problem_id, samples.n_tokens, samples.n_takeovers, samples.n_changed,
        COALESCE(counted.n, 0) AS n,
        COALESCE(n_positions, 0) AS n_positions, first, last,
        COALESCE(counted.n_takeovers, 0) AS takeovers,
        COALESCE(counted.n_changed, 0) AS changed
    FROM samples
    FULL JOIN counted USING (run_id, sample_id)
    LEFT JOIN runs ON runs.run_id = samples.run_id
    LEFT JOIN problems ON problems.problem_set = runs.problem_set AND problems.problem_id = samples.problem_id
)
SELECT run_id, sample_id, 'has ' || n || ' tokens but no row in samples' AS finding FROM joined WHERE orphaned
UNION ALL
SELECT run_id, sample_id, 'belongs to a run that is not there' FROM joined WHERE unknown_run AND NOT orphaned
UNION ALL
SELECT run_id, sample_id, 'solves problem ' || problem_id || ', which is not there'
FROM joined
WHERE unknown_problem AND NOT unknown_run AND NOT orphaned
UNION ALL
SELECT run_id, sample_id, 'says ' || n_tokens || ' tokens and has ' || n FROM joined WHERE n <> n_tokens
UNION ALL
SELECT run_id, sample_id, 'has positions ' || first || ' to ' || last || ', ' || n_positions || ' different ones in ' || n || ' tokens'
FROM joined
WHERE n = n_tokens AND n > 0 AND (first <> 0 OR last <> n - 1 OR n_positions <> n)
UNION ALL
SELECT run_id, sample_id, 'says ' || n_takeovers || ' takeovers and has ' || takeovers FROM joined WHERE takeovers <> n_takeovers
UNION ALL
SELECT run_id, sample_id, 'says ' || n_changed || ' changed tokens and has ' || changed FROM joined WHERE changed <> n_changed
ORDER BY ALL
