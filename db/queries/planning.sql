-- Are the tokens of large disagreement planning words?
-- Definitions: n_planning counts the tokens that carry a planning tag, share = n_planning / n_tokens of the set,
--   enrichment = share / share among all tokens of the run. Sets: all; top_metric and top_entropy: every token with
--   value >= Q(1 - p), Q the linearly interpolated quantile less a relative 1e-12 over the run's tokens that have the
--   value, ties at the
--   threshold all in; takeovers: tokens where the gate fired. share and enrichment of an empty set are NULL.
--   (DuckDB's interpolation between equal values may end one rounding above them; the 1e-12 keeps such ties in.)
-- Paper: share of planning tokens overall, among top-divergence, top-entropy (diagnosis) and takeover tokens.
-- Parameters: $runs run ids; $metric column of tokens; $p share of tokens
WITH tagged AS (
    SELECT
        run_id,
        planning_tag IS NOT NULL AS planning,
        fired,
        COLUMNS(lambda name: name = $metric) AS value,
        entropy_base AS entropy
    FROM tokens
    WHERE run_id IN (SELECT unnest($runs))
),
thresholds AS (
    SELECT
        run_id,
        quantile_cont(value, 1 - $p) * (1 - 1e-12 * sign(quantile_cont(value, 1 - $p))) AS value_threshold,
        quantile_cont(entropy, 1 - $p) * (1 - 1e-12 * sign(quantile_cont(entropy, 1 - $p))) AS entropy_threshold
    FROM tagged
    GROUP BY run_id
),
counts AS (
    SELECT
        run_id,
        count(*) AS n_all,
        count(*) FILTER (planning) AS k_all,
        count(*) FILTER (value >= value_threshold) AS n_metric,
        count(*) FILTER (value >= value_threshold AND planning) AS k_metric,
        count(*) FILTER (entropy >= entropy_threshold) AS n_entropy,
        count(*) FILTER (entropy >= entropy_threshold AND planning) AS k_entropy,
        count(*) FILTER (fired) AS n_fired,
        count(*) FILTER (fired AND planning) AS k_fired
    FROM tagged
    JOIN thresholds USING (run_id)
    GROUP BY run_id
),
sets AS (
    SELECT run_id, 1 AS part, 'all' AS tokens, n_all AS n_tokens, k_all AS n_planning FROM counts
    UNION ALL
    SELECT run_id, 2, 'top_metric', n_metric, k_metric FROM counts
    UNION ALL
    SELECT run_id, 3, 'top_entropy', n_entropy, k_entropy FROM counts
    UNION ALL
    SELECT run_id, 4, 'takeovers', n_fired, k_fired FROM counts
)
SELECT
    run_id,
    tokens,
    n_tokens,
    n_planning,
    n_planning / NULLIF(n_tokens, 0) AS share,
    (n_planning / NULLIF(n_tokens, 0)) / (k_all / n_all) AS enrichment
FROM sets
JOIN counts USING (run_id)
ORDER BY list_position($runs, run_id), part
