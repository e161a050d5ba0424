"""Tables runs, calibrations, problems, samples and tokens.

Revision 0001, the first.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _column(name: str, type_: sa.types.TypeEngine[Any], comment: str, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, type_, nullable=nullable, autoincrement=False, comment=comment)


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "runs",
        _column("run_id", sa.String(), "Identifier of the run."),
        _column("program", sa.String(), "Program that ran: base, reasoning, diagnose, guided, random, early, ..."),
        _column("status", sa.String(), "running, finished, failed or interrupted."),
        _column("created_at", sa.DateTime(), "Start of the run (UTC)."),
        _column("config", sa.JSON(), "Every option of the run, defaults included."),
        _column("config_hash", sa.String(), "Hash of `config`: equal configurations have equal hashes."),
        _column("base_model", sa.String(), "Model id of the base model.", nullable=True),
        _column(
            "reasoning_model",
            sa.String(),
            "Model id of the reasoning model.",
            nullable=True,
        ),
        _column("tokenizer_hash", sa.String(), "Hash of the vocabulary that both models share."),
        _column("vocab_size", sa.Integer(), "Size of that vocabulary, in tokens."),
        _column("problem_set", sa.String(), "Problem set, with `problems.problem_id` the key of a problem."),
        _column("n_problems", sa.Integer(), "Problems that the run was asked to work on."),
        _column("samples_per_problem", sa.Integer(), "Samples drawn for each problem."),
        _column("k", sa.Integer(), "Length of the top-k distributions that were asked for, in tokens."),
        _column(
            "score_kind",
            sa.String(),
            "full: exact; topk: truncated at k, lower bounds; plugin: the same with exact numbers beside.",
        ),
        _column(
            "metric",
            sa.String(),
            "What `tokens.score` is: ce, kl, js, entropy_base, ...; NULL without a score.",
            nullable=True,
        ),
        _column("gate", sa.String(), "Name of the gate that decides on takeovers (never: no takeover).", nullable=True),
        _column("gate_params", sa.JSON(), "All parameters of the gate."),
        _column(
            "tau", sa.Double(), "Threshold of the score, in the unit of the metric (nats for ce and kl).", nullable=True
        ),
        _column("lambda_", sa.Double(), "Factor over the local mean; NULL: that condition is off.", nullable=True),
        _column(
            "window",
            sa.Integer(),
            "Length of the local mean: scores of up to that many preceding tokens.",
            nullable=True,
        ),
        _column("warmup", sa.String(), "Rule for positions before a full window.", nullable=True),
        _column("calibration_id", sa.String(), "Calibration that tau and lambda_ come from.", nullable=True),
        _column("tagger", sa.String(), "Name and version of the planning tagger."),
        _column("grader", sa.String(), "Name and version of the grader."),
        _column("temperature", sa.Double(), "Sampling temperature; 0 is greedy. Scores are always at temperature 1."),
        _column("top_p", sa.Double(), "Nucleus of sampling, as a probability."),
        _column("max_new_tokens", sa.Integer(), "Limit of a sample, in generated tokens."),
        _column("seed", sa.BigInteger(), "Seed of all draws of the run."),
        _column("package_version", sa.String(), "Version of rrti-sgl that wrote the run."),
        _column("base_server", sa.JSON(), "What the base server said of itself: version, dtype, device and so on."),
        _column("reasoning_server", sa.JSON(), "What the reasoning server said of itself."),
        _column("finished_at", sa.DateTime(), "End of the run (UTC); NULL while it runs.", nullable=True),
        _column("error", sa.String(), "Why a run failed.", nullable=True),
        sa.PrimaryKeyConstraint("run_id"),
        comment="One run of one program over one problem set.",
    )
    op.create_table(
        "calibrations",
        _column("calibration_id", sa.String(), "Identifier of the calibration."),
        _column("run_id", sa.String(), "Run whose scores it was taken from."),
        _column("created_at", sa.DateTime(), "When it was computed (UTC)."),
        _column("base_model", sa.String(), "Base model it is valid for."),
        _column("reasoning_model", sa.String(), "Reasoning model it is valid for."),
        _column("tokenizer_hash", sa.String(), "Vocabulary it is valid for."),
        _column("metric", sa.String(), "Score it is valid for."),
        _column("score_kind", sa.String(), "full, topk or plugin; scores of one kind are on another scale than another."),
        _column("k", sa.Integer(), "Length of the top-k distributions it is valid for, in tokens."),
        _column("spike_ratio", sa.Double(), "Share r of tokens above tau."),
        _column("tau", sa.Double(), "(1 - r)-quantile of the scores, in the unit of the metric."),
        _column("lambda_", sa.Double(), "Mean of the scores above tau over the mean of all scores."),
        _column("mean_score", sa.Double(), "Mean of all scores, in the unit of the metric."),
        _column("n_tokens", sa.BigInteger(), "Scores used."),
        _column("n_samples", sa.Integer(), "Samples used."),
        _column("mean_length", sa.Double(), "Mean length of those samples, in tokens."),
        sa.PrimaryKeyConstraint("calibration_id"),
        comment="Thresholds taken from the scores of base rollouts.",
    )
    op.create_table(
        "problems",
        _column("problem_set", sa.String(), "Name of the problem set."),
        _column("problem_id", sa.String(), "Identifier within the problem set."),
        _column("question", sa.String(), "Text of the problem."),
        _column("answer", sa.String(), "Reference answer; NULL when there is none.", nullable=True),
        _column("metadata", sa.JSON(), "What the problem set knows beyond question and answer."),
        sa.PrimaryKeyConstraint("problem_set", "problem_id"),
        comment="The problems that runs worked on, stored once.",
    )
    op.create_table(
        "samples",
        _column("run_id", sa.String(), "Run that it belongs to."),
        _column("sample_id", sa.String(), "12 hex digits that follow from run, problem and index."),
        _column("problem_id", sa.String(), "Problem it solves, in the run's problem set."),
        _column("sample_index", sa.Integer(), "Which of the problem's samples it is, from 0."),
        _column("base_prompt", sa.String(), "Prompt of the base model.", nullable=True),
        _column("reasoning_prompt", sa.String(), "Prompt of the reasoning model.", nullable=True),
        _column("text", sa.String(), "Generated text without the end token."),
        _column("n_tokens", sa.Integer(), "Generated tokens, the end token included."),
        _column("n_takeovers", sa.Integer(), "Tokens that the reasoning model took over."),
        _column("n_changed", sa.Integer(), "Takeovers whose token differs from the one the base model drew there."),
        _column("finish_reason", sa.String(), "stop (end token) or length (limit)."),
        _column("answer", sa.String(), "Answer read from the text; NULL when none was found.", nullable=True),
        _column(
            "correct",
            sa.Boolean(),
            "Whether the answer is right; NULL when the problem has no reference answer.",
            nullable=True,
        ),
        _column("started_at", sa.DateTime(), "Start of the sample (UTC)."),
        _column("wall_ms", sa.Double(), "From start to end, waiting included, in milliseconds."),
        _column("base_calls", sa.Integer(), "Requests to the base server."),
        _column("reasoning_calls", sa.Integer(), "Requests to the reasoning server."),
        _column("base_ms", sa.Double(), "Time spent in requests to the base server, in milliseconds."),
        _column("reasoning_ms", sa.Double(), "Time spent in requests to the reasoning server, in milliseconds."),
        _column("base_prompt_tokens", sa.BigInteger(), "Prompt tokens of all requests to the base server."),
        _column("base_cached_tokens", sa.BigInteger(), "Of those, served from its radix cache."),
        _column("reasoning_prompt_tokens", sa.BigInteger(), "Prompt tokens of all requests to the reasoning server."),
        _column("reasoning_cached_tokens", sa.BigInteger(), "Of those, served from its radix cache."),
        _column("tokens_drafted", sa.Integer(), "Tokens that the base model drafted."),
        _column("tokens_discarded", sa.Integer(), "Drafted tokens that were thrown away."),
        _column("tokens_scored", sa.Integer(), "Positions that the reasoning model scored."),
        _column(
            "parent_sample_id",
            sa.String(),
            "Sample whose beginning it continues (program counterfactual).",
            nullable=True,
        ),
        _column("parent_position", sa.Integer(), "Position in that sample of the last given token.", nullable=True),
        _column("arm", sa.String(), "taken: that token is the reasoning model's; denied: the base model's.", nullable=True),
        sa.PrimaryKeyConstraint("run_id", "sample_id"),
        comment="One generated solution, written whole with its tokens.",
    )
    op.create_table(
        "tokens",
        _column("run_id", sa.String(), "Run that it belongs to."),
        _column("sample_id", sa.String(), "Sample that it belongs to."),
        _column("position", sa.Integer(), "Generated tokens before it: 0 for the first."),
        _column("token_id", sa.Integer(), "The emitted token."),
        _column("token_text", sa.String(), "Text of the emitted token."),
        _column("source", sa.String(), "Model that the emitted token is from: base or reasoning."),
        _column("base_token_id", sa.Integer(), "What the base model drew there; NULL: it was not asked.", nullable=True),
        _column("base_token_text", sa.String(), "Text of that token on its own; NULL: it was not asked.", nullable=True),
        _column(
            "reasoning_token_id",
            sa.Integer(),
            "What the reasoning model drew there; NULL: it was not asked.",
            nullable=True,
        ),
        _column(
            "base_logprob",
            sa.Double(),
            "Log-probability of the emitted token under the base model, in nats.",
            nullable=True,
        ),
        _column(
            "reasoning_logprob",
            sa.Double(),
            "Log-probability of the emitted token under the reasoning model, in nats.",
            nullable=True,
        ),
        _column("score", sa.Double(), "What the gate saw: the run's metric, in its unit.", nullable=True),
        _column(
            "local_mean",
            sa.Double(),
            "Mean score of the window before the token, in the unit of the metric.",
            nullable=True,
        ),
        _column("fired", sa.Boolean(), "Whether the gate asked for a takeover."),
        _column("ce", sa.Double(), "Cross-entropy of base against reasoning, -sum p_b log p_r, in nats.", nullable=True),
        _column("kl", sa.Double(), "Forward KL(p_r || p_b), in nats.", nullable=True),
        _column("reverse_kl", sa.Double(), "KL(p_b || p_r) = ce - entropy_base, in nats.", nullable=True),
        _column("js", sa.Double(), "Jensen-Shannon divergence, in nats (at most ln 2).", nullable=True),
        _column("tv", sa.Double(), "Total variation distance, from 0 to 1.", nullable=True),
        _column("entropy_base", sa.Double(), "Entropy of the base distribution, in nats.", nullable=True),
        _column("entropy_reasoning", sa.Double(), "Entropy of the reasoning distribution, in nats.", nullable=True),
        _column("base_tail_mass", sa.Double(), "Base probability outside its stored top k.", nullable=True),
        _column("reasoning_tail_mass", sa.Double(), "Reasoning probability outside its stored top k.", nullable=True),
        _column(
            "planning_tag",
            sa.String(),
            "Category of the planning word it belongs to; NULL: not a planning word.",
            nullable=True,
        ),
        _column(
            "planted",
            sa.SmallInteger(),
            "1 at planted decision points, 0 elsewhere; NULL where a world plants none.",
            nullable=True,
        ),
        _column(
            "base_topk_ids",
            sa.ARRAY(sa.Integer()),
            "Base model's k most probable tokens, most probable first.",
            nullable=True,
        ),
        _column("base_topk_logprobs", sa.ARRAY(sa.REAL()), "Their log-probabilities, in nats.", nullable=True),
        _column(
            "reasoning_topk_ids",
            sa.ARRAY(sa.Integer()),
            "Reasoning model's k most probable tokens, most probable first.",
            nullable=True,
        ),
        _column("reasoning_topk_logprobs", sa.ARRAY(sa.REAL()), "Their log-probabilities, in nats.", nullable=True),
        comment="One row for each generated token. Distributions are at temperature 1; NULL means not computed.",
    )


def downgrade() -> None:
    """Drop the tables."""
    for table in ("tokens", "samples", "problems", "calibrations", "runs"):
        op.drop_table(table)
