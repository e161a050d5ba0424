-- Do the stored decisions follow from the stored evidence?
-- Rows: a finding for each sample with a token whose `fired` is not what its score, its local mean and the run's tau,
--   lambda_, window, warmup, rolling mean and cooldown give. seen: earlier scores of the sample. Left out are
--   runs without a threshold, and samples that continue others: their gate saw the scores of these as well.
WITH scored AS (
    SELECT
        tokens.run_id, tokens.sample_id, tokens.position, tokens.score, tokens.local_mean, tokens.fired,
        runs.tau, runs.lambda_, runs.warmup, runs."window" AS w,
        count(*) OVER (PARTITION BY tokens.run_id, tokens.sample_id ORDER BY tokens.position) - 1 AS seen,
        COALESCE((runs.gate_params ->> '$.rolling')::INTEGER, 1) AS rolling,
        count(*) FILTER (tokens.fired) OVER (
            PARTITION BY tokens.run_id, tokens.sample_id ORDER BY tokens.position
            ROWS BETWEEN COALESCE((runs.gate_params ->> '$.cooldown')::INTEGER, 0) PRECEDING AND 1 PRECEDING
        ) AS cooling
    FROM tokens
    JOIN runs USING (run_id)
    WHERE
        runs.tau IS NOT NULL AND tokens.score IS NOT NULL
        AND tokens.sample_id NOT IN (SELECT sample_id FROM samples WHERE parent_sample_id IS NOT NULL)
),
compared AS (  -- with a rolling mean the local mean is of the scores that it has before the current one
    SELECT
        *,
        least(seen, rolling - 1) AS before,
        CASE WHEN before > 0 THEN (score + before * local_mean) / (before + 1) ELSE score END AS level
    FROM scored
),
replayed AS (
    SELECT *, cooling = 0 AND level > tau AND CASE
        WHEN lambda_ IS NULL THEN true
        WHEN seen < w AND warmup = 'tau' THEN true
        WHEN seen < w AND warmup = 'never' THEN false
        ELSE seen = 0 OR score > lambda_ * local_mean
    END AS decided
    FROM compared
)
SELECT
    run_id, sample_id,
    count(*) || ' decisions do not follow from score, local_mean and the threshold; the first at position ' || min(position)
        AS finding
FROM replayed
WHERE fired IS DISTINCT FROM decided
GROUP BY run_id, sample_id
ORDER BY ALL
