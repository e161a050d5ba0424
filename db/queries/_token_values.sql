-- What are the values of some columns of a run's tokens, and of which problem is each token?
-- Definitions: problem: a number from 0 in the order of problem ids.
-- Paper: none; it feeds the statistics that sort all tokens of a run.
-- Parameters: $run run id; $columns names of columns of tokens
WITH numbered AS (
    SELECT sample_id, (dense_rank() OVER (ORDER BY problem_id) - 1)::INTEGER AS problem
    FROM samples
    WHERE run_id = $run
),
chosen AS (
    SELECT sample_id, COLUMNS(lambda name: list_contains($columns, name)) FROM tokens WHERE run_id = $run
)
SELECT * EXCLUDE (sample_id) FROM chosen JOIN numbered USING (sample_id)
