-- How many tokens of each problem, and how much of their score, lie in fine bins of the score?
-- Definitions: bin = floor(32 log2(value)), so that the values of a bin differ by less than 2.2 %; values of 0 have a bin of
--   their own. n: tokens of the problem in the bin; mass: sum of their values; low, high: the least and the largest. unit is
--   the unit of sparsity.sql, problem a number from 0 in the order of problem set and id.
-- Paper: none; it feeds the bootstrap over problems of sparsity.
-- Parameters: $runs run ids; $metric column of tokens; $by run or benchmark
WITH chosen AS (
    SELECT
        run_id,
        CASE WHEN $by = 'benchmark' THEN concat(program, ' ', problem_set) ELSE run_id END AS unit,
        list_position($runs, run_id) AS place
    FROM runs
    WHERE run_id IN (SELECT unnest($runs))
),
clusters AS (
    SELECT run_id, sample_id, min(place) OVER (PARTITION BY unit) AS unit,
        dense_rank() OVER (PARTITION BY unit ORDER BY problem_id) - 1 AS problem
    FROM samples
    JOIN chosen USING (run_id)
),
scored AS (
    SELECT run_id, sample_id, COLUMNS(lambda name: name = $metric) AS value
    FROM tokens
    WHERE run_id IN (SELECT unnest($runs))
)
SELECT
    unit,
    problem,
    CASE WHEN scored.value > 0 THEN floor(32 * log2(scored.value))::INTEGER ELSE -1000000 END AS bin,
    count(*) AS n,
    sum(scored.value) AS mass,
    min(scored.value) AS low,
    max(scored.value) AS high
FROM scored
JOIN clusters USING (run_id, sample_id)
WHERE scored.value IS NOT NULL
GROUP BY unit, problem, bin
ORDER BY unit, problem, bin
