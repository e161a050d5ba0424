-- What are the values of some columns of a run's tokens?
-- Definitions: in the order in which the tokens are stored.
-- Parameters: $run run id; $columns names of columns of tokens
SELECT COLUMNS(lambda name: list_contains($columns, name)) FROM tokens WHERE run_id = $run
