-- How far are scores of truncated lists from the stored ones, and stored ones from exact ones?
-- Definitions: parts truncated and exact of the statistic metrics.
-- Parameters: $runs run ids; $p share of tokens; $ks list lengths; $tokens most tokens of part truncated; $exact run id or
--   NULL
WITH chosen AS (
    SELECT run_id, sample_id
    FROM samples
    WHERE run_id IN (SELECT unnest($runs))
    WINDOW drawn AS (PARTITION BY run_id ORDER BY md5(sample_id))
    QUALIFY sum(n_tokens) OVER drawn <= $tokens OR row_number() OVER drawn = 1
),
cut AS (
    SELECT
        run_id,
        ce,
        k,
        base_topk_logprobs::DOUBLE[] AS base,
        reasoning_topk_logprobs::DOUBLE[] AS reasoning,
        list_transform(base_topk_ids[:k], lambda id: list_position(reasoning_topk_ids[:k], id)) AS places
    FROM tokens
    JOIN chosen USING (run_id, sample_id)
    JOIN (SELECT unnest($ks) AS k) ON k < len(base_topk_ids) AND k < len(reasoning_topk_ids)
    WHERE ce IS NOT NULL
),
same_tokens AS (
    SELECT exact.sample_id AS exact_id, other.run_id, other.sample_id
    FROM samples AS exact
    JOIN samples AS other USING (problem_id, sample_index, n_tokens)
    JOIN tokens AS a ON a.run_id = exact.run_id AND a.sample_id = exact.sample_id
    JOIN tokens AS b ON b.run_id = other.run_id AND b.sample_id = other.sample_id AND b.position = a.position
    WHERE exact.run_id = $exact AND other.run_id IN (SELECT unnest($runs)) AND other.run_id <> $exact
    GROUP BY ALL
    HAVING bool_and(a.token_id = b.token_id)
),
compared AS (
    SELECT
        'truncated' AS part,
        run_id,
        k,
        ce AS a,
        greatest(0, -list_sum(list_transform(
            range(1, k + 1), lambda i: exp(base[i]) * COALESCE(reasoning[places[i]], reasoning[k])
        ))) AS b
    FROM cut
    UNION ALL
    SELECT 'exact', same_tokens.run_id, NULL, a.ce, b.ce
    FROM same_tokens
    JOIN tokens AS a ON a.run_id = $exact AND a.sample_id = exact_id
    JOIN tokens AS b
        ON b.run_id = same_tokens.run_id AND b.sample_id = same_tokens.sample_id AND b.position = a.position
    WHERE a.ce IS NOT NULL AND b.ce IS NOT NULL
),
ranked_pairs AS (
    SELECT
        *,
        rank() OVER by_a + count(*) OVER by_a AS rank_a,
        rank() OVER by_b + count(*) OVER by_b AS rank_b,
        a >= quantile_cont(a, 1 - $p) OVER whole * (1 - 1e-12) AS top_a,
        b >= quantile_cont(b, 1 - $p) OVER whole * (1 - 1e-12) AS top_b,
        b >= quantile_cont(a, 1 - $p) OVER whole * (1 - 1e-12) AS top_b_at_tau
    FROM compared
    WINDOW
        whole AS (PARTITION BY part, run_id, k),
        by_a AS (PARTITION BY part, run_id, k ORDER BY a),
        by_b AS (PARTITION BY part, run_id, k ORDER BY b)
)
SELECT
    part,
    run_id,
    'ce' AS metric_a,
    'ce' AS metric_b,
    k,
    count(*) AS n_tokens,
    CASE WHEN min(a) < max(a) AND min(b) < max(b) THEN corr(a, b) END AS pearson,
    CASE WHEN min(a) < max(a) AND min(b) < max(b) THEN corr(rank_a, rank_b) END AS spearman,
    $p::DOUBLE AS p,
    count_if(top_a AND top_b) / count_if(top_a OR top_b) AS iou,
    (count_if(top_a) * count_if(top_b) / count(*))
    / (count_if(top_a) + count_if(top_b) - count_if(top_a) * count_if(top_b) / count(*)) AS iou_chance,
    count_if(top_a <> top_b) / count(*) AS decisions_changed,
    count_if(top_a <> top_b_at_tau) / count(*) AS changed_at_tau,
    avg(a - b) AS mean_difference,
    max(a - b) AS largest_difference
FROM ranked_pairs
GROUP BY part, run_id, k
ORDER BY list_position(['truncated', 'exact'], part), list_position($runs, run_id), k
