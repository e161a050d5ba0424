-- What did a run cost, in requests, tokens and time?
-- Definitions: totals over the samples of a run, and per generated token. Calls are requests to a server; prompt tokens
--   add up over its requests, cached ones of them came from its radix cache; drafted tokens are the base model's,
--   discarded ones were thrown away; scored positions are the reasoning model's. Times in milliseconds: of the requests
--   to each server, of the whole sample (wall), and what is left of it (other: waiting and our own work). Samples run
--   side by side, so that the total of wall is longer than the run.
--   prefix tokens: what requests sent before their new tokens, prompt tokens - calls - scored positions: a request has its
--   scored positions (reasoning server) and one token more that no cache can spare, because its logits are wanted.
--   recomputed tokens: prefix tokens that the cache did not serve, max(0, prefix - cached) of each sample. They hold the
--   first prefill of a prompt and, where not every token is scored (programs entropy, random, early), the base model's
--   tokens when the reasoning server first sees them: an upper bound of what was computed twice.
--   share, from 0 to 1: cached tokens of prompt tokens, recomputed of prefix tokens, discarded of drafted; else NULL.
-- Paper: cost of the intervention (not published).
-- Parameters: $runs run ids
WITH parts AS (
    SELECT
        *,
        base_prompt_tokens - base_calls AS base_prefix,
        reasoning_prompt_tokens - reasoning_calls - tokens_scored AS reasoning_prefix
    FROM samples
    WHERE run_id IN (SELECT unnest($runs))
),
sums AS (
    SELECT
        run_id,
        problem_id,
        sum(n_tokens) AS tokens,
        [
            ('generated tokens', sum(n_tokens), NULL),
            ('base calls', sum(base_calls), NULL),
            ('reasoning calls', sum(reasoning_calls), NULL),
            ('base prompt tokens', sum(base_prompt_tokens), NULL),
            ('base cached tokens', sum(base_cached_tokens), sum(base_prompt_tokens)),
            ('base prefix tokens', sum(base_prefix), NULL),
            ('base recomputed tokens', sum(greatest(0, base_prefix - base_cached_tokens)), sum(base_prefix)),
            ('reasoning prompt tokens', sum(reasoning_prompt_tokens), NULL),
            ('reasoning cached tokens', sum(reasoning_cached_tokens), sum(reasoning_prompt_tokens)),
            ('reasoning prefix tokens', sum(reasoning_prefix), NULL),
            (
                'reasoning recomputed tokens',
                sum(greatest(0, reasoning_prefix - reasoning_cached_tokens)),
                sum(reasoning_prefix)
            ),
            ('drafted tokens', sum(tokens_drafted), NULL),
            ('discarded tokens', sum(tokens_discarded), sum(tokens_drafted)),
            ('scored positions', sum(tokens_scored), NULL),
            ('base ms', sum(base_ms), NULL),
            ('reasoning ms', sum(reasoning_ms), NULL),
            ('other ms', sum(wall_ms - base_ms - reasoning_ms), NULL),
            ('wall ms', sum(wall_ms), NULL)
        ]::STRUCT(quantity VARCHAR, total DOUBLE, whole DOUBLE)[] AS quantities
    FROM parts
    GROUP BY run_id, problem_id
),
by_problem AS (
    SELECT
        run_id,
        problem_id,
        tokens,
        generate_subscripts(quantities, 1) AS place,
        unnest(quantities, max_depth := 2)
    FROM sums
)
SELECT
    run_id,
    quantity,
    sum(total) AS total,
    sum(total) / sum(tokens) AS per_token,
    sum(total) / NULLIF(sum(whole), 0) AS share
FROM by_problem
GROUP BY run_id, place, quantity
ORDER BY list_position($runs, run_id), place
