-- Does disagreement find the decision points that a world has planted?
-- Definitions: over the tokens of a run with a planted flag and the metric; each metric is a detector that ranks them.
--   part ranking: auroc: probability that a planted token has the larger value than one that is not, ties counting half.
--   average_precision: sum over distinct values, largest first, of (recall - recall before) * precision; it is the
--   definition of scikit-learn, and equal values count as one step.
--   part top: of the top-p set, tokens with value >= Q(1 - p), Q the linearly interpolated quantile less a relative 1e-12
--   (ties at the threshold are all in). precision: planted tokens of the set over its size; recall: over all planted ones;
--   f1: their harmonic mean. All are shares from 0 to 1; what does not apply to a part is NULL.
--   Intervals of the part top keep the thresholds; those of the part ranking are made of 256 classes of equal size.
-- Paper: not in the paper: ground truth for its claim that disagreement marks decisions (diagnosis).
-- Parameters: $runs run ids; $ps shares of tokens
WITH numbered AS (
    -- Runs, problems and metrics are numbers while tokens are sorted: text would take most of the time.
    SELECT
        run_id,
        sample_id,
        problem_id,
        list_position($runs, run_id) AS run,
        dense_rank() OVER (ORDER BY problem_id)::INTEGER AS problem
    FROM samples
    WHERE run_id IN (SELECT unnest($runs))
),
problems AS (
    SELECT DISTINCT problem, problem_id FROM numbered
),
marked AS (
    SELECT run, problem, planted > 0 AS planted, ce, kl, reverse_kl, js, tv, entropy_base
    FROM tokens
    JOIN numbered USING (run_id, sample_id)
    WHERE planted IS NOT NULL
),
scored AS NOT MATERIALIZED (
    -- NOT MATERIALIZED: a second scan of a few columns costs less than keeping every row.
    SELECT run, problem, planted, 1 AS detector, ce AS value FROM marked WHERE ce IS NOT NULL
    UNION ALL
    SELECT run, problem, planted, 2, kl FROM marked WHERE kl IS NOT NULL
    UNION ALL
    SELECT run, problem, planted, 3, reverse_kl FROM marked WHERE reverse_kl IS NOT NULL
    UNION ALL
    SELECT run, problem, planted, 4, js FROM marked WHERE js IS NOT NULL
    UNION ALL
    SELECT run, problem, planted, 5, tv FROM marked WHERE tv IS NOT NULL
    UNION ALL
    SELECT run, problem, planted, 6, entropy_base FROM marked WHERE entropy_base IS NOT NULL
),
thresholds AS (
    SELECT
        run,
        detector,
        count(*) AS n_tokens,
        count(*) FILTER (planted) AS n_planted,
        list_transform(quantile_cont(value, list_transform($ps, lambda p: 1 - p)), lambda q: q - 1e-12 * abs(q)) AS cuts
    FROM scored
    GROUP BY run, detector
),
ranked AS (
    -- Equal values are one step: rank() and the running counts are those of the whole step.
    SELECT
        run,
        detector,
        problem,
        planted,
        rank() OVER largest_first - 1 AS n_above,
        count(*) OVER largest_first AS n_top,
        sum(planted::INTEGER) OVER largest_first AS hits_top
    FROM scored
    WINDOW largest_first AS (PARTITION BY run, detector ORDER BY value DESC)
),
rankings AS (
    SELECT
        run,
        detector,
        any_value(n_tokens) AS n_tokens,
        any_value(n_planted) AS n_planted,
        sum(hits_top / n_top) FILTER (planted) / NULLIF(any_value(n_planted), 0) AS average_precision,
        -- By the mean ranks of the planted tokens, the smallest value first.
        (sum(n_tokens - (n_above + n_top - 1) / 2) FILTER (planted)
            - any_value(n_planted * (n_planted + 1) / 2))
        / NULLIF(any_value(n_planted * (n_tokens - n_planted)), 0) AS auroc
    FROM ranked
    JOIN thresholds USING (run, detector)
    GROUP BY run, detector
),
sets AS (
    SELECT run, detector, unnest($ps)::DOUBLE AS p, unnest(cuts) AS cut FROM thresholds
),
tops AS (
    SELECT run, detector, p, problem, count(*) AS n, count(*) FILTER (planted) AS hits
    FROM scored
    JOIN sets USING (run, detector)
    WHERE value >= cut
    GROUP BY ALL
),
planted_of AS (
    SELECT run, detector, problem, count(*) FILTER (planted) AS n_planted FROM scored GROUP BY ALL
),
by_problem AS (
    SELECT
        'top' AS part,
        $runs[run] AS run_id,
        problem_id,
        ['ce', 'kl', 'reverse_kl', 'js', 'tv', 'entropy_base'][detector] AS metric,
        p,
        NULL AS class,
        COALESCE(n, 0) AS n,
        COALESCE(hits, 0) AS hits,
        n_planted,
        2 * COALESCE(hits, 0) AS twice_hits,
        COALESCE(n, 0) + n_planted AS n_either
    FROM planted_of
    JOIN sets USING (run, detector)
    LEFT JOIN tops USING (run, detector, p, problem)
    JOIN problems USING (problem)
    UNION ALL
    SELECT
        'ranking',
        $runs[run],
        problem_id,
        ['ce', 'kl', 'reverse_kl', 'js', 'tv', 'entropy_base'][detector],
        NULL,
        class,
        n,
        hits,
        NULL,
        NULL,
        NULL
    FROM (
        SELECT
            run,
            detector,
            problem,
            least(255, 256 * n_above // n_tokens) AS class,
            count(*) AS n,
            count(*) FILTER (planted) AS hits
        FROM ranked
        JOIN thresholds USING (run, detector)
        GROUP BY ALL
    )
    JOIN problems USING (problem)
)
SELECT
    part,
    $runs[run] AS run_id,
    ['ce', 'kl', 'reverse_kl', 'js', 'tv', 'entropy_base'][detector] AS metric,
    p,
    n_tokens::BIGINT AS n_tokens,
    n_planted::BIGINT AS n_planted,
    n_top,
    hits / NULLIF(n_top, 0) AS precision,
    hits / NULLIF(n_planted, 0) AS recall,
    2 * hits / NULLIF(n_top + n_planted, 0) AS f1,
    average_precision,
    auroc
FROM (
    SELECT 'ranking' AS part, * FROM rankings
    UNION ALL BY NAME
    SELECT
        'top' AS part, run, detector, p, any_value(n_tokens) AS n_tokens, any_value(n_planted) AS n_planted,
        sum(n)::BIGINT AS n_top, sum(hits)::BIGINT AS hits
    FROM tops
    JOIN thresholds USING (run, detector)
    GROUP BY run, detector, p
)
ORDER BY part, run, detector, p
