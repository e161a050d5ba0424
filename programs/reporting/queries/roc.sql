-- Which wrong and which right answers does each threshold on a sample's largest scores flag?
-- Definitions: a sample's predictor is the mean of its K largest values (of all, when it has fewer), as in the statistic
--   failure; a sample is flagged when its predictor is at least the threshold. One row for each distinct threshold,
--   largest first: n_wrong and n_right are the graded samples flagged.
-- Paper: mean of a sample's 100 largest scores predicts failure (diagnosis, failure).
-- Parameters: $run run id; $metric column of tokens; $top_k the K above
WITH measured AS (
    SELECT sample_id, COLUMNS(lambda name: name = $metric) AS value
    FROM tokens
    WHERE run_id = $run
),
largest AS (
    SELECT sample_id, value
    FROM measured
    WHERE value IS NOT NULL
    QUALIFY row_number() OVER (PARTITION BY sample_id ORDER BY value DESC) <= $top_k
),
means AS (
    SELECT sample_id, sum(value ORDER BY value DESC) / count(*) AS threshold
    FROM largest
    GROUP BY sample_id
),
counts AS (
    SELECT threshold, count(*) FILTER (NOT correct) AS n_wrong, count(*) FILTER (correct) AS n_right
    FROM means
    JOIN samples USING (sample_id)
    WHERE samples.run_id = $run AND correct IS NOT NULL
    GROUP BY threshold
)
SELECT
    threshold,
    (sum(n_wrong) OVER largest_first)::BIGINT AS n_wrong,
    (sum(n_right) OVER largest_first)::BIGINT AS n_right
FROM counts
WINDOW largest_first AS (ORDER BY threshold DESC)
ORDER BY threshold DESC
