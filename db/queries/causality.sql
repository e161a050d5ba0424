-- Were takeovers necessary, or sentences, and does the score tell which?
-- Definitions: over units of stored samples of which both arms of a counterfactual run were continued and graded. unit token:
--   "taken" with the reasoning model's token at a position, "denied" with the base model's, everything else alike; only
--   positions at which the models chose different tokens can be tested, so these are shares of such positions, not of all
--   takeovers. unit sentence: "taken" with all up to its end given, "denied" with all before it, so that it is drawn anew.
--   run_id: the run of the stored samples; the runs that are named are those of the arms, pooled. taken, denied: mean over
--   units of the share of right continuations; effect: taken - denied, -1 to 1. necessary: share of units with taken > 1/2 >=
--   denied; harmful: with denied > 1/2 >= taken. All are shares from 0 to 1 otherwise.
--   answers: how far apart the answers of the two arms are, right or wrong: the probability that two continuations of
--   different arms answer differently, less the mean of that within each arm, which is half the squared distance of the two
--   distributions of answers; 0 to 1, estimated without bias, so that single estimates may lie below 0. No answer is one,
--   too. Of units with two continuations of each arm, or one where nothing is drawn (n_answers).
--   kl: KL(denied || taken) of these distributions in nats, with one continuation more of each answer that either arm has;
--   of units with two continuations of each arm. With n of each it is no estimate of the KL between the arms themselves, and
--   its interval holds its own mean with so many: of equal distributions it is too large (two answers, as likely: 0.09 with 8,
--   0.015 with 64), of distant ones too small (an answer of 0.9 against 0.1: 1.08 and 1.66 in place of 1.76), and without end
--   where an arm has no answer of the other. Compare equal numbers, as of necessary and harmful, which are of shares of n
--   continuations. The interval is of kl as a share of the most that so many continuations can come to, ln((m + 1)(n + k) /
--   (m + k)) of m denied, n taken and k answers.
--   part decile: units by what the gate saw there, of a sentence at its largest, 1 the smallest scores: 1 + floor(10 (rank -
--   1) / n), rank the smallest of equal scores, so that ties share a decile; score_low, score_high: its smallest and largest
--   score, in the unit of the run's metric. Units without a score are in part all and in the parts below only.
--   part position: by place of the last token in the solution, decile 1 its first tenth. part word: by the planning word
--   (tag) that the stored token belongs to, or the first of the sentence; none: of no such word.
-- Paper: answers the criticism that divergent positions are correlated, not causal (not in the paper). Sentences: resampling
--   importance of Bogdan et al. 2025 (Thought Anchors, arXiv 2506.19143), there by kl of 100 continuations; answers and the
--   smoothing of kl are this project's.
-- Parameters: $runs run ids of program counterfactual
WITH spans AS (
    SELECT
        run_id,
        json_extract_string(config, '$.arms.sample') AS sample_id,
        unnest(CAST(json_extract(config, '$.arms.spans') AS INTEGER[][])) AS span
    FROM runs
    WHERE run_id IN (SELECT unnest($runs)) AND json_extract_string(config, '$.arms.unit') = 'sentence'
),
graded AS (
    SELECT samples.*, COALESCE(answer, '') AS answered, runs.temperature = 0 AS greedy
    FROM samples
    JOIN runs USING (run_id)
    WHERE run_id IN (SELECT unnest($runs)) AND arm IS NOT NULL AND correct IS NOT NULL
),
continued AS (
    SELECT 'token' AS unit, parent_position AS first, parent_position AS last, * FROM graded WHERE arm <> 'kept'
    UNION ALL BY NAME
    SELECT
        'sentence' AS unit,
        span[1] AS first,
        span[2] AS last,
        graded.* REPLACE (CASE parent_position WHEN span[2] THEN 'taken' ELSE 'denied' END AS arm)
    FROM spans
    JOIN graded
        ON graded.run_id = spans.run_id
        AND graded.parent_sample_id = spans.sample_id
        AND graded.parent_position IN (span[1] - 1, span[2])
),
answers AS (
    SELECT
        unit,
        parent_sample_id,
        first,
        last,
        answered,
        bool_and(greedy) AS greedy,
        count(*) FILTER (arm = 'taken') AS taken,
        count(*) FILTER (arm = 'denied') AS denied
    FROM continued
    GROUP BY unit, parent_sample_id, first, last, answered
),
apart AS (
    SELECT
        unit,
        parent_sample_id,
        first,
        last,
        bool_and(greedy) AS greedy,
        sum(taken) AS n,
        sum(denied) AS m,
        CASE WHEN n > 1 THEN 1 - (sum(taken * taken) - n) / (n * (n - 1)) WHEN n = 1 AND bool_and(greedy) THEN 0 END AS in_taken,
        CASE WHEN m > 1 THEN 1 - (sum(denied * denied) - m) / (m * (m - 1)) WHEN m = 1 AND bool_and(greedy) THEN 0 END AS in_denied,
        1 - sum(taken * denied) / NULLIF(n * m, 0) - (in_taken + in_denied) / 2 AS answers,
        CASE
            WHEN n > 1 AND m > 1
                THEN sum((denied + 1) * ln((denied + 1) / (taken + 1))) / (m + count(*)) + ln((n + count(*)) / (m + count(*)))
        END AS kl,
        CASE WHEN kl IS NOT NULL THEN ln((m + 1) * (n + count(*)) / (m + count(*))) END AS most_kl
    FROM answers
    GROUP BY unit, parent_sample_id, first, last
),
arms AS (
    SELECT
        unit,
        parent_sample_id,
        first,
        last,
        any_value(problem_id) AS problem_id,
        count(*) AS n_samples,
        avg(correct::INTEGER) FILTER (arm = 'taken') AS taken,
        avg(correct::INTEGER) FILTER (arm = 'denied') AS denied
    FROM continued
    GROUP BY unit, parent_sample_id, first, last
),
units AS (
    SELECT
        parents.run_id,
        arms.*,
        apart.answers,
        apart.kl,
        apart.most_kl,
        max(tokens.score) AS score,
        1 + (10 * last) // parents.n_tokens AS tenth,
        COALESCE(min_by(tokens.planning_tag, tokens.position) FILTER (tokens.planning_tag IS NOT NULL), 'none') AS tag
    FROM arms
    JOIN apart USING (unit, parent_sample_id, first, last)
    JOIN (SELECT run_id, sample_id, n_tokens FROM samples) AS parents ON parents.sample_id = parent_sample_id
    JOIN tokens
        ON tokens.run_id = parents.run_id
        AND tokens.sample_id = parent_sample_id
        AND tokens.position BETWEEN arms.first AND arms.last
    WHERE taken IS NOT NULL AND denied IS NOT NULL
    GROUP BY ALL
),
ranked AS (
    SELECT 'all' AS part, NULL AS decile, NULL AS tag, * EXCLUDE (tag) FROM units
    UNION ALL BY NAME
    SELECT
        'decile' AS part,
        1 + (10 * (rank() OVER (PARTITION BY run_id, unit ORDER BY score) - 1)) // count(*) OVER (PARTITION BY run_id, unit)
            AS decile,
        * EXCLUDE (tag)
    FROM units
    WHERE score IS NOT NULL
    UNION ALL BY NAME SELECT 'position' AS part, tenth AS decile, * EXCLUDE (tag) FROM units
    UNION ALL BY NAME SELECT 'word' AS part, * FROM units
),
by_problem AS (
    SELECT
        part,
        run_id,
        unit,
        problem_id,
        decile,
        tag,
        count(*) AS n,
        count(answers) AS n_answers,
        count(kl) AS n_kl,
        sum(n_samples) AS n_samples,
        min(score) AS score_low,
        max(score) AS score_high,
        sum(taken) AS taken,
        sum(denied) AS denied,
        sum(taken - denied) AS effect,
        sum(answers) AS answers,
        sum(kl) AS kl,
        max(most_kl) AS most_kl,
        count(*) FILTER (taken > 0.5 AND denied <= 0.5) AS necessary,
        count(*) FILTER (denied > 0.5 AND taken <= 0.5) AS harmful
    FROM ranked
    GROUP BY part, run_id, unit, problem_id, decile, tag
)
SELECT
    part,
    run_id,
    runs.program,
    runs.metric,
    unit,
    decile,
    tag,
    count(*) AS n_problems,
    sum(n)::BIGINT AS n_units,
    sum(n_answers)::BIGINT AS n_answers,
    sum(n_samples)::BIGINT AS n_samples,
    min(score_low) AS score_low,
    max(score_high) AS score_high,
    sum(taken) / sum(n) AS taken,
    sum(denied) / sum(n) AS denied,
    sum(effect) / sum(n) AS effect,
    sum(answers) / NULLIF(sum(n_answers), 0) AS answers,
    sum(kl) / NULLIF(sum(n_kl), 0) AS kl,
    sum(necessary) / sum(n) AS necessary,
    sum(harmful) / sum(n) AS harmful
FROM by_problem
JOIN runs USING (run_id)
GROUP BY ALL
ORDER BY part, run_id, unit DESC, decile, tag
