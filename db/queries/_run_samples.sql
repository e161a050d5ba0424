-- Which samples does a run have?
-- Definitions: one row a sample, in the order of sample ids. problem: a number from 0 in the order of problem ids.
--   correct: NULL where it is not graded.
-- Parameters: $run run id
SELECT sample_id, (dense_rank() OVER (ORDER BY problem_id) - 1)::INTEGER AS problem, n_tokens, correct
FROM samples
WHERE run_id = $run
ORDER BY sample_id
