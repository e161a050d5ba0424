-- How are thresholds and budgets spread?
-- Definitions: of the statistic calibration. What subsets of samples gave comes as parameters, one entry for each subset.
-- Parameters: $runs run ids; $metric column of tokens; $spike_ratio r; $subset_run run ids; $subset_share of the samples;
--   $subset_samples, $subset_tokens how many; $subset_tau, $subset_lambda thresholds
WITH rho_of AS (
    SELECT
        run_id,
        problem_id,
        sum(n_takeovers) / sum(n_tokens) AS rho,
        sum(n_takeovers) AS n_takeovers,
        count(*) AS n_samples,
        sum(n_tokens) AS n_tokens
    FROM samples
    WHERE run_id IN (SELECT unnest($runs)) AND n_tokens > 0
    GROUP BY run_id, problem_id
),
guided AS (
    SELECT run_id FROM rho_of GROUP BY run_id HAVING sum(n_takeovers) > 0
),
subsets AS (
    SELECT
        unnest($subset_run::VARCHAR[]) AS run_id,
        unnest($subset_share::DOUBLE[]) AS share,
        unnest($subset_samples::BIGINT[]) AS n_samples,
        unnest($subset_tokens::BIGINT[]) AS n_tokens,
        unnest($subset_tau::DOUBLE[]) AS tau,
        unnest($subset_lambda::DOUBLE[]) AS lambda_
),
measured AS (
    SELECT 'recomputed' AS part, run_id, share, n_samples, n_tokens, 'tau' AS quantity, tau AS value FROM subsets
    UNION ALL
    SELECT 'recomputed', run_id, share, n_samples, n_tokens, 'lambda', lambda_ FROM subsets
    UNION ALL
    SELECT 'rho', run_id, 1, n_samples, n_tokens, 'rho', rho FROM rho_of WHERE run_id IN (SELECT run_id FROM guided)
),
by_problem AS (
    SELECT run_id, problem_id, rho FROM rho_of WHERE run_id IN (SELECT run_id FROM guided)
)
SELECT
    part,
    run_id,
    runs.problem_set,
    described.metric,
    described.spike_ratio,
    quantity,
    share,
    described.n_samples,
    described.n_tokens,
    n_values,
    described.value,
    sd,
    smallest,
    q25,
    median,
    q75,
    largest
FROM (
    SELECT
        part,
        run_id,
        CASE part WHEN 'recomputed' THEN $metric END AS metric,
        CASE part WHEN 'recomputed' THEN $spike_ratio END AS spike_ratio,
        quantity,
        share,
        CASE part WHEN 'rho' THEN sum(n_samples) ELSE max(n_samples) END::BIGINT AS n_samples,
        CASE part WHEN 'rho' THEN sum(n_tokens) ELSE round(avg(n_tokens)) END::BIGINT AS n_tokens,
        count(*) AS n_values,
        avg(value) AS value,
        stddev_samp(value) AS sd,
        min(value) AS smallest,
        quantile_cont(value, 0.25) AS q25,
        quantile_cont(value, 0.5) AS median,
        quantile_cont(value, 0.75) AS q75,
        max(value) AS largest
    FROM measured
    GROUP BY part, run_id, quantity, share
    UNION ALL BY NAME
    SELECT
        'stored' AS part,
        run_id,
        metric,
        spike_ratio,
        unnest(['tau', 'lambda']) AS quantity,
        n_samples,
        n_tokens,
        1 AS n_values,
        unnest([tau, lambda_]) AS value
    FROM calibrations
    WHERE run_id IN (SELECT unnest($runs))
) AS described
JOIN runs USING (run_id)
ORDER BY
    list_position(['stored', 'recomputed', 'rho'], part),
    list_position($runs, run_id),
    described.metric,
    described.spike_ratio,
    quantity DESC,
    share
