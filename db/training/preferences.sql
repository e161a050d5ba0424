-- Takeovers as preference pairs: one beginning, two tokens, and which of them led to right solutions more often.
-- Of counterfactual runs, pooled by position: chosen is the token whose graded continuations are right more often (share
-- chosen_right of chosen_n), rejected the other. Positions without a difference are in no pair, nor are those at which one
-- of the tokens ends the solution or is no whole text, such as a part of a character. prompt is what the base model was
-- shown, up to the position.
-- Parameters: $runs run ids of program counterfactual
WITH arms AS (
    SELECT
        parent_sample_id,
        parent_position,
        arm,
        any_value(base_prompt) AS shown,
        count(*) AS n,
        avg(correct::INTEGER) AS share_right
    FROM samples
    WHERE run_id IN (SELECT unnest($runs)) AND arm IS NOT NULL AND correct IS NOT NULL
    GROUP BY parent_sample_id, parent_position, arm
),
positions AS (
    SELECT taken.parent_sample_id AS sample_id, taken.parent_position AS position, taken, denied
    FROM arms AS taken
    JOIN arms AS denied USING (parent_sample_id, parent_position)
    WHERE taken.arm = 'taken' AND denied.arm = 'denied' AND taken.share_right <> denied.share_right
),
beginnings AS (
    SELECT
        positions.sample_id,
        positions.position,
        string_agg(tokens.token_text, '' ORDER BY tokens.position) FILTER (tokens.position < positions.position) AS before,
        any_value(COALESCE(reasoning_token_id, reasoning_topk_ids[1])) FILTER (tokens.position = positions.position) AS reasoning_id,
        any_value(base_token_id) FILTER (tokens.position = positions.position) AS base_id,
        any_value(score) FILTER (tokens.position = positions.position) AS score
    FROM positions
    JOIN tokens ON tokens.sample_id = positions.sample_id AND tokens.position <= positions.position
    GROUP BY positions.sample_id, positions.position
),
pairs AS (
    SELECT
        samples.run_id,
        samples.problem_id,
        positions.sample_id,
        positions.position,
        samples.base_prompt || COALESCE(before, '') AS prompt,
        taken.share_right > denied.share_right AS takes,
        CASE WHEN takes THEN taken ELSE denied END AS better,
        CASE WHEN takes THEN denied ELSE taken END AS worse,
        CASE WHEN takes THEN reasoning_id ELSE base_id END AS chosen_id,
        CASE WHEN takes THEN base_id ELSE reasoning_id END AS rejected_id,
        score
    FROM positions
    JOIN beginnings USING (sample_id, position)
    JOIN samples USING (sample_id)
)
SELECT
    prompt,
    substr(better.shown, length(prompt) + 1) AS chosen,
    substr(worse.shown, length(prompt) + 1) AS rejected,
    CASE WHEN takes THEN 'reasoning' ELSE 'base' END AS chosen_from,
    better.share_right AS chosen_right,
    worse.share_right AS rejected_right,
    better.n AS chosen_n,
    worse.n AS rejected_n,
    chosen_id,
    rejected_id,
    score,
    run_id,
    problem_id,
    sample_id,
    position
FROM pairs
WHERE starts_with(better.shown, prompt) AND starts_with(worse.shown, prompt) AND chosen <> '' AND rejected <> '' AND chosen <> rejected
ORDER BY run_id, problem_id, sample_id, position
