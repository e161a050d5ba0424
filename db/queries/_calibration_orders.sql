-- In which order do nested subsets take the samples of a run?
-- Definitions: sample: its number from 0 in the order of sample ids; the order of seed 1 first.
-- Parameters: $run run id; $seeds number of seeds
SELECT sample::INTEGER AS sample
FROM (SELECT sample_id, row_number() OVER (ORDER BY sample_id) - 1 AS sample FROM samples WHERE run_id = $run)
CROSS JOIN (SELECT unnest(range(1, $seeds + 1)) AS seed)
ORDER BY seed, md5(concat(sample_id, ' ', seed)), sample_id
