-- Does a threshold that was calibrated on one problem set keep its budget on another? See `db/analysis/transfer.py`.
-- Parameters: $runs run ids; $metric column of tokens; $spike_ratios r
WITH chosen AS (
    SELECT run_id, problem_set, list_position($runs, run_id) AS place, sum(n_takeovers) = 0 AS untouched
    FROM runs
    JOIN samples USING (run_id)
    WHERE run_id IN (SELECT unnest($runs))
    GROUP BY ALL
),
measured AS (
    SELECT run_id, COLUMNS(lambda name: name = $metric) AS value
    FROM tokens
    WHERE run_id IN (SELECT unnest($runs))
),
scored AS (SELECT run_id, measured.value AS score FROM measured WHERE measured.value IS NOT NULL),
ratios AS (
    SELECT unnest($spike_ratios)::DOUBLE AS spike_ratio, generate_subscripts($spike_ratios, 1) AS nth
),
sorted AS (
    SELECT run_id, list(score ORDER BY score DESC) AS scores FROM scored GROUP BY run_id
),
thresholds AS (
    -- The largest number of scores that is no larger share than the ratio lies above the next one.
    SELECT
        run_id,
        spike_ratio,
        nth,
        scores[1 + list_max(list_filter(range(len(scores)), lambda m: m / len(scores) <= spike_ratio))]::DOUBLE AS tau
    FROM sorted
    JOIN chosen USING (run_id)
    CROSS JOIN ratios
    WHERE untouched AND tau < scores[1]
)
SELECT
    target.run_id,
    target.problem_set,
    source.run_id AS from_run_id,
    source.problem_set AS from_problem_set,
    taken.spike_ratio,
    len(scores)::BIGINT AS n_tokens,
    taken.tau,
    len(list_filter(scores, lambda score: score > taken.tau)) / len(scores) AS rate,
    CASE WHEN taken.tau > 0 AND own.tau > 0 THEN log10(taken.tau / own.tau) END AS orders
FROM chosen AS target
CROSS JOIN thresholds AS taken
JOIN chosen AS source ON source.run_id = taken.run_id
LEFT JOIN thresholds AS own ON own.run_id = target.run_id AND own.nth = taken.nth
JOIN sorted ON sorted.run_id = target.run_id
ORDER BY target.place, source.place, taken.nth
