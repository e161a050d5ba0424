-- How concentrated is the disagreement on a few tokens?
-- Definitions: over all n tokens of a run that have the metric (x, sorted; x_1 the largest).
--   gini: Gini coefficient of x, 2 sum((n + 1 - j) x_j) / (n sum(x)) - (n + 1) / n.
--   tokens_carrying (level c): share of tokens m / n, with m the smallest number of tokens whose sum reaches c of the
--     total (to a relative 1e-12).
--   carried_by_top (level p): share of the total that the top-p set carries. The top-p set is every token with
--     x >= Q(1 - p), Q the linearly interpolated quantile less a relative 1e-12; ties at the threshold are all in.
--   level and value are shares from 0 to 1.
--   (DuckDB's interpolation between equal values may end one rounding above them; the 1e-12 keeps such ties in.)
-- Paper: Lorenz curve and Gini coefficient of the disagreement (diagnosis, sparsity).
-- Parameters: $runs run ids; $metric column of tokens; $carried shares c; $top shares p
WITH tokens_of_runs AS (
    SELECT run_id, COLUMNS(lambda name: name = $metric) AS value
    FROM tokens
    WHERE run_id IN (SELECT unnest($runs))
),
ranked AS (
    SELECT
        run_id,
        value,
        row_number() OVER largest_first AS j,
        sum(value) OVER (largest_first ROWS UNBOUNDED PRECEDING) AS carried
    FROM tokens_of_runs
    WHERE value IS NOT NULL
    WINDOW largest_first AS (PARTITION BY run_id ORDER BY value DESC)
),
totals AS (
    SELECT
        run_id,
        count(*) AS n,
        sum(value) AS total,
        (2 * sum((n_run + 1 - j) * value) / sum(value) - (count(*) + 1)) / count(*) AS gini
    FROM ranked
    JOIN (SELECT run_id, count(*) AS n_run FROM ranked GROUP BY run_id) USING (run_id)
    GROUP BY run_id
),
carrying AS (
    SELECT run_id, level, min(j) / any_value(n) AS value
    FROM ranked
    JOIN totals USING (run_id)
    CROSS JOIN (SELECT unnest($carried) AS level)
    WHERE carried >= level * total * (1 - 1e-12)
    GROUP BY run_id, level
),
thresholds AS (
    SELECT run_id, unnest($top) AS level, unnest(list_transform(
            quantile_cont(value, list_transform($top, lambda p: 1 - p)), lambda q: q - 1e-12 * abs(q)
        )) AS threshold
    FROM ranked
    GROUP BY run_id
),
tails AS (
    SELECT run_id, level, sum(value) / any_value(total) AS value
    FROM ranked
    JOIN thresholds USING (run_id)
    JOIN totals USING (run_id)
    WHERE ranked.value >= threshold
    GROUP BY run_id, level
),
rows AS (
    SELECT run_id, 1 AS part, 'gini' AS statistic, NULL::DOUBLE AS level, gini AS value FROM totals
    UNION ALL
    SELECT run_id, 2, 'tokens_carrying', level, value FROM carrying
    UNION ALL
    SELECT run_id, 3, 'carried_by_top', level, value FROM tails
)
SELECT run_id, statistic, level::DOUBLE AS level, rows.value, n AS n_tokens
FROM rows
JOIN totals USING (run_id)
ORDER BY list_position($runs, run_id), part, level
