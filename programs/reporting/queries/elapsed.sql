-- How long did each run take, and how many samples were being made at once?
-- Definitions: elapsed_ms is the time in which at least one sample of the run was being made: the union of the spans from
--   started_at to started_at + wall_ms, so that a pause between two parts of a run does not count.
--   at_once is the sum of wall_ms over it: the mean number of samples in the making.
-- Parameters: $runs run ids
WITH spans AS (
    SELECT run_id, n_tokens, wall_ms, epoch_us(started_at) / 1000.0 AS start, epoch_us(started_at) / 1000.0 + wall_ms AS stop
    FROM samples
    WHERE run_id IN (SELECT unnest($runs))
),
covered AS (
    SELECT
        *,
        max(stop) OVER (PARTITION BY run_id ORDER BY start, stop ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS until
    FROM spans
),
elapsed AS (
    SELECT
        run_id,
        sum(n_tokens) AS n_tokens,
        sum(wall_ms) AS wall_ms,
        sum(greatest(0, stop - greatest(start, COALESCE(until, start)))) AS elapsed_ms
    FROM covered
    GROUP BY run_id
)
SELECT run_id, elapsed_ms, elapsed_ms / NULLIF(n_tokens, 0) AS per_token, wall_ms / NULLIF(elapsed_ms, 0) AS at_once
FROM elapsed
