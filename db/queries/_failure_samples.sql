-- What does each graded sample have that may predict its failure?
-- Definitions: predictor: the metric or entropy_base, its mean over the K largest values of the sample (all, when it has
--   fewer), in nats for ce, kl and entropies; length: its tokens, top_k NULL. Samples without a value are left out. problem: a
--   number from 0 in the order of problem ids, run: the place of the run in $runs, from 0. wrong: the answer is wrong. has_k:
--   there are K values or more, NULL for length.
-- Paper: none; it feeds failure.
-- Parameters: $runs run ids; $metric column of tokens; $top_k the values of K
WITH graded AS (
    SELECT
        run_id,
        sample_id,
        n_tokens,
        NOT correct AS wrong,
        list_position($runs, run_id) - 1 AS run,
        dense_rank() OVER (PARTITION BY run_id ORDER BY problem_id) - 1 AS problem
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
)
SELECT run, problem, predictor, top_k, value::DOUBLE AS value, wrong, has_k
FROM means
JOIN graded USING (run_id, sample_id)
ORDER BY run, predictor, top_k, value
