-- Does everything that a row names exist?
-- Rows: a finding for each name that leads nowhere: a run's calibration, a calibration's run (deleted runs leave theirs), a
--   continued sample's parent, a sample whose tokens lie in both layouts, a sealed run that is not registered as a run.
SELECT run_id, NULL AS sample_id, 'names calibration ' || calibration_id || ', which is not there' AS finding
FROM runs
WHERE calibration_id IS NOT NULL AND calibration_id NOT IN (SELECT calibration_id FROM calibrations)
UNION ALL
SELECT child.run_id, child.sample_id, 'continues sample ' || child.parent_sample_id || ', which is not there'
FROM samples AS child
WHERE child.parent_sample_id IS NOT NULL AND child.parent_sample_id NOT IN (SELECT sample_id FROM samples)
UNION ALL
SELECT run_id, sample_id, 'has tokens in both layouts'
FROM (SELECT DISTINCT run_id, sample_id FROM exact_tokens)
SEMI JOIN (SELECT DISTINCT run_id, sample_id FROM compact_tokens) USING (run_id, sample_id)
UNION ALL
SELECT run_id, NULL, 'is sealed, but there is no such run' FROM sealed_runs ANTI JOIN runs USING (run_id)
UNION ALL
SELECT run_id, NULL, 'is sealed, but has rows in the file as well'
FROM sealed_runs
SEMI JOIN stored_samples USING (run_id)
ORDER BY ALL
