-- Were takeovers necessary, and does the score tell which?
-- Definitions: over positions of stored samples at which both arms of a counterfactual run were continued and graded:
--   "taken" with the reasoning model's token there, "denied" with the base model's, everything else alike. run_id: the run
--   of the stored samples; the runs that are named are those of the arms, pooled. taken, denied: mean over positions of
--   the share of right continuations; effect: taken - denied, -1 to 1. necessary: share of positions with taken > 1/2 >=
--   denied; harmful: with denied > 1/2 >= taken. All are shares from 0 to 1 otherwise. Only positions at which the models
--   chose different tokens can be tested, so these are shares of such positions, not of all takeovers.
--   answers: how far apart the answers of the two arms are, right or wrong: the probability that two continuations of
--   different arms answer differently, less the mean of that within each arm, which is half the squared distance of the two
--   distributions of answers; 0 to 1, estimated without bias, so that single estimates may lie below 0. No answer is one,
--   too. Of positions with two continuations of each arm, or one where nothing is drawn (n_answers).
--   part decile: positions by what the gate saw there, 1 the smallest scores: 1 + floor(10 (rank - 1) / n), rank the
--   smallest of equal scores, so that ties share a decile; score_low, score_high: its smallest and largest score, in the
--   unit of the run's metric. Positions without a score are in part all and in the parts below only.
--   part position: by place in the solution, decile 1 its first tenth. part word: by the planning word (tag) that the stored
--   token belongs to; none: of no such word.
-- Paper: answers the criticism that divergent positions are correlated, not causal (not in the paper).
-- Parameters: $runs run ids of program counterfactual
WITH continued AS (
    SELECT
        parent_sample_id,
        parent_position,
        problem_id,
        arm,
        correct,
        COALESCE(answer, '') AS answer,
        runs.temperature = 0 AS greedy
    FROM samples
    JOIN runs USING (run_id)
    WHERE run_id IN (SELECT unnest($runs)) AND arm IS NOT NULL AND correct IS NOT NULL
),
answers AS (
    SELECT
        parent_sample_id,
        parent_position,
        answer,
        bool_and(greedy) AS greedy,
        count(*) FILTER (arm = 'taken') AS taken,
        count(*) FILTER (arm = 'denied') AS denied
    FROM continued
    GROUP BY parent_sample_id, parent_position, answer
),
apart AS (
    SELECT
        parent_sample_id,
        parent_position,
        bool_and(greedy) AS greedy,
        sum(taken) AS n,
        sum(denied) AS m,
        CASE WHEN n > 1 THEN 1 - (sum(taken * taken) - n) / (n * (n - 1)) WHEN n = 1 AND bool_and(greedy) THEN 0 END AS in_taken,
        CASE WHEN m > 1 THEN 1 - (sum(denied * denied) - m) / (m * (m - 1)) WHEN m = 1 AND bool_and(greedy) THEN 0 END AS in_denied,
        1 - sum(taken * denied) / NULLIF(n * m, 0) - (in_taken + in_denied) / 2 AS answers
    FROM answers
    GROUP BY parent_sample_id, parent_position
),
arms AS (
    SELECT
        parent_sample_id,
        parent_position,
        any_value(problem_id) AS problem_id,
        count(*) AS n_samples,
        avg(correct::INTEGER) FILTER (arm = 'taken') AS taken,
        avg(correct::INTEGER) FILTER (arm = 'denied') AS denied
    FROM continued
    GROUP BY parent_sample_id, parent_position
),
positions AS (
    SELECT
        parents.run_id,
        arms.*,
        apart.answers,
        tokens.score,
        1 + (10 * parent_position) // parents.n_tokens AS tenth,
        COALESCE(tokens.planning_tag, 'none') AS tag
    FROM arms
    JOIN apart USING (parent_sample_id, parent_position)
    JOIN (SELECT run_id, sample_id, n_tokens FROM samples) AS parents ON parents.sample_id = parent_sample_id
    JOIN tokens
        ON tokens.run_id = parents.run_id AND tokens.sample_id = parent_sample_id AND tokens.position = parent_position
    WHERE taken IS NOT NULL AND denied IS NOT NULL
),
ranked AS (
    SELECT 'all' AS part, NULL AS decile, NULL AS tag, * EXCLUDE (tag) FROM positions
    UNION ALL BY NAME
    SELECT
        'decile' AS part,
        1 + (10 * (rank() OVER (PARTITION BY run_id ORDER BY score) - 1)) // count(*) OVER (PARTITION BY run_id) AS decile,
        * EXCLUDE (tag)
    FROM positions
    WHERE score IS NOT NULL
    UNION ALL BY NAME SELECT 'position' AS part, tenth AS decile, * EXCLUDE (tag) FROM positions
    UNION ALL BY NAME SELECT 'word' AS part, * FROM positions
),
by_problem AS (
    SELECT
        part,
        run_id,
        problem_id,
        decile,
        tag,
        count(*) AS n,
        count(answers) AS n_answers,
        sum(n_samples) AS n_samples,
        min(score) AS score_low,
        max(score) AS score_high,
        sum(taken) AS taken,
        sum(denied) AS denied,
        sum(taken - denied) AS effect,
        sum(answers) AS answers,
        count(*) FILTER (taken > 0.5 AND denied <= 0.5) AS necessary,
        count(*) FILTER (denied > 0.5 AND taken <= 0.5) AS harmful
    FROM ranked
    GROUP BY part, run_id, problem_id, decile, tag
)
SELECT
    part,
    run_id,
    runs.program,
    runs.metric,
    decile,
    tag,
    count(*) AS n_problems,
    sum(n)::BIGINT AS n_positions,
    sum(n_answers)::BIGINT AS n_answers,
    sum(n_samples)::BIGINT AS n_samples,
    min(score_low) AS score_low,
    max(score_high) AS score_high,
    sum(taken) / sum(n) AS taken,
    sum(denied) / sum(n) AS denied,
    sum(effect) / sum(n) AS effect,
    sum(answers) / NULLIF(sum(n_answers), 0) AS answers,
    sum(necessary) / sum(n) AS necessary,
    sum(harmful) / sum(n) AS harmful
FROM by_problem
JOIN runs USING (run_id)
GROUP BY ALL
ORDER BY part, run_id, decile, tag
