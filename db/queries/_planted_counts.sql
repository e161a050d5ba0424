-- How many tokens of each run are planted decision points, and how many are not?
-- Definitions: over the tokens with a planted flag.
-- Parameters: $runs run ids
SELECT run_id, count(*) FILTER (planted > 0) AS planted, count(*) FILTER (planted = 0) AS other
FROM tokens
WHERE run_id IN (SELECT unnest($runs)) AND planted IS NOT NULL
GROUP BY run_id
ORDER BY list_position($runs, run_id)
