-- Are the local means those of the stored scores?
-- Rows: a finding for each sample with a token whose local_mean (where there is one) differs, by more than rounding of the
--   sum (1e-9 of the largest score), from the mean of up to `window` scores before it; with a rolling mean of `rolling` - 1.
--   Samples that continue others are left out: their gate saw the scores of these as well.
WITH windowed AS (
    SELECT
        tokens.run_id, tokens.sample_id, tokens.position, tokens.local_mean,
        list(tokens.score) OVER (
            PARTITION BY tokens.run_id, tokens.sample_id ORDER BY tokens.position
            ROWS BETWEEN COALESCE((runs.gate_params ->> '$.rolling')::INTEGER - 1, runs."window") PRECEDING AND 1 PRECEDING
        ) AS earlier
    FROM tokens
    JOIN runs USING (run_id)
    WHERE
        runs."window" IS NOT NULL AND tokens.score IS NOT NULL
        AND tokens.sample_id NOT IN (SELECT sample_id FROM samples WHERE parent_sample_id IS NOT NULL)
)
SELECT
    run_id, sample_id,
    count(*) || ' local means are not those of the scores before; the first at position ' || min(position) AS finding
FROM windowed
WHERE abs(local_mean - COALESCE(list_avg(earlier), 0)) > 1e-9 * (1 + list_max(list_transform(earlier, lambda s: abs(s))))
GROUP BY run_id, sample_id
ORDER BY ALL
