-- How concentrated is the disagreement on a few tokens?
-- Definitions: over all n tokens of a unit that have the metric (x, sorted; x_1 the largest). A unit is a run, a benchmark
--   (the runs of one program on one problem set, pooled) or a sample; run_id and sample_id are NULL where they are pooled;
--   a sample whose values are all 0 has no rows.
--   gini: Gini coefficient of x, 2 sum((n + 1 - j) x_j) / (n sum(x)) - (n + 1) / n.
--   tokens_carrying (level c): share of tokens m / n, with m the smallest number of tokens whose sum reaches c of the
--     total (to a relative 1e-12).
--   carried_by_top (level p): share of the total that the top-p set carries. The top-p set is every token with
--     x >= Q(1 - p), Q the linearly interpolated quantile less a relative 1e-12; ties at the threshold are all in.
--   lorenz (level g): share of the total that the largest tokens carry, g their share of all tokens, linear between whole
--     numbers of tokens. The Lorenz curve of the paper counts from the smallest: it is 1 - value at 1 - g.
--   level and value are shares from 0 to 1.
--   (DuckDB's interpolation between equal values may end one rounding above them; the 1e-12 keeps such ties in.)
-- Paper: Lorenz curve and Gini coefficient of the disagreement (diagnosis, sparsity).
-- Parameters: $runs run ids; $metric column of tokens; $by run, benchmark or sample; $carried shares c; $top shares p;
--   $grid shares g
WITH chosen AS (
    SELECT
        run_id,
        CASE WHEN $by = 'benchmark' THEN concat(program, ' ', problem_set) ELSE run_id END AS unit,
        list_position($runs, run_id) AS place
    FROM runs
    WHERE run_id IN (SELECT unnest($runs))
),
members AS (
    -- What is sorted and joined below bears the number of its unit: text would take half of the time.
    SELECT
        run_id,
        sample_id,
        CASE WHEN $by = 'sample' THEN sample_id END AS of_sample,
        place,
        dense_rank() OVER (ORDER BY chosen.unit, of_sample)::INTEGER AS unit
    FROM samples
    JOIN chosen USING (run_id)
),
described AS (
    SELECT
        unit,
        any_value(of_sample) AS sample_id,
        CASE WHEN $by <> 'benchmark' THEN any_value(run_id) END AS run_id,
        any_value(program) AS program,
        any_value(problem_set) AS problem_set,
        min(place) AS place
    FROM members
    JOIN runs USING (run_id)
    GROUP BY unit
),
measured AS (
    SELECT run_id, sample_id, COLUMNS(lambda name: name = $metric) AS value
    FROM tokens
    WHERE run_id IN (SELECT unnest($runs))
),
scored AS NOT MATERIALIZED (
    -- NOT MATERIALIZED: a second scan of a few columns costs less than keeping every row.
    SELECT unit, measured.value FROM measured JOIN members USING (run_id, sample_id) WHERE measured.value IS NOT NULL
),
totals AS (
    SELECT
        unit,
        count(*) AS n,
        sum(value) AS total,
        list_transform(quantile_cont(value, list_transform($top, lambda p: 1 - p)), lambda q: q - 1e-12 * abs(q)) AS cuts
    FROM scored
    GROUP BY unit
    HAVING $by <> 'sample' OR sum(value) > 0
),
ranked AS (
    SELECT
        unit,
        value,
        row_number() OVER largest_first AS j,
        sum(value) OVER (largest_first ROWS UNBOUNDED PRECEDING) AS carried
    FROM scored
    WINDOW largest_first AS (PARTITION BY unit ORDER BY value DESC)
),
areas AS (
    SELECT unit, sum(carried) AS area FROM ranked GROUP BY unit
),
wanted AS (
    SELECT unit, n, total, unnest($carried) AS level FROM totals
),
carrying AS (
    -- The first condition keeps the few rows around the level, so that the join stays small.
    SELECT unit, level, min(j) / any_value(n) AS value
    FROM ranked
    JOIN wanted USING (unit)
    WHERE carried - value <= level * total * (1 + 1e-9)
        AND carried >= level * total * (1 - 1e-12)
    GROUP BY ALL
),
cuts AS (
    SELECT unit, total, unnest($top) AS level, unnest(cuts) AS cut FROM totals
),
tails AS (
    SELECT unit, level, sum(value) / any_value(total) AS value
    FROM scored
    JOIN cuts USING (unit)
    WHERE value >= cut
    GROUP BY ALL
),
points AS (
    SELECT unit, n, total, unnest($grid) AS level FROM totals
),
curve AS (
    SELECT unit, level, (carried - (j - level * n) * value) / total AS value
    FROM ranked
    JOIN points USING (unit)
    WHERE j = floor(level * n)::BIGINT + 1
),
rows AS (
    SELECT unit, 1 AS part, 'gini' AS statistic, NULL AS level, (2 * area / total - (n + 1)) / n AS value
    FROM areas
    JOIN totals USING (unit)
    UNION ALL
    SELECT unit, 2, 'tokens_carrying', level, value FROM carrying
    UNION ALL
    SELECT unit, 3, 'carried_by_top', level, value FROM tails
    UNION ALL
    SELECT unit, 4, 'lorenz', level, value FROM curve
)
SELECT
    run_id,
    program,
    problem_set,
    sample_id,
    statistic,
    level::DOUBLE AS level,
    rows.value,
    n AS n_tokens
FROM rows
JOIN totals USING (unit)
JOIN described USING (unit)
ORDER BY place, sample_id, part, level
