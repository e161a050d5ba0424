-- How many tokens of each problem are in each set of tokens, by planning tag and by word?
-- Definitions: n_all, n_metric, n_entropy, n_fired: tokens of the problem in all, top_metric, top_entropy and takeovers of
--   planning.sql, by `label`: the planning tag, or one of the words asked for; NULL counts all tokens. metric_margin: tokens
--   whose metric is close to its threshold, between the quantiles at p / 1.25 and 1.25 p (at most half way to all);
--   metric_tied: at the threshold itself; entropy_margin, entropy_tied likewise.
-- Paper: none; it feeds the bootstrap over problems of planning.
-- Parameters: $runs run ids; $metric column of tokens; $p share of tokens; $listed words, lower case, each with the run id and
--   a line break before it
WITH tagged AS NOT MATERIALIZED (
    -- NOT MATERIALIZED: a second scan of a few columns costs less than keeping every row.
    SELECT
        run_id,
        sample_id,
        planning_tag,
        token_text,
        fired,
        COLUMNS(lambda name: name = $metric) AS value,
        entropy_base AS entropy
    FROM tokens
    WHERE run_id IN (SELECT unnest($runs))
),
quantiles AS (
    SELECT
        run_id,
        quantile_cont(value, [1 - $p, 1 - least(1.25 * $p, (1 + $p) / 2), 1 - $p / 1.25]) AS v,
        quantile_cont(entropy, [1 - $p, 1 - least(1.25 * $p, (1 + $p) / 2), 1 - $p / 1.25]) AS h
    FROM tagged
    GROUP BY run_id
),
listed AS (
    SELECT run_id, token_text
    FROM (SELECT DISTINCT run_id, token_text FROM tagged)
    WHERE concat(run_id, chr(10), lower(trim(token_text, concat(' ', chr(9), chr(10), chr(13)))))
        IN (SELECT unnest($listed))
),
numbered AS (
    SELECT run_id, sample_id, dense_rank() OVER (PARTITION BY run_id ORDER BY problem_id) - 1 AS problem
    FROM samples
    WHERE run_id IN (SELECT unnest($runs))
),
counts AS (
    SELECT
        run_id,
        problem,
        planning_tag,
        -- Only of the words asked for: to group by every text would take most of the time and of the memory.
        CASE WHEN (run_id, token_text) IN (FROM listed) THEN token_text END AS text,
        count(*) AS n_all,
        count(*) FILTER (value >= v[1] - 1e-12 * abs(v[1])) AS n_metric,
        count(*) FILTER (entropy >= h[1] - 1e-12 * abs(h[1])) AS n_entropy,
        count(*) FILTER (fired) AS n_fired,
        count(*) FILTER (value BETWEEN v[2] AND v[3]) AS metric_margin,
        count(*) FILTER (abs(value - v[1]) <= 1e-12 * abs(v[1])) AS metric_tied,
        count(*) FILTER (entropy BETWEEN h[2] AND h[3]) AS entropy_margin,
        count(*) FILTER (abs(entropy - h[1]) <= 1e-12 * abs(h[1])) AS entropy_tied
    FROM tagged
    JOIN quantiles USING (run_id)
    JOIN numbered USING (run_id, sample_id)
    GROUP BY run_id, problem, planning_tag, text
),
labelled AS (
    SELECT 'planning' AS part, NULL AS label, * FROM counts WHERE planning_tag IS NOT NULL
    UNION ALL
    SELECT 'category', planning_tag, * FROM counts WHERE planning_tag IS NOT NULL
    UNION ALL
    SELECT 'word', lower(trim(text, concat(' ', chr(9), chr(10), chr(13)))), * FROM counts WHERE text IS NOT NULL
    UNION ALL
    SELECT 'total', NULL, * FROM counts
)
SELECT
    run_id,
    part,
    label,
    problem,
    sum(n_all)::BIGINT AS n_all,
    sum(n_metric)::BIGINT AS n_metric,
    sum(n_entropy)::BIGINT AS n_entropy,
    sum(n_fired)::BIGINT AS n_fired,
    sum(metric_margin)::BIGINT AS metric_margin,
    sum(metric_tied)::BIGINT AS metric_tied,
    sum(entropy_margin)::BIGINT AS entropy_margin,
    sum(entropy_tied)::BIGINT AS entropy_tied
FROM labelled
GROUP BY run_id, part, label, problem
