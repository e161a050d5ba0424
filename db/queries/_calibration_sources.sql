-- What of each run can calibration be made of?
-- Definitions: calibrations taken from the run; takeovers; tokens with a value of the metric, counted in runs without
--   takeovers only.
-- Parameters: $runs run ids; $metric column of tokens
WITH scored AS (
    SELECT run_id, COLUMNS(lambda name: name = $metric) AS value FROM tokens WHERE run_id IN (SELECT unnest($runs))
)
SELECT
    run_id,
    (SELECT count(*) FROM calibrations WHERE calibrations.run_id = totals.run_id) AS calibrations,
    takeovers,
    CASE WHEN takeovers = 0 THEN (SELECT count(value) FROM scored WHERE scored.run_id = totals.run_id) ELSE 0 END AS scored
FROM (
    SELECT run_id, sum(n_takeovers) AS takeovers FROM samples WHERE run_id IN (SELECT unnest($runs)) GROUP BY run_id
) AS totals
