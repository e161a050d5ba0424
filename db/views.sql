-- The views of the trace store: samples and tokens wherever they lie, and the joins that nearly every question needs.
-- sealed_samples, sealed_exact_tokens and sealed_compact_tokens are the Parquet files of sealed runs.

-- One row for each generated solution.
CREATE VIEW samples AS
SELECT * FROM stored_samples
UNION ALL BY NAME SELECT * FROM sealed_samples;

-- One row for each generated token, from either layout. Compact rows: numbers beside score and local_mean are within
-- 6e-8 of their value, log-probabilities -x of lists within 0.0187 * (0.25 + x) nats.
CREATE VIEW tokens AS
WITH exact AS (
    SELECT * FROM exact_tokens
    UNION ALL BY NAME SELECT * FROM sealed_exact_tokens
),
compact AS (
    SELECT * FROM compact_tokens
    UNION ALL BY NAME SELECT * FROM sealed_compact_tokens
)
SELECT * FROM exact
UNION ALL BY NAME
SELECT
    * EXCLUDE (score_is, base_topk_codes, reasoning_topk_ranks, reasoning_other_ids, reasoning_topk_codes)
    REPLACE (
        CASE WHEN base_token_id IS NOT NULL THEN COALESCE(base_token_text, token_text) END AS base_token_text,
        /* metrics */
        CASE WHEN source = 'reasoning' THEN token_id ELSE reasoning_token_id END AS reasoning_token_id
    ),
    list_transform(
        base_topk_codes, lambda code: CASE WHEN code = 255 THEN '-inf' ELSE (1 - exp(code / 27)) / 4 END::FLOAT
    ) AS base_topk_logprobs,
    list_select(list_concat(base_topk_ids, reasoning_other_ids), reasoning_topk_ranks) AS reasoning_topk_ids,
    list_transform(
        reasoning_topk_codes, lambda code: CASE WHEN code = 255 THEN '-inf' ELSE (1 - exp(code / 27)) / 4 END::FLOAT
    ) AS reasoning_topk_logprobs
FROM compact;

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

-- What the samples of each run add up to; those of sealed runs were added up when they were sealed, and no file is opened.
-- n_graded: samples with a reference answer. n_problems: those with whole solutions, not continuations of other samples;
-- problems: the MD5 of their ids.
CREATE VIEW run_totals AS
SELECT
    run_id,
    /* totals */
FROM stored_samples
GROUP BY run_id
UNION ALL BY NAME SELECT * EXCLUDE sealed_at FROM sealed_runs;

-- One row for each run, with what its samples add up to. rho: takeovers per token over all tokens of the run.
-- accuracy: share of its graded samples (those with a reference answer) that are correct.
CREATE VIEW run_view AS
SELECT
    runs.*,
    COALESCE(totals.n_samples, 0) AS n_samples,
    COALESCE(totals.n_tokens, 0) AS n_tokens,
    totals.n_takeovers / NULLIF(totals.n_tokens, 0) AS rho,
    totals.n_correct / NULLIF(totals.n_graded, 0) AS accuracy
FROM runs
LEFT JOIN run_totals AS totals USING (run_id);
