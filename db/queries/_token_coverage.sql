-- How many tokens of each run have a value, and is every score a number?
-- Definitions: n: its tokens. n_<column>: tokens whose column is not NULL; undefined_<column>: tokens whose score is NaN or
--   infinite.
-- Parameters: $runs run ids; $columns, $scores regular expressions of column names of `tokens`
SELECT
    run_id,
    count(*) AS n,
    count(COLUMNS($columns)) AS 'n_\1',
    count_if(NOT isfinite(COLUMNS($scores)))::BIGINT AS 'undefined_\1'
FROM tokens
WHERE run_id IN $runs
GROUP BY run_id
