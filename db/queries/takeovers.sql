-- Where do takeovers happen, and which token replaces which?
-- Definitions: over the tokens where the gate fired. kind position: share of them with low <= u < high, u = position /
--   n_tokens of the sample, in $bins bins. kind pair: base_token_id is what the base model drew, token_id what was
--   emitted instead (or the same, when both agree); the $top most frequent pairs, ties by id; share is of all takeovers.
-- Paper: anatomy of the takeovers (intervention).
-- Parameters: $runs run ids; $bins number of bins; $top number of pairs of each run
WITH taken AS (
    SELECT run_id, (tokens.position::BIGINT * $bins) // samples.n_tokens AS bin,
        base_token_id, base_token_text, token_id, token_text
    FROM tokens
    JOIN samples USING (run_id, sample_id)
    WHERE run_id IN (SELECT unnest($runs)) AND fired
),
totals AS (
    SELECT run_id, count(*) AS total FROM taken GROUP BY run_id
),
positions AS (
    SELECT totals.run_id, grid.bin, count(taken.bin) AS n
    FROM totals
    CROSS JOIN (SELECT unnest(range($bins)) AS bin) AS grid
    LEFT JOIN taken ON taken.run_id = totals.run_id AND taken.bin = grid.bin
    GROUP BY ALL
),
pairs AS (
    SELECT
        run_id, base_token_id, min(base_token_text) AS base_text, token_id, min(token_text) AS token_text, count(*) AS n
    FROM taken
    GROUP BY run_id, base_token_id, token_id
    QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY n DESC, base_token_id, token_id) <= $top
),
rows AS (
    SELECT
        run_id,
        'position' AS kind,
        bin AS place,
        format('u {:.2f}-{:.2f}', bin / $bins, (bin + 1) / $bins) AS label,
        NULL AS base_token_id,
        NULL AS token_id,
        n
    FROM positions
    UNION ALL
    SELECT
        run_id,
        'pair',
        row_number() OVER (PARTITION BY run_id ORDER BY n DESC, base_token_id, token_id),
        concat(COALESCE(trim(base_text), 'not asked'), ' -> ', trim(token_text)),
        base_token_id,
        token_id,
        n
    FROM pairs
)
SELECT run_id, kind, label, base_token_id, token_id, n, n / total AS share
FROM rows
JOIN totals USING (run_id)
ORDER BY list_position($runs, run_id), kind DESC, place
