-- What did a run cost, in requests, tokens and time?
-- Definitions: totals over the samples of a run, and per generated token. Calls are requests to a server; prompt tokens
--   add up over its requests, cached ones of them came from its radix cache; drafted tokens are the base model's,
--   discarded ones were thrown away; scored positions are the reasoning model's. Times in milliseconds: of the requests
--   to each server, of the whole sample (wall), and what is left of it (other: waiting and our own work). Samples run
--   side by side, so that the total of wall is longer than the run.
-- Paper: cost of the intervention (not published).
-- Parameters: $runs run ids
WITH sums AS (
    SELECT
        run_id,
        sum(n_tokens)::DOUBLE AS "generated tokens",
        sum(base_calls)::DOUBLE AS "base calls",
        sum(reasoning_calls)::DOUBLE AS "reasoning calls",
        sum(base_prompt_tokens)::DOUBLE AS "base prompt tokens",
        sum(base_cached_tokens)::DOUBLE AS "base cached tokens",
        sum(reasoning_prompt_tokens)::DOUBLE AS "reasoning prompt tokens",
        sum(reasoning_cached_tokens)::DOUBLE AS "reasoning cached tokens",
        sum(tokens_drafted)::DOUBLE AS "drafted tokens",
        sum(tokens_discarded)::DOUBLE AS "discarded tokens",
        sum(tokens_scored)::DOUBLE AS "scored positions",
        sum(base_ms)::DOUBLE AS "base ms",
        sum(reasoning_ms)::DOUBLE AS "reasoning ms",
        sum(wall_ms - base_ms - reasoning_ms)::DOUBLE AS "other ms",
        sum(wall_ms)::DOUBLE AS "wall ms"
    FROM samples
    WHERE run_id IN (SELECT unnest($runs))
    GROUP BY run_id
),
long AS (
    UNPIVOT sums ON COLUMNS(* EXCLUDE (run_id)) INTO NAME quantity VALUE total
)
SELECT long.run_id, quantity, total, total / "generated tokens" AS per_token
FROM long
JOIN sums USING (run_id)
ORDER BY list_position($runs, long.run_id), list_position([
    'generated tokens', 'base calls', 'reasoning calls', 'base prompt tokens', 'base cached tokens',
    'reasoning prompt tokens', 'reasoning cached tokens', 'drafted tokens', 'discarded tokens', 'scored positions',
    'base ms', 'reasoning ms', 'other ms', 'wall ms'
], quantity)
