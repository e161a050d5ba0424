-- What are the values of some columns of a run's tokens, and of which sample is each token?
-- Definitions: sample: a number from 0 in the order of sample ids.
-- Parameters: $run run id; $columns names of columns of tokens
WITH numbered AS (
    SELECT sample_id, (row_number() OVER (ORDER BY sample_id) - 1)::INTEGER AS sample FROM samples WHERE run_id = $run
),
chosen AS (
    SELECT sample_id, COLUMNS(lambda name: list_contains($columns, name)) FROM tokens WHERE run_id = $run
)
SELECT * EXCLUDE (sample_id) FROM chosen JOIN numbered USING (sample_id)
