-- Is disagreement just the base model's own uncertainty?
-- Definitions: over the tokens of a run that have both the metric and entropy_base. The top-p set by a column is every
--   token with value >= Q(1 - p), Q the linearly interpolated quantile less a relative 1e-12; ties at the threshold
--   are all in.
--   iou: tokens in both top-p sets over tokens in either. iou_chance: the same for two independent sets of those sizes,
--   with the expected intersection n_metric * n_entropy / n_tokens.
--   (DuckDB's interpolation between equal values may end one rounding above them; the 1e-12 keeps such ties in.)
-- Paper: overlap (IoU) of the top-p % by disagreement with the top-p % by base entropy (diagnosis, uncertainty).
-- Parameters: $runs run ids; $metric column of tokens; $ps shares of tokens
WITH paired AS (
    SELECT run_id, COLUMNS(lambda name: name = $metric) AS value, entropy_base AS entropy
    FROM tokens
    WHERE run_id IN (SELECT unnest($runs))
),
complete AS (
    SELECT * FROM paired WHERE value IS NOT NULL AND entropy IS NOT NULL
),
thresholds AS (
    SELECT
        run_id,
        unnest($ps) AS p,
        unnest(list_transform(
            quantile_cont(value, list_transform($ps, lambda p: 1 - p)), lambda q: q - 1e-12 * abs(q)
        )) AS value_threshold,
        unnest(list_transform(
            quantile_cont(entropy, list_transform($ps, lambda p: 1 - p)), lambda q: q - 1e-12 * abs(q)
        )) AS entropy_threshold
    FROM complete
    GROUP BY run_id
),
counts AS (
    SELECT
        run_id,
        p,
        count(*) AS n_tokens,
        count(*) FILTER (value >= value_threshold) AS n_metric,
        count(*) FILTER (entropy >= entropy_threshold) AS n_entropy,
        count(*) FILTER (value >= value_threshold AND entropy >= entropy_threshold) AS n_both
    FROM complete
    JOIN thresholds USING (run_id)
    GROUP BY run_id, p
)
SELECT
    run_id,
    p::DOUBLE AS p,
    n_tokens,
    n_metric,
    n_entropy,
    n_both,
    n_both / (n_metric + n_entropy - n_both) AS iou,
    (n_metric * n_entropy / n_tokens) / (n_metric + n_entropy - n_metric * n_entropy / n_tokens) AS iou_chance
FROM counts
ORDER BY list_position($runs, run_id), p
