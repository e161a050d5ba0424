-- Are the top-k lists whole?
-- Rows: a finding for each sample with a token whose list has another number of ids than of log-probabilities, none of them
--   (no list is NULL), an id outside the vocabulary or twice, probabilities that rise, or that add up to more than 1 (and the
--   rounding of the compact layout).
WITH lists AS (
    SELECT run_id, sample_id, position, 'base' AS model, base_topk_ids AS ids, base_topk_logprobs AS logprobs FROM tokens
    UNION ALL
    SELECT run_id, sample_id, position, 'reasoning', reasoning_topk_ids, reasoning_topk_logprobs FROM tokens
),
judged AS (
    SELECT
        run_id, sample_id, position, model,
        CASE
            WHEN len(ids) IS DISTINCT FROM len(logprobs) THEN 'ids and log-probabilities of different number'
            WHEN len(ids) = 0 THEN 'no entries'
            WHEN list_min(ids) < 0 OR list_max(ids) >= vocab_size OR len(list_filter(ids, lambda x: x IS NULL)) > 0
                THEN 'ids outside the vocabulary'
            WHEN list_unique(ids) <> len(ids) THEN 'an id twice'
            WHEN list_sum(list_transform(logprobs, lambda x: exp(x))) > 1.0001 + 0.0188 * (0.25 + ln(len(logprobs))) THEN 'probabilities above 1 together'
            WHEN logprobs <> list_reverse_sort(logprobs) THEN 'log-probabilities that rise'
        END AS fault
    FROM lists
    JOIN runs USING (run_id)
    WHERE ids IS NOT NULL OR logprobs IS NOT NULL
)
SELECT
    run_id, sample_id,
    count(*) || ' lists of the ' || model || ' model have ' || fault || '; the first at position ' || min(position) AS finding
FROM judged
WHERE fault IS NOT NULL
GROUP BY run_id, sample_id, model, fault
ORDER BY ALL
