-- How many tokens of each run have a value, and is every score a number?
-- Definitions: n_covered: tokens that have a value in every column of $joint. n_<column>: tokens whose column is not NULL;
--   undefined_<column>: tokens whose score is NaN or infinite; negative_<column>: tokens whose score is below 0.
-- Parameters: $runs run ids; $columns, $scores, $joint regular expressions of column names of `tokens`
WITH complete AS (
    SELECT run_id, count(*) AS n_covered
    FROM tokens
    WHERE run_id IN (SELECT unnest($runs)) AND COLUMNS($joint) IS NOT NULL
    GROUP BY run_id
),
counted AS (
    SELECT
        run_id,
        count(COLUMNS($columns)) AS 'n_\1',
        count_if(NOT isfinite(COLUMNS($scores)))::BIGINT AS 'undefined_\1',
        count_if(COLUMNS($scores) < 0)::BIGINT AS 'negative_\1'
    FROM tokens
    WHERE run_id IN (SELECT unnest($runs))
    GROUP BY run_id
)
SELECT counted.*, COALESCE(n_covered, 0) AS n_covered FROM counted LEFT JOIN complete USING (run_id)
