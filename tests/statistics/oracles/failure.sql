-- Does large disagreement predict that the final answer is wrong?
-- Definitions: a sample's predictor is the mean of its K largest values (of all, when it has fewer), in nats for ce, kl and
--   entropies; predictor length is its number of tokens, top_k NULL. auroc: probability that a wrong sample has a larger
--   predictor than a right one, ties counting half (Mann-Whitney, average ranks). average_precision: area under the
--   precision-recall curve for wrong samples, sum (R_i - R_(i-1)) P_i over the distinct values in descending order; a
--   predictor that says nothing has n_wrong / n_samples. Samples without a grade or without a value are left out.
-- Paper: mean of a sample's 100 largest scores predicts failure; the same with base entropy (diagnosis, failure).
-- Parameters: $runs run ids; $metric column of tokens; $top_k the values of K above
WITH graded AS (
    SELECT run_id, sample_id, n_tokens, NOT correct AS wrong
    FROM samples
    WHERE run_id IN (SELECT unnest($runs)) AND correct IS NOT NULL
),
measured AS (
    SELECT run_id, sample_id, COLUMNS(lambda name: name = $metric) AS value, entropy_base AS entropy
    FROM tokens
    WHERE run_id IN (SELECT unnest($runs))
),
largest AS (
    SELECT
        run_id, sample_id, max(value, list_max($top_k)) AS of_metric, max(entropy, list_max($top_k)) AS of_entropy
    FROM measured
    GROUP BY run_id, sample_id
),
predictors AS (
    SELECT run_id, sample_id, $metric AS predictor, of_metric AS largest FROM largest
    UNION ALL
    SELECT run_id, sample_id, 'entropy_base', of_entropy FROM largest WHERE $metric <> 'entropy_base'
),
means AS (
    -- Summed in one order: equal samples must get equal means, to the last bit.
    SELECT run_id, sample_id, predictor, top_k, list_sum(largest[:top_k]) / least(len(largest), top_k) AS value,
        len(largest) >= top_k AS has_k
    FROM predictors
    CROSS JOIN (SELECT unnest($top_k) AS top_k)
    WHERE len(largest) > 0
    UNION ALL
    SELECT run_id, sample_id, 'length', NULL, n_tokens, NULL FROM graded
),
groups AS (
    SELECT run_id, predictor, top_k, value, count(*) AS n, count(*) FILTER (wrong) AS n_wrong, count_if(has_k) AS n_with_k
    FROM means
    JOIN graded USING (run_id, sample_id)
    GROUP BY run_id, predictor, top_k, value
),
cumulative AS (
    SELECT
        *,
        sum(n) OVER largest_first AS flagged,
        sum(n_wrong) OVER largest_first AS caught,
        sum(n) OVER whole AS n_samples,
        sum(n_wrong) OVER whole AS all_wrong
    FROM groups
    WINDOW
        whole AS (PARTITION BY run_id, predictor, top_k),
        largest_first AS (PARTITION BY run_id, predictor, top_k ORDER BY value DESC ROWS UNBOUNDED PRECEDING)
)
SELECT
    run_id,
    predictor,
    top_k,
    CASE WHEN top_k IS NOT NULL THEN sum(n_with_k) / any_value(n_samples) END AS with_k,
    any_value(n_samples)::BIGINT AS n_samples,
    any_value(all_wrong)::BIGINT AS n_wrong,
    -- Right samples below each wrong one, and half of those beside it.
    sum(n_wrong * ((n_samples - all_wrong) - (flagged - caught) + (n - n_wrong) / 2))
    / NULLIF(any_value(all_wrong * (n_samples - all_wrong)), 0) AS auroc,
    sum(n_wrong * caught / flagged) / NULLIF(any_value(all_wrong), 0) AS average_precision
FROM cumulative
GROUP BY run_id, predictor, top_k
ORDER BY list_position($runs, run_id), list_position([$metric, 'entropy_base', 'length'], predictor), top_k
