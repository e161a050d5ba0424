-- Where do takeovers happen, how do they cluster, which token replaces which, and how unsure is the base model around them?
-- Definitions: over the tokens where the gate fired; share is n over the sum of n of its part, unless said otherwise.
--   part position: takeovers with low <= u < high, u = position / n_tokens of the sample, in $bins bins.
--   part run: maximal runs of consecutive takeovers by their length in tokens: 1, 2, 3-4, 5-8, ... (doubling).
--   part gap: tokens left to the base model between two such runs of one sample, in the same classes.
--   part choice: takeovers where the base model was asked and drew another token (changed), the same one (agreed), or
--   was not asked; share is of all takeovers.
--   part pair: base_token_id is what the base model drew, token_id what was emitted instead (or the same); the $top most
--   frequent pairs, ties by id; share is of all takeovers.
--   part entropy: mean is the mean base entropy, in nats, of the n tokens with one that lie just before, at, and just
--   after a takeover (a neighbour may be a takeover itself), and of all tokens; no share.
-- Paper: anatomy of the takeovers (intervention).
-- Parameters: $runs run ids; $bins number of bins; $top number of pairs of each run
WITH taken AS (
    SELECT run_id, problem_id, sample_id, position, n_tokens, base_token_id, base_token_text, token_id, token_text
    FROM tokens
    JOIN (SELECT run_id, sample_id, problem_id, n_tokens FROM samples) USING (run_id, sample_id)
    WHERE run_id IN (SELECT unnest($runs)) AND fired
),
islands AS (
    SELECT run_id, problem_id, sample_id, min(position) AS start, count(*) AS length
    FROM (
        SELECT *, position - row_number() OVER (PARTITION BY run_id, sample_id ORDER BY position) AS island FROM taken
    )
    GROUP BY run_id, problem_id, sample_id, island
),
stretches AS (
    SELECT run_id, problem_id, 'run' AS part, length FROM islands
    UNION ALL
    SELECT run_id, problem_id, 'gap', start - lag(start + length) OVER (PARTITION BY run_id, sample_id ORDER BY start)
    FROM islands
    QUALIFY lag(start) OVER (PARTITION BY run_id, sample_id ORDER BY start) IS NOT NULL
),
frequent AS (
    SELECT run_id, base_token_id, token_id
    FROM taken
    GROUP BY run_id, base_token_id, token_id
    QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY count(*) DESC, base_token_id, token_id) <= $top
),
entropies AS (
    SELECT run_id, problem_id, place, entropy_base
    FROM (
        SELECT run_id, problem_id, sample_id, position + place AS position, place
        FROM taken
        CROSS JOIN (SELECT unnest([-1, 0, 1]) AS place)
    )
    JOIN (SELECT run_id, sample_id, position, entropy_base FROM tokens WHERE run_id IN (SELECT unnest($runs)))
        USING (run_id, sample_id, position)
    UNION ALL
    SELECT run_id, problem_id, 2, entropy_base
    FROM tokens
    JOIN (SELECT run_id, sample_id, problem_id FROM samples) USING (run_id, sample_id)
    WHERE run_id IN (SELECT unnest($runs))
),
contributions AS (
    SELECT
        run_id,
        problem_id,
        'position' AS part,
        (position::BIGINT * $bins) // n_tokens AS place,
        NULL::INTEGER AS base_token_id,
        NULL::INTEGER AS token_id,
        NULL AS texts,
        count(*) AS n,
        NULL::DOUBLE AS total
    FROM taken
    GROUP BY ALL
    UNION ALL
    SELECT run_id, problem_id, part, ceil(log2(length))::BIGINT, NULL, NULL, NULL, count(*), NULL
    FROM stretches
    GROUP BY ALL
    UNION ALL
    SELECT
        run_id,
        problem_id,
        'choice',
        CASE WHEN base_token_id IS NULL THEN 3 WHEN base_token_id = token_id THEN 2 ELSE 1 END,
        NULL,
        NULL,
        NULL,
        count(*),
        NULL
    FROM taken
    GROUP BY ALL
    UNION ALL
    -- All other pairs are one, at place 1: they count in the sum that shares are of. One each would be a row a takeover.
    SELECT
        taken.run_id,
        problem_id,
        'pair',
        CASE WHEN frequent.token_id IS NULL THEN 1 ELSE 0 END AS rank,
        frequent.base_token_id,
        frequent.token_id,
        CASE
            WHEN rank = 0
                THEN concat(COALESCE(trim(min(base_token_text)), 'not asked'), ' -> ', trim(min(token_text)))
        END,
        count(*),
        NULL
    FROM taken
    LEFT JOIN frequent
        ON taken.run_id = frequent.run_id
        AND taken.token_id = frequent.token_id
        AND taken.base_token_id IS NOT DISTINCT FROM frequent.base_token_id
    GROUP BY taken.run_id, problem_id, rank, frequent.base_token_id, frequent.token_id
    UNION ALL
    SELECT run_id, problem_id, 'entropy', place, NULL, NULL, NULL, count(entropy_base), sum(entropy_base)
    FROM entropies
    GROUP BY ALL
    HAVING count(entropy_base) > 0
    UNION ALL
    SELECT run_id, min(problem_id), 'position', unnest(range($bins)), NULL, NULL, NULL, 0, NULL FROM taken GROUP BY run_id
    UNION ALL
    SELECT run_id, min(problem_id), 'choice', unnest([1, 2, 3]), NULL, NULL, NULL, 0, NULL FROM taken GROUP BY run_id
),
by_problem AS (
    SELECT
        * EXCLUDE (texts),
        CASE
            WHEN part = 'position' THEN format('u {:.2f}-{:.2f}', place / $bins, (place + 1) / $bins)
            WHEN part = 'choice' THEN ['changed', 'agreed', 'not asked'][place]
            WHEN part = 'pair' THEN min(texts) OVER (PARTITION BY run_id, part, base_token_id, token_id)
            WHEN part = 'entropy' THEN ['before', 'at', 'after', 'all tokens'][place + 2]
            WHEN place <= 1 THEN (2 ** place)::BIGINT::VARCHAR
            ELSE format('{}-{}', (2 ** (place - 1))::BIGINT + 1, (2 ** place)::BIGINT)
        END AS label
    FROM contributions
)
SELECT
    run_id,
    part,
    label,
    base_token_id,
    token_id,
    n,
    CASE WHEN part <> 'entropy' THEN n / sum(n) OVER (PARTITION BY run_id, part) END AS share,
    mean
FROM (
    SELECT
        run_id,
        part,
        place,
        label,
        base_token_id,
        token_id,
        sum(n)::BIGINT AS n,
        sum(total) / sum(n) AS mean
    FROM by_problem
    GROUP BY run_id, part, place, label, base_token_id, token_id
)
QUALIFY part <> 'pair' OR place = 0
ORDER BY
    list_position($runs, run_id),
    list_position(['position', 'run', 'gap', 'choice', 'pair', 'entropy'], part),
    place,
    n DESC,
    base_token_id,
    token_id
