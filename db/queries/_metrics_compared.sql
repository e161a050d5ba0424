-- How far are scores of cut lists from those of whole lists, these from the stored ones, and stored ones from exact ones?
-- Definitions: parts truncated, rounded and exact of the statistic metrics. bounds: lower bounds of the stored ce from cut
--   lists: each number is taken at the end of its rounding that makes it least.
-- Parameters: $runs run ids; $p share of tokens; $ks list lengths; $tokens most tokens of parts truncated and rounded;
--   $exact run id or NULL; $rounding: a stored log-probability -x was -y with 1/4 + y within exp(+-rounding) (1/4 + x)
WITH chosen AS (
    SELECT run_id, sample_id
    FROM samples
    WHERE run_id IN (SELECT unnest($runs))
    WINDOW drawn AS (PARTITION BY run_id ORDER BY md5(sample_id))
    QUALIFY sum(n_tokens) OVER drawn <= $tokens OR row_number() OVER drawn = 1
),
listed AS (
    SELECT
        run_id,
        ce,
        base_topk_ids AS ids,
        reasoning_topk_ids AS other_ids,
        list_transform(base_topk_logprobs, lambda x: -x::DOUBLE) AS base,
        list_transform(reasoning_topk_logprobs, lambda x: -x::DOUBLE) AS reasoning,
        max(least(len(base_topk_ids), len(reasoning_topk_ids))) OVER (PARTITION BY run_id) AS longest
    FROM tokens
    JOIN chosen USING (run_id, sample_id)
    WHERE ce IS NOT NULL AND len(base_topk_ids) > 0 AND len(reasoning_topk_ids) > 0
),
cut AS (
    -- A base token that the reasoning list does not hold has at most that list's last probability.
    SELECT
        run_id,
        ce,
        -- The last one stands for the whole lists. Lists that end earlier (top_k_mass) are whole at every k from there on.
        list_append(list_filter($ks, lambda k: k < longest), greatest(len(ids), len(other_ids))) AS ks,
        list_transform(ks, lambda k: list_transform(base[:k], lambda b, i: [
            b, COALESCE(reasoning[list_position(other_ids[:k], ids[i])], reasoning[:k][-1])
        ])) AS pairs
    FROM listed
),
scored AS (
    SELECT
        run_id,
        ce,
        ks,
        list_transform(pairs, lambda terms: greatest(0, list_sum(list_transform(
            terms, lambda t: CASE WHEN t[1] < 'inf' THEN exp(-t[1]) * t[2] ELSE 0 END
        )))) AS found,
        list_transform(pairs, lambda terms: greatest(0, list_sum(list_transform(
            terms,
            lambda t: CASE
                WHEN t[1] = 'inf' THEN 0
                -- A probability above 1 by rounding: the term is negative, and least where the base's is largest.
                WHEN (t[2] + 0.25) * exp(-$rounding) < 0.25
                    THEN ((t[2] + 0.25) * exp(-$rounding) - 0.25) * exp(0.25 - (t[1] + 0.25) * exp(-$rounding))
                ELSE ((t[2] + 0.25) * exp(-$rounding) - 0.25) * exp(0.25 - (t[1] + 0.25) * exp($rounding))
            END
        )))) AS bounds
    FROM cut
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
        unnest(ks[:-2])::BIGINT AS k,
        found[-1] AS a,
        unnest(found[:-2]) AS b,
        unnest(bounds[:-2]) - ce AS excess
    FROM scored
    UNION ALL
    SELECT 'rounded', run_id, NULL, ce, found[-1], bounds[-1] - ce FROM scored
    UNION ALL
    SELECT 'exact', same_tokens.run_id, NULL, a.ce, b.ce, NULL
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
    min(a - b) AS smallest_difference,
    max(a - b) AS largest_difference,
    max(excess) AS bound_excess
FROM ranked_pairs
GROUP BY part, run_id, k
ORDER BY list_position(['truncated', 'rounded', 'exact'], part), list_position($runs, run_id), k
