-- What mass does the guest move, and how does its token rank with the model that writes?
-- Definitions: over the n tokens of a group for which both lists of candidates are stored. The host is the model that writes
--   (base), the guest the other (reasoning). The guest's token: at a takeover the one that was emitted, elsewhere the first of its
--   list. first, five, listed: share of the tokens at which it is the first of the host's list, among its first five, in it at
--   all. host_probability: the host's mean probability of it; 0 where it is neither emitted nor in the list. tv: mean total
--   variation, the mass that the guest moves. host_on_first, guest_on_first, host_on_five, guest_on_five: mean probability that
--   host and guest give the host's first token, its first five; the guest's is 0 for what its list does not hold, as in all
--   lists a lower bound. Sums of five are at most 1, which those of rounded lists can exceed. Shares and probabilities from 0
--   to 1.
--   part takeovers: label all, or changed, those whose token differs from the one that the host drew. part decile: all tokens
--   that have the metric, by tenths of its values in the run: label 1 up to the first of the nine quantiles that are values
--   (ties are together), 10 above the last. There tv has no interval: it moves with those quantiles, which resamples hold.
-- Paper: none; ranks and reallocation after "Sparse but Critical" (arXiv 2603.22446).
-- Parameters: $runs run ids; $metric column of tokens
WITH valued AS (
    SELECT run_id, sample_id, position, COLUMNS(lambda name: name = $metric) AS value
    FROM tokens
    WHERE run_id IN (SELECT unnest($runs))
),
listed AS (
    SELECT
        run_id,
        sample_id,
        value,
        tv,
        fired,
        fired AND base_token_id <> token_id AS changed,
        base_topk_ids AS host_ids,
        base_topk_logprobs AS host_logprobs,
        reasoning_topk_ids AS guest_ids,
        reasoning_topk_logprobs AS guest_logprobs,
        CASE WHEN fired THEN token_id ELSE reasoning_topk_ids[1] END AS guest_token,
        CASE WHEN fired THEN base_logprob END AS emitted_logprob
    FROM tokens
    JOIN valued USING (run_id, sample_id, position)
    WHERE run_id IN (SELECT unnest($runs)) AND len(base_topk_ids) > 0 AND len(reasoning_topk_ids) > 0 AND tv IS NOT NULL
),
placed AS (
    SELECT
        *,
        COALESCE(list_position(host_ids, guest_token), 0) AS place,
        list_transform(
            host_ids[1:5], lambda id: COALESCE(exp(guest_logprobs[NULLIF(list_position(guest_ids, id), 0)]), 0)
        ) AS guest_on_host
    FROM listed
),
measured AS (
    SELECT
        run_id,
        problem_id,
        value,
        fired,
        changed,
        place = 1 AS first,
        place BETWEEN 1 AND 5 AS five,
        place > 0 AS listed,
        COALESCE(exp(COALESCE(emitted_logprob, host_logprobs[NULLIF(place, 0)])), 0) AS host_probability,
        tv,
        exp(host_logprobs[1]) AS host_on_first,
        guest_on_host[1] AS guest_on_first,
        least(list_sum(list_transform(host_logprobs[1:5], lambda logprob: exp(logprob))), 1) AS host_on_five,
        least(list_sum(guest_on_host), 1) AS guest_on_five
    FROM placed
    JOIN (SELECT run_id, sample_id, problem_id FROM samples WHERE run_id IN (SELECT unnest($runs))) USING (run_id, sample_id)
),
quantiles AS (
    SELECT run_id, quantile_disc(value, list_transform(range(1, 10), lambda tenth: tenth / 10)) AS tenths
    FROM measured
    WHERE value IS NOT NULL
    GROUP BY run_id
),
grouped AS (
    SELECT *, 'takeovers' AS part, 0 AS place FROM measured WHERE fired
    UNION ALL BY NAME
    SELECT *, 'takeovers' AS part, 1 AS place FROM measured WHERE changed
    UNION ALL BY NAME
    SELECT measured.*, 'decile' AS part, 1 + len(list_filter(tenths, lambda tenth: value > tenth)) AS place
    FROM measured
    JOIN quantiles USING (run_id)
    WHERE value IS NOT NULL
),
by_problem AS (
    SELECT
        run_id,
        problem_id,
        part,
        CASE WHEN part = 'decile' THEN place::VARCHAR ELSE ['all', 'changed'][place + 1] END AS label,
        any_value(place) AS place,
        count(*) AS n,
        sum(first::INTEGER) AS first,
        sum(five::INTEGER) AS five,
        sum(listed::INTEGER) AS listed,
        sum(COLUMNS(['host_probability', 'tv', 'host_on_first', 'guest_on_first', 'host_on_five', 'guest_on_five']))
    FROM grouped
    GROUP BY run_id, problem_id, part, label
)
SELECT
    run_id,
    part,
    label,
    sum(n)::BIGINT AS n,
    sum(first) / sum(n) AS first,
    sum(five) / sum(n) AS five,
    sum(listed) / sum(n) AS listed,
    sum(host_probability) / sum(n) AS host_probability,
    sum(tv) / sum(n) AS tv,
    sum(host_on_first) / sum(n) AS host_on_first,
    sum(guest_on_first) / sum(n) AS guest_on_first,
    sum(host_on_five) / sum(n) AS host_on_five,
    sum(guest_on_five) / sum(n) AS guest_on_five
FROM by_problem
GROUP BY run_id, part, label
ORDER BY list_position($runs, run_id), part DESC, any_value(place)
