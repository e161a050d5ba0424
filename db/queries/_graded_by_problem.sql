-- What does each problem contribute to accuracy and budget of a run?
-- Definitions: over its samples: tokens, takeovers and takeovers that changed the token; n graded samples, c right ones.
--   Sorted by problem, so that runs on the same problems have them in the same order.
-- Parameters: $runs run ids
SELECT
    run_id,
    problem_id,
    sum(n_tokens)::DOUBLE AS tokens,
    sum(n_takeovers)::DOUBLE AS takeovers,
    sum(n_changed)::DOUBLE AS changed,
    count(correct) AS n,
    count(*) FILTER (correct) AS c
FROM samples
WHERE run_id IN (SELECT unnest($runs))
GROUP BY run_id, problem_id
ORDER BY list_position($runs, run_id), problem_id
