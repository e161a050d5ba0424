-- Were takeovers necessary, and does the score tell which?
-- Definitions: over positions of stored samples at which both arms of a counterfactual run were continued and graded:
--   "taken" with the reasoning model's token there, "denied" with the base model's, everything else alike. run_id: the run
--   of the stored samples; the runs that are named are those of the arms, pooled. taken, denied: mean over positions of
--   the share of right continuations; effect: taken - denied, -1 to 1. necessary: share of positions with taken > 1/2 >=
--   denied; harmful: with denied > 1/2 >= taken. All are shares from 0 to 1 otherwise. Only positions at which the models
--   chose different tokens can be tested, so these are shares of such positions, not of all takeovers.
--   part decile: positions by what the gate saw there, 1 the smallest scores: 1 + floor(10 (rank - 1) / n), rank the
--   smallest of equal scores, so that ties share a decile; score_low, score_high: its smallest and largest score, in the
--   unit of the run's metric. Positions without a score are in part all only.
-- Paper: answers the criticism that divergent positions are correlated, not causal (not in the paper).
-- Parameters: $runs run ids of program counterfactual
WITH arms AS (
    SELECT
        parent_sample_id,
        parent_position,
        any_value(problem_id) AS problem_id,
        count(*) AS n_samples,
        avg(correct::INTEGER) FILTER (arm = 'taken') AS taken,
        avg(correct::INTEGER) FILTER (arm = 'denied') AS denied
    FROM samples
    WHERE run_id IN (SELECT unnest($runs)) AND arm IS NOT NULL AND correct IS NOT NULL
    GROUP BY parent_sample_id, parent_position
),
positions AS (
    SELECT parents.run_id, arms.*, tokens.score
    FROM arms
    JOIN (SELECT run_id, sample_id FROM samples) AS parents ON parents.sample_id = parent_sample_id
    JOIN tokens
        ON tokens.run_id = parents.run_id AND tokens.sample_id = parent_sample_id AND tokens.position = parent_position
    WHERE taken IS NOT NULL AND denied IS NOT NULL
),
ranked AS (
    SELECT 'all' AS part, NULL AS decile, * FROM positions
    UNION ALL
    SELECT
        'decile',
        1 + (10 * (rank() OVER (PARTITION BY run_id ORDER BY score) - 1)) // count(*) OVER (PARTITION BY run_id),
        *
    FROM positions
    WHERE score IS NOT NULL
),
by_problem AS (
    SELECT
        part,
        run_id,
        problem_id,
        decile,
        count(*) AS n,
        sum(n_samples) AS n_samples,
        min(score) AS score_low,
        max(score) AS score_high,
        sum(taken) AS taken,
        sum(denied) AS denied,
        sum(taken - denied) AS effect,
        count(*) FILTER (taken > 0.5 AND denied <= 0.5) AS necessary,
        count(*) FILTER (denied > 0.5 AND taken <= 0.5) AS harmful
    FROM ranked
    GROUP BY part, run_id, problem_id, decile
)
SELECT
    part,
    run_id,
    runs.program,
    runs.metric,
    decile,
    count(*) AS n_problems,
    sum(n)::BIGINT AS n_positions,
    sum(n_samples)::BIGINT AS n_samples,
    min(score_low) AS score_low,
    max(score_high) AS score_high,
    sum(taken) / sum(n) AS taken,
    sum(denied) / sum(n) AS denied,
    sum(effect) / sum(n) AS effect,
    sum(necessary) / sum(n) AS necessary,
    sum(harmful) / sum(n) AS harmful
FROM by_problem
JOIN runs USING (run_id)
GROUP BY ALL
ORDER BY part, run_id, decile
