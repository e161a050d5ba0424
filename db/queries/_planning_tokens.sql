-- Which planning tag and which of some words is each token of a run?
-- Definitions: sample: as in _token_values.sql. value, entropy: the metric and entropy_base. fired: the gate fired. tag, word:
--   place from 0 of the planning tag in $tags, and of the word (text without white space around it, in lower case) in $words;
--   NULL where it is none of them.
-- Parameters: $run run id; $metric column of tokens; $tags planning tags; $words words
WITH numbered AS (
    SELECT sample_id, (row_number() OVER (ORDER BY sample_id) - 1)::INTEGER AS sample FROM samples WHERE run_id = $run
),
chosen AS NOT MATERIALIZED (
    -- NOT MATERIALIZED: a second scan of a few columns costs less than keeping every row.
    SELECT
        sample_id,
        token_text,
        planning_tag,
        fired,
        entropy_base AS entropy,
        COLUMNS(lambda name: name = $metric) AS value
    FROM tokens
    WHERE run_id = $run
),
spelled AS (
    SELECT
        token_text,
        (list_position($words, lower(trim(token_text, concat(' ', chr(9), chr(10), chr(13))))) - 1)::TINYINT AS word
    FROM (SELECT DISTINCT token_text FROM chosen)
)
SELECT
    sample,
    value,
    entropy,
    fired::TINYINT AS fired,
    (list_position($tags, planning_tag) - 1)::TINYINT AS tag,
    word
FROM chosen
JOIN numbered USING (sample_id)
LEFT JOIN (FROM spelled WHERE word IS NOT NULL) USING (token_text)
