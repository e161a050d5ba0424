-- What does each problem contribute to accuracy and budget of a run?
-- Definitions: over its samples: rho_sum: sum of n_takeovers / n_tokens, of rho_samples of them; tokens, takeovers and
--   takeovers that changed the token; n graded samples, c right ones. Sorted by problem, so that runs on the same problems
--   have them in the same order.
-- Parameters: $runs run ids
SELECT
    run_id,
    COALESCE(sum(n_takeovers / NULLIF(n_tokens, 0)), 0) AS rho_sum,
    count(*) FILTER (n_tokens > 0)::DOUBLE AS rho_samples,
    sum(n_tokens)::DOUBLE AS tokens,
    sum(n_takeovers)::DOUBLE AS takeovers,
    COALESCE(sum(n_changed), 0)::DOUBLE AS changed,
    count(correct)::DOUBLE AS n,
    count(*) FILTER (correct)::DOUBLE AS c
FROM samples
WHERE run_id IN (SELECT unnest($runs))
GROUP BY run_id, problem_id
ORDER BY list_position($runs, run_id), problem_id
