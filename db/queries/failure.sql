-- Does large disagreement predict that the final answer is wrong?
-- Definitions: a sample's predictor is the mean of its K largest values (of all, when it has fewer), in nats for ce, kl
--   and entropies. auroc: probability that a wrong sample has a larger predictor than a right one, ties counting half
--   (Mann-Whitney, average ranks). Samples without a grade or without a value are left out.
-- Paper: mean of a sample's 100 largest scores predicts failure; the same with base entropy (diagnosis, failure).
-- Parameters: $runs run ids; $metric column of tokens; $top_k the K above
WITH graded AS (
    SELECT run_id, sample_id, NOT correct AS wrong
    FROM samples
    WHERE run_id IN (SELECT unnest($runs)) AND correct IS NOT NULL
),
measured AS (
    SELECT run_id, sample_id, COLUMNS(lambda name: name = $metric) AS value, entropy_base AS entropy
    FROM tokens
    WHERE run_id IN (SELECT unnest($runs))
),
predictors AS (
    SELECT run_id, sample_id, $metric AS predictor, value FROM measured WHERE value IS NOT NULL
    UNION ALL
    SELECT run_id, sample_id, 'entropy_base', entropy FROM measured
    WHERE entropy IS NOT NULL AND $metric <> 'entropy_base'
),
largest AS (
    SELECT *
    FROM predictors
    QUALIFY row_number() OVER (PARTITION BY predictor, run_id, sample_id ORDER BY value DESC) <= $top_k
),
means AS (
    -- Summed in one order: equal samples must get equal means, to the last bit.
    SELECT run_id, sample_id, predictor, sum(value ORDER BY value DESC) / count(*) AS mean
    FROM largest
    GROUP BY run_id, sample_id, predictor
),
ranked AS (
    SELECT
        run_id,
        predictor,
        wrong,
        rank() OVER (PARTITION BY run_id, predictor ORDER BY mean)
        + (count(*) OVER (PARTITION BY run_id, predictor, mean) - 1) / 2 AS average_rank
    FROM means
    JOIN graded USING (run_id, sample_id)
),
sums AS (
    SELECT
        run_id,
        predictor,
        count(*) AS n_samples,
        count(*) FILTER (wrong) AS n_wrong,
        sum(average_rank) FILTER (wrong) AS rank_sum
    FROM ranked
    GROUP BY run_id, predictor
)
SELECT
    run_id,
    predictor,
    $top_k AS top_k,
    n_samples,
    n_wrong,
    (rank_sum - n_wrong * (n_wrong + 1) / 2) / NULLIF(n_wrong * (n_samples - n_wrong), 0) AS auroc
FROM sums
ORDER BY list_position($runs, run_id), predictor = 'entropy_base'
