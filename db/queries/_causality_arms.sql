-- Which arms of counterfactual runs are there?
-- Definitions: graded samples that are taken or denied; positions at which both are and whose stored sample is there; stored
--   samples that are there; kept beginnings of theirs, of runs on sentences.
-- Parameters: $runs run ids
SELECT
    COALESCE(sum(taken), 0)::BIGINT AS taken,
    COALESCE(sum(denied), 0)::BIGINT AS denied,
    count(DISTINCT parents.sample_id) AS parents,
    count(*) FILTER (taken > 0 AND denied > 0 AND parents.sample_id IS NOT NULL) AS positions,
    count(*) FILTER (kept > 0 AND parents.sample_id IS NOT NULL) AS beginnings
FROM (
    SELECT
        parent_sample_id,
        parent_position,
        count(*) FILTER (arm = 'taken') AS taken,
        count(*) FILTER (arm = 'denied') AS denied,
        count(*) FILTER (arm = 'kept' AND json_extract_string(config, '$.arms.unit') = 'sentence') AS kept
    FROM samples
    JOIN runs USING (run_id)
    WHERE run_id IN (SELECT unnest($runs)) AND arm IS NOT NULL AND correct IS NOT NULL
    GROUP BY parent_sample_id, parent_position
) AS arms
LEFT JOIN samples AS parents ON parents.sample_id = arms.parent_sample_id
