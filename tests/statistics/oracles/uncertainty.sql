-- Is disagreement just the base model's own uncertainty?
-- Definitions: over the tokens of a run that have both the metric and entropy_base.
--   part overlap: the top-p set by a column is every token with value >= Q(1 - p), Q the linearly interpolated quantile
--   less a relative 1e-12; ties at the threshold are all in. iou: tokens in both top-p sets over tokens in either.
--   iou_chance: the same for two independent sets of those sizes, with the expected intersection
--   n_metric * n_entropy / n_tokens; p / (2 - p) where there are no ties.
--   part rank_correlation: spearman is Spearman's coefficient of metric and entropy, Pearson's of the average ranks; NULL
--   where one of them is the same for all tokens.
--   (DuckDB's interpolation between equal values may end one rounding above them; the 1e-12 keeps such ties in.)
-- Paper: overlap (IoU) of the top-p % by disagreement with the top-p % by base entropy (diagnosis, uncertainty).
-- Parameters: $runs run ids; $metric column of tokens; $ps shares of tokens
WITH paired AS (
    SELECT run_id, sample_id, COLUMNS(lambda name: name = $metric) AS value, entropy_base AS entropy
    FROM tokens
    WHERE run_id IN (SELECT unnest($runs))
),
complete AS NOT MATERIALIZED (
    -- NOT MATERIALIZED: a second scan of a few columns costs less than keeping every row.
    SELECT run_id, sample_id, value, entropy FROM paired WHERE value IS NOT NULL AND entropy IS NOT NULL
),
grouped AS (
    SELECT *, 'run' AS within, run_id AS unit FROM complete
    UNION ALL
    SELECT *, 'sample', sample_id FROM complete
),
sizes AS (
    SELECT run_id, count(*) AS n_tokens FROM complete GROUP BY run_id
),
thresholds AS (
    SELECT
        run_id,
        within,
        unit,
        unnest($ps) AS p,
        unnest(list_transform(
            quantile_cont(value, list_transform($ps, lambda p: 1 - p)), lambda q: q - 1e-12 * abs(q)
        )) AS value_threshold,
        unnest(list_transform(
            quantile_cont(entropy, list_transform($ps, lambda p: 1 - p)), lambda q: q - 1e-12 * abs(q)
        )) AS entropy_threshold
    FROM grouped
    GROUP BY run_id, within, unit
),
counts AS (
    SELECT
        run_id,
        within,
        p,
        any_value(sizes.n_tokens) AS n_tokens,
        count(*) FILTER (value >= value_threshold) AS n_metric,
        count(*) FILTER (entropy >= entropy_threshold) AS n_entropy,
        count(*) FILTER (value >= value_threshold AND entropy >= entropy_threshold) AS n_both
    FROM grouped
    JOIN thresholds USING (run_id, within, unit)
    JOIN sizes USING (run_id)
    WHERE value >= value_threshold OR entropy >= entropy_threshold
    GROUP BY run_id, within, p
),
ranks AS (
    SELECT
        run_id,
        (rank() OVER by_value + count(*) OVER (by_value RANGE UNBOUNDED PRECEDING)) / 2 AS value_rank,
        (rank() OVER by_entropy + count(*) OVER (by_entropy RANGE UNBOUNDED PRECEDING)) / 2 AS entropy_rank
    FROM complete
    WINDOW
        by_value AS (PARTITION BY run_id ORDER BY value),
        by_entropy AS (PARTITION BY run_id ORDER BY entropy)
),
correlations AS (
    SELECT
        run_id,
        count(*) AS n_tokens,
        CASE WHEN stddev_pop(value_rank) > 0 AND stddev_pop(entropy_rank) > 0 THEN corr(value_rank, entropy_rank) END
            AS spearman
    FROM ranks
    GROUP BY run_id
),
rows AS (
    SELECT
        run_id,
        'overlap' AS part,
        within,
        p::DOUBLE AS p,
        n_tokens,
        n_metric,
        n_entropy,
        n_both,
        n_both / (n_metric + n_entropy - n_both) AS iou,
        (n_metric * n_entropy / n_tokens) / (n_metric + n_entropy - n_metric * n_entropy / n_tokens) AS iou_chance,
        NULL::DOUBLE AS spearman
    FROM counts
    UNION ALL
    SELECT run_id, 'rank_correlation', NULL, NULL, n_tokens, NULL, NULL, NULL, NULL, NULL, spearman
    FROM correlations
)
FROM rows
ORDER BY list_position($runs, run_id), part, within, p
