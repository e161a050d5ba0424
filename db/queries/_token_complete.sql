-- How many tokens of each run have a value in every one of some columns?
-- Parameters: $runs run ids; $columns regular expression of column names of `tokens`
SELECT run_id, count(*) AS n_covered
FROM tokens
WHERE run_id IN $runs AND COLUMNS($columns) IS NOT NULL
GROUP BY run_id
