-- Which tokens are pivotal, and do takeovers, or the score, point to them?
-- Definitions: over tokens of stored samples that were searched by `rrti counterfactual --unit pivotal`: between neighbouring
--   beginnings that were continued, a token by itself at which the share of right continuations changes by the search's gap or
--   more is pivotal; tokens of a stretch over which it changes less are not, although changes that cancel out may hide there.
--   Longer stretches with a larger change were left open, by a budget, or as their ends were continued more often later:
--   n_open, their tokens, of which nothing else is made. run_id: the run of the stored samples; the runs that are named are the
--   searches, pooled; of several of one sample it is the one that continued most.
--   n_pivotal, pivotal: number and share of pivotal tokens, of what a search finds: fewer than there are. In simulated solutions
--   with 1.5 jumps of .35 to .6, up or down, it found 40 % of them (gap .2, 64 continuations; 20 % with gap .3 and 16), and of
--   what it found 99 % (90 %) were such. jump: by how much the share of right solutions changes at pivotal
--   tokens, up or down, on average; as those are chosen by it, it is too large where continuations are few. raises: share of
--   the pivotal tokens at which right solutions become more frequent.
--   control: of each token of a row the share of pivotal ones among the tokens of the same tenth of the same solution that are
--   in other rows of the part, averaged; lead: pivotal less control, over tokens that have such others (n_matched).
--   part fired: tokens that the gate took over, and others. part decile: by a predictor, 1 its smallest values: 1 + floor(10
--   (rank - 1) / n), rank the smallest of equal values; value_low, value_high: its smallest and largest. The predictor score is
--   what the gate saw, in the unit of the run's metric; entropy_base is the control by the base model's entropy alone, in nats.
--   part position: by place in the solution, decile 1 its first tenth. part word: by planning word (tag).
-- Paper: not in the paper. The search is that of the phi-4 technical report (arXiv 2412.08905).
-- Parameters: $runs run ids of program counterfactual
WITH searches AS (
    SELECT
        run_id,
        json_extract_string(config, '$.arms.sample') AS sample_id,
        CAST(json_extract(config, '$.arms.gap') AS DOUBLE) AS gap,
        unnest(CAST(json_extract(config, '$.arms.spans') AS INTEGER[][])) AS span
    FROM runs
    WHERE run_id IN (SELECT unnest($runs)) AND json_extract_string(config, '$.arms.unit') = 'pivotal'
),
beginnings AS (
    SELECT
        run_id,
        parent_sample_id AS sample_id,
        parent_position AS last,
        avg(correct::INTEGER) AS share_right,
        sum(count(*)) OVER (PARTITION BY run_id, parent_sample_id) AS continued
    FROM samples
    WHERE run_id IN (SELECT unnest($runs)) AND arm = 'kept' AND correct IS NOT NULL
    GROUP BY run_id, parent_sample_id, parent_position
),
chosen AS (
    SELECT searches.*
    FROM searches
    JOIN (SELECT DISTINCT run_id, sample_id, continued FROM beginnings) USING (run_id, sample_id)
    QUALIFY rank() OVER (PARTITION BY sample_id ORDER BY continued DESC, run_id) = 1
),
stretches AS (
    SELECT
        sample_id,
        gap,
        lag(last) OVER neighbours + 1 AS first,
        last,
        share_right - lag(share_right) OVER neighbours AS change
    FROM chosen
    JOIN beginnings USING (run_id, sample_id)
    WHERE last BETWEEN span[1] - 1 AND span[2]
    WINDOW neighbours AS (PARTITION BY run_id, sample_id, span[1] ORDER BY last)
    QUALIFY first IS NOT NULL
),
searched AS (
    SELECT
        parents.run_id,
        parents.problem_id,
        sample_id,
        tokens.score,
        tokens.entropy_base,
        CASE WHEN tokens.fired THEN 'takeovers' ELSE 'others' END AS fired,
        COALESCE(tokens.planning_tag, 'none') AS tag,
        1 + (10 * position) // parents.n_tokens AS tenth,
        CASE WHEN first = last OR abs(change) < gap THEN (abs(change) >= gap)::INTEGER END AS pivotal,
        CASE WHEN first = last AND abs(change) >= gap THEN change END AS change
    FROM stretches
    JOIN (SELECT run_id, sample_id, problem_id, n_tokens FROM samples) AS parents USING (sample_id)
    JOIN tokens USING (run_id, sample_id)
    WHERE position BETWEEN first AND last
),
labelled AS (
    SELECT 'fired' AS part, fired AS label, * FROM searched
    UNION ALL BY NAME SELECT 'word' AS part, tag AS label, * FROM searched
    UNION ALL BY NAME
    SELECT
        'decile' AS part,
        1 + (10 * (rank() OVER ranks - 1)) // count(*) OVER (PARTITION BY run_id, predictor) AS decile,
        predictor || ' ' || decile AS label,
        *
    FROM (UNPIVOT (FROM searched WHERE pivotal IS NOT NULL) ON score, entropy_base INTO NAME predictor VALUE value)
    WINDOW ranks AS (PARTITION BY run_id, predictor ORDER BY value)
),
matched AS (
    SELECT
        *,
        (sum(pivotal) OVER place - sum(pivotal) OVER same) / NULLIF(count(*) OVER place - count(*) OVER same, 0) AS control
    FROM labelled
    WHERE pivotal IS NOT NULL
    WINDOW
        place AS (PARTITION BY part, predictor, run_id, sample_id, tenth),
        same AS (PARTITION BY part, predictor, run_id, sample_id, tenth, label)
    UNION ALL BY NAME SELECT 'all' AS part, 'searched' AS label, * FROM searched
    UNION ALL BY NAME SELECT 'position' AS part, tenth AS decile, 'tenth ' || tenth AS label, * FROM searched
),
by_problem AS (
    SELECT
        part,
        run_id,
        problem_id,
        predictor,
        decile,
        label,
        count(pivotal) AS n,
        count(*) - count(pivotal) AS n_open,
        sum(pivotal) AS pivotal,
        sum(abs(change)) AS jump,
        count(*) FILTER (change > 0) AS raises,
        min(value) AS value_low,
        max(value) AS value_high,
        count(control) AS n_matched,
        sum(control) AS control,
        sum(pivotal - control) AS lead
    FROM matched
    GROUP BY part, run_id, problem_id, predictor, decile, label
)
SELECT
    part,
    run_id,
    runs.program,
    runs.metric,
    predictor,
    decile,
    label,
    count(*) AS n_problems,
    sum(n)::BIGINT AS n_tokens,
    sum(n_open)::BIGINT AS n_open,
    sum(pivotal)::BIGINT AS n_pivotal,
    sum(n_matched)::BIGINT AS n_matched,
    min(value_low) AS value_low,
    max(value_high) AS value_high,
    sum(pivotal) / NULLIF(sum(n), 0) AS pivotal,
    sum(control) / NULLIF(sum(n_matched), 0) AS control,
    sum(lead) / NULLIF(sum(n_matched), 0) AS lead,
    sum(jump) / NULLIF(sum(pivotal), 0) AS jump,
    sum(raises) / NULLIF(sum(pivotal), 0) AS raises
FROM by_problem
JOIN runs USING (run_id)
GROUP BY ALL
ORDER BY part, run_id, predictor DESC, decile, label DESC
