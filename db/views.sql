-- The views of the trace store: the joins that nearly every question needs.

-- One row for each generated token, with what its run, its sample and its problem say.
-- u: normalised position, position / n_tokens, from 0 to just under 1. changed: a takeover that altered the token.
CREATE VIEW token_view AS
SELECT
    tokens.*,
    tokens.position / samples.n_tokens AS u,
    tokens.fired AND tokens.base_token_id IS NOT NULL AND tokens.base_token_id <> tokens.token_id AS changed,
    samples.problem_id,
    samples.sample_index,
    samples.n_tokens,
    samples.correct,
    runs.program,
    runs.gate,
    runs.metric,
    runs.problem_set,
    runs.base_model,
    runs.reasoning_model
FROM tokens
JOIN samples USING (run_id, sample_id)
JOIN runs USING (run_id);

-- One row for each sample. rho: takeovers per generated token. gold: the problem's reference answer.
CREATE VIEW sample_view AS
SELECT
    samples.*,
    samples.n_takeovers / NULLIF(samples.n_tokens, 0) AS rho,
    runs.program,
    runs.gate,
    runs.metric,
    runs.problem_set,
    runs.base_model,
    runs.reasoning_model,
    problems.question,
    problems.answer AS gold
FROM samples
JOIN runs USING (run_id)
LEFT JOIN problems ON problems.problem_set = runs.problem_set AND problems.problem_id = samples.problem_id;

-- One row for each run, with what its samples add up to. rho: takeovers per token over all tokens of the run.
-- accuracy: share of its graded samples (those with a reference answer) that are correct.
CREATE VIEW run_view AS
SELECT
    runs.*,
    COALESCE(totals.n_samples, 0) AS n_samples,
    COALESCE(totals.n_tokens, 0) AS n_tokens,
    totals.n_takeovers / NULLIF(totals.n_tokens, 0) AS rho,
    totals.accuracy
FROM runs
LEFT JOIN (
    SELECT
        run_id,
        count(*) AS n_samples,
        sum(n_tokens)::BIGINT AS n_tokens,
        sum(n_takeovers)::BIGINT AS n_takeovers,
        avg(correct::INTEGER) AS accuracy
    FROM samples
    GROUP BY run_id
) AS totals USING (run_id);
