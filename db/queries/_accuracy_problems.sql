-- What does each problem add to the accuracy and the budget of a run?
-- Definitions: rho_sum: sum over its samples of n_takeovers / n_tokens, over rho_samples of them; tokens, takeovers, changed:
--   sums over its samples; n graded samples, c right ones. Sorted by problem, so that runs on the same problems have them in
--   the same order.
-- Paper: none; it feeds the bootstrap over problems of accuracy.
-- Parameters: $runs run ids
SELECT
    run_id,
    sum(n_takeovers / NULLIF(n_tokens, 0)) AS rho_sum,
    count(*) FILTER (n_tokens > 0)::DOUBLE AS rho_samples,
    sum(n_tokens)::DOUBLE AS tokens,
    sum(n_takeovers)::DOUBLE AS takeovers,
    sum(n_changed)::DOUBLE AS changed,
    count(correct)::DOUBLE AS n,
    count(*) FILTER (correct)::DOUBLE AS c
FROM samples
WHERE run_id IN (SELECT unnest($runs))
GROUP BY run_id, problem_id
ORDER BY run_id, problem_id
