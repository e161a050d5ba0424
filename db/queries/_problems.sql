-- Which problems does each run have samples of?
-- Definitions: each problem once, sorted, so that runs on the same problems have them in the same order.
-- Parameters: $runs run ids
SELECT DISTINCT run_id, problem_id
FROM samples
WHERE run_id IN (SELECT unnest($runs))
ORDER BY run_id, problem_id
