-- How many tokens, and top-p tokens, of each problem lie in each place of a solution?
-- Definitions: bin, segment: as in position.sql, segment the number of edges x <= u. n_all, n_top, n_first as there, of one
--   problem. n_margin: tokens close to the threshold, between the quantiles at p / 1.25 and 1.25 p (at most half way to all);
--   n_tied of them are at the threshold itself.
-- Paper: none; it feeds the bootstrap over problems of position.
-- Parameters: $runs run ids; $metric column of tokens; $p share of tokens; $bins number of bins; $edges values of x
WITH scored AS NOT MATERIALIZED (
    -- NOT MATERIALIZED: a second scan of a few columns costs less than keeping every row.
    SELECT run_id, sample_id, position, COLUMNS(lambda name: name = $metric) AS value
    FROM tokens
    WHERE run_id IN (SELECT unnest($runs))
),
quantiles AS (
    SELECT run_id, quantile_cont(value, [1 - $p, 1 - least(1.25 * $p, (1 + $p) / 2), 1 - $p / 1.25]) AS q
    FROM scored
    GROUP BY run_id
),
thresholds AS (
    SELECT run_id, q[1] - 1e-12 * abs(q[1]) AS threshold, q[1] + 1e-12 * abs(q[1]) AS above, q[2] AS low, q[3] AS high
    FROM quantiles
),
placed AS (
    SELECT
        run_id,
        sample_id,
        problem_id,
        (scored.position::BIGINT * $bins) // samples.n_tokens AS bin,
        len(list_filter($edges, lambda x: scored.position / samples.n_tokens >= x)) AS segment,
        count(*) AS n_all,
        count(*) FILTER (value >= threshold) AS n_top,
        count(*) FILTER (value BETWEEN low AND high) AS n_margin,
        count(*) FILTER (value BETWEEN threshold AND above) AS n_tied,
        min(scored.position) FILTER (value >= threshold) AS first_top
    FROM scored
    JOIN thresholds USING (run_id)
    JOIN samples USING (run_id, sample_id)
    WHERE value IS NOT NULL
    GROUP BY ALL
)
SELECT
    list_position($runs, run_id) - 1 AS run,
    dense_rank() OVER (PARTITION BY run_id ORDER BY problem_id) - 1 AS problem,
    bin,
    segment,
    sum(n_all)::BIGINT AS n_all,
    sum(n_top)::BIGINT AS n_top,
    count(*) FILTER (first_top = sample_first)::BIGINT AS n_first,
    sum(n_margin)::BIGINT AS n_margin,
    sum(n_tied)::BIGINT AS n_tied
FROM (SELECT *, min(first_top) OVER (PARTITION BY run_id, sample_id) AS sample_first FROM placed)
GROUP BY run_id, problem_id, bin, segment
