-- Do the metrics of disagreement agree with each other?
-- Definitions: part metrics of the statistic metrics; its other parts are compared with the package's divergences.
-- Parameters: $runs run ids; $p share of tokens; $pairs true, or false to leave the rows out
WITH numbered AS (
    -- Runs and problems are numbers while tokens are sorted: text would take half of the time and of the memory.
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
complete AS NOT MATERIALIZED (
    SELECT
        run::UTINYINT AS run,
        problem,
        ce,
        kl,
        reverse_kl,
        js,
        tv,
        entropy_base
    FROM tokens
    JOIN numbered USING (run_id, sample_id)
    WHERE $pairs
        AND ce IS NOT NULL
        AND kl IS NOT NULL
        AND reverse_kl IS NOT NULL
        AND js IS NOT NULL
        AND tv IS NOT NULL
        AND entropy_base IS NOT NULL
),
thresholds AS (
    SELECT
        run,
        count(*) AS n_tokens,
        quantile_cont(ce, 1 - $p) * (1 - 1e-12) AS quantile_ce,
        min(ce) AS smallest_ce,
        quantile_cont(kl, 1 - $p) * (1 - 1e-12) AS quantile_kl,
        min(kl) AS smallest_kl,
        quantile_cont(reverse_kl, 1 - $p) * (1 - 1e-12) AS quantile_reverse_kl,
        min(reverse_kl) AS smallest_reverse_kl,
        quantile_cont(js, 1 - $p) * (1 - 1e-12) AS quantile_js,
        min(js) AS smallest_js,
        quantile_cont(tv, 1 - $p) * (1 - 1e-12) AS quantile_tv,
        min(tv) AS smallest_tv,
        quantile_cont(entropy_base, 1 - $p) * (1 - 1e-12) AS quantile_entropy_base,
        min(entropy_base) AS smallest_entropy_base
    FROM complete
    GROUP BY run
),
shifted AS (
    -- For the sums of squares the smallest value is 0, a constant metric is 0 throughout.
    SELECT
        run,
        problem,
        ce - smallest_ce AS ce,
        kl - smallest_kl AS kl,
        reverse_kl - smallest_reverse_kl AS reverse_kl,
        js - smallest_js AS js,
        tv - smallest_tv AS tv,
        entropy_base - smallest_entropy_base AS entropy_base,
        ce >= quantile_ce AS top_ce,
        kl >= quantile_kl AS top_kl,
        reverse_kl >= quantile_reverse_kl AS top_reverse_kl,
        js >= quantile_js AS top_js,
        tv >= quantile_tv AS top_tv,
        entropy_base >= quantile_entropy_base AS top_entropy_base
    FROM complete
    JOIN thresholds USING (run)
),
value_sums AS (
    SELECT
        run,
        problem,
        count(*) AS n,
        [
            ('ce', 'ce', sum(ce), sum(ce * ce), count_if(top_ce)),
            ('ce', 'kl', NULL, sum(ce * kl), count_if(top_ce AND top_kl)),
            ('ce', 'reverse_kl', NULL, sum(ce * reverse_kl), count_if(top_ce AND top_reverse_kl)),
            ('ce', 'js', NULL, sum(ce * js), count_if(top_ce AND top_js)),
            ('ce', 'tv', NULL, sum(ce * tv), count_if(top_ce AND top_tv)),
            ('ce', 'entropy_base', NULL, sum(ce * entropy_base), count_if(top_ce AND top_entropy_base)),
            ('kl', 'kl', sum(kl), sum(kl * kl), count_if(top_kl)),
            ('kl', 'reverse_kl', NULL, sum(kl * reverse_kl), count_if(top_kl AND top_reverse_kl)),
            ('kl', 'js', NULL, sum(kl * js), count_if(top_kl AND top_js)),
            ('kl', 'tv', NULL, sum(kl * tv), count_if(top_kl AND top_tv)),
            ('kl', 'entropy_base', NULL, sum(kl * entropy_base), count_if(top_kl AND top_entropy_base)),
            ('reverse_kl', 'reverse_kl', sum(reverse_kl), sum(reverse_kl * reverse_kl), count_if(top_reverse_kl)),
            ('reverse_kl', 'js', NULL, sum(reverse_kl * js), count_if(top_reverse_kl AND top_js)),
            ('reverse_kl', 'tv', NULL, sum(reverse_kl * tv), count_if(top_reverse_kl AND top_tv)),
            (
                'reverse_kl',
                'entropy_base',
                NULL,
                sum(reverse_kl * entropy_base),
                count_if(top_reverse_kl AND top_entropy_base)
            ),
            ('js', 'js', sum(js), sum(js * js), count_if(top_js)),
            ('js', 'tv', NULL, sum(js * tv), count_if(top_js AND top_tv)),
            ('js', 'entropy_base', NULL, sum(js * entropy_base), count_if(top_js AND top_entropy_base)),
            ('tv', 'tv', sum(tv), sum(tv * tv), count_if(top_tv)),
            ('tv', 'entropy_base', NULL, sum(tv * entropy_base), count_if(top_tv AND top_entropy_base)),
            ('entropy_base', 'entropy_base', sum(entropy_base), sum(entropy_base * entropy_base), count_if(top_entropy_base))
        ]::STRUCT(a VARCHAR, b VARCHAR, value_sum DOUBLE, value_product DOUBLE, n_top DOUBLE)[] AS products
    FROM shifted
    GROUP BY run, problem
),
-- One metric after the other is replaced by twice its average rank: rank() is the smallest rank of equal values, the running
-- count the largest. Rows stay small, so that the sorts of a large run fit into memory.
ranked_by_ce AS (
    SELECT * REPLACE ((rank() OVER by_value + count(*) OVER by_value)::UINTEGER AS ce)
    FROM complete
    WINDOW by_value AS (PARTITION BY run ORDER BY ce)
),
ranked_by_kl AS (
    SELECT * REPLACE ((rank() OVER by_value + count(*) OVER by_value)::UINTEGER AS kl)
    FROM ranked_by_ce
    WINDOW by_value AS (PARTITION BY run ORDER BY kl)
),
ranked_by_reverse_kl AS (
    SELECT * REPLACE ((rank() OVER by_value + count(*) OVER by_value)::UINTEGER AS reverse_kl)
    FROM ranked_by_kl
    WINDOW by_value AS (PARTITION BY run ORDER BY reverse_kl)
),
ranked_by_js AS (
    SELECT * REPLACE ((rank() OVER by_value + count(*) OVER by_value)::UINTEGER AS js)
    FROM ranked_by_reverse_kl
    WINDOW by_value AS (PARTITION BY run ORDER BY js)
),
ranked_by_tv AS (
    SELECT * REPLACE ((rank() OVER by_value + count(*) OVER by_value)::UINTEGER AS tv)
    FROM ranked_by_js
    WINDOW by_value AS (PARTITION BY run ORDER BY tv)
),
ranked_by_entropy_base AS (
    SELECT * REPLACE ((rank() OVER by_value + count(*) OVER by_value)::UINTEGER AS entropy_base)
    FROM ranked_by_tv
    WINDOW by_value AS (PARTITION BY run ORDER BY entropy_base)
),
centred AS (
    SELECT
        run,
        problem,
        (ce::DOUBLE - n_tokens - 1) / (2 * n_tokens) AS ce,
        (kl::DOUBLE - n_tokens - 1) / (2 * n_tokens) AS kl,
        (reverse_kl::DOUBLE - n_tokens - 1) / (2 * n_tokens) AS reverse_kl,
        (js::DOUBLE - n_tokens - 1) / (2 * n_tokens) AS js,
        (tv::DOUBLE - n_tokens - 1) / (2 * n_tokens) AS tv,
        (entropy_base::DOUBLE - n_tokens - 1) / (2 * n_tokens) AS entropy_base
    FROM ranked_by_entropy_base
    JOIN (SELECT run, n_tokens FROM thresholds) USING (run)
),
rank_sums AS (
    SELECT
        run,
        problem,
        [
            (sum(ce), sum(ce * ce)),
            (NULL, sum(ce * kl)),
            (NULL, sum(ce * reverse_kl)),
            (NULL, sum(ce * js)),
            (NULL, sum(ce * tv)),
            (NULL, sum(ce * entropy_base)),
            (sum(kl), sum(kl * kl)),
            (NULL, sum(kl * reverse_kl)),
            (NULL, sum(kl * js)),
            (NULL, sum(kl * tv)),
            (NULL, sum(kl * entropy_base)),
            (sum(reverse_kl), sum(reverse_kl * reverse_kl)),
            (NULL, sum(reverse_kl * js)),
            (NULL, sum(reverse_kl * tv)),
            (NULL, sum(reverse_kl * entropy_base)),
            (sum(js), sum(js * js)),
            (NULL, sum(js * tv)),
            (NULL, sum(js * entropy_base)),
            (sum(tv), sum(tv * tv)),
            (NULL, sum(tv * entropy_base)),
            (sum(entropy_base), sum(entropy_base * entropy_base))
        ]::STRUCT(rank_sum DOUBLE, rank_product DOUBLE)[] AS rank_products
    FROM centred
    GROUP BY run, problem
),
by_problem AS (
    SELECT
        $runs[run] AS run_id,
        problem_id,
        n,
        unnest(products, max_depth := 2),
        unnest(rank_products, max_depth := 2)
    FROM value_sums
    JOIN rank_sums USING (run, problem)
    JOIN problems USING (problem)
)
SELECT *
FROM (
    SELECT
        'metrics' AS part,
        run_id,
        metric_a,
        metric_b,
        NULL::BIGINT AS k,
        n::BIGINT AS n_tokens,
        value_product / NULLIF(sqrt(value_square_a) * sqrt(value_square_b), 0) AS pearson,
        rank_product / NULLIF(sqrt(rank_square_a) * sqrt(rank_square_b), 0) AS spearman,
        $p::DOUBLE AS p,
        n_both / (n_a + n_b - n_both) AS iou,
        (n_a * n_b / n) / (n_a + n_b - n_a * n_b / n) AS iou_chance,
        (n_a + n_b - 2 * n_both) / n AS decisions_changed,
        NULL::DOUBLE AS changed_at_tau,
        NULL::DOUBLE AS mean_difference,
        NULL::DOUBLE AS smallest_difference,
        NULL::DOUBLE AS largest_difference,
        NULL::DOUBLE AS bound_excess
    FROM (
        WITH totals AS (
            SELECT run_id, a, b, sum(n) AS n, sum(COLUMNS('value_.*|rank_.*|n_top')) FROM by_problem GROUP BY run_id, a, b
        )
        SELECT
            run_id,
            one.a AS metric_a,
            two.a AS metric_b,
            pair.n,
            one.n_top AS n_a,
            two.n_top AS n_b,
            pair.n_top AS n_both,
            pair.n * pair.value_product - one.value_sum * two.value_sum AS value_product,
            greatest(0, pair.n * one.value_product - one.value_sum ** 2) AS value_square_a,
            greatest(0, pair.n * two.value_product - two.value_sum ** 2) AS value_square_b,
            pair.n * pair.rank_product - one.rank_sum * two.rank_sum AS rank_product,
            greatest(0, pair.n * one.rank_product - one.rank_sum ** 2) AS rank_square_a,
            greatest(0, pair.n * two.rank_product - two.rank_sum ** 2) AS rank_square_b
        FROM totals AS pair
        JOIN totals AS one USING (run_id)
        JOIN totals AS two USING (run_id)
        WHERE pair.a <> pair.b AND one.a = pair.a AND one.b = pair.a AND two.a = pair.b AND two.b = pair.b
    )
)
ORDER BY
    list_position($runs, run_id),
    list_position(['ce', 'kl', 'reverse_kl', 'js', 'tv', 'entropy_base'], metric_a),
    list_position(['ce', 'kl', 'reverse_kl', 'js', 'tv', 'entropy_base'], metric_b)
