"""Tables runs, calibrations, problems, samples and tokens.

Revision 0001, the first.
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.execute("""
        CREATE TABLE runs (
            run_id VARCHAR, program VARCHAR NOT NULL, status VARCHAR NOT NULL, created_at TIMESTAMP NOT NULL,
            config JSON NOT NULL, config_hash VARCHAR NOT NULL, base_model VARCHAR, reasoning_model VARCHAR,
            tokenizer_hash VARCHAR NOT NULL, vocab_size INTEGER NOT NULL, problem_set VARCHAR NOT NULL,
            n_problems INTEGER NOT NULL, samples_per_problem INTEGER NOT NULL, k INTEGER NOT NULL,
            score_kind VARCHAR NOT NULL, metric VARCHAR, gate VARCHAR, gate_params JSON NOT NULL, tau DOUBLE,
            lambda_ DOUBLE, "window" INTEGER, warmup VARCHAR, calibration_id VARCHAR, tagger VARCHAR NOT NULL,
            grader VARCHAR NOT NULL, temperature DOUBLE NOT NULL, top_p DOUBLE NOT NULL,
            max_new_tokens INTEGER NOT NULL, seed BIGINT NOT NULL, package_version VARCHAR NOT NULL,
            base_server JSON NOT NULL, reasoning_server JSON NOT NULL, finished_at TIMESTAMP, error VARCHAR,
            PRIMARY KEY (run_id)
        );
        CREATE TABLE calibrations (
            calibration_id VARCHAR, run_id VARCHAR NOT NULL, created_at TIMESTAMP NOT NULL, base_model VARCHAR NOT NULL,
            reasoning_model VARCHAR NOT NULL, tokenizer_hash VARCHAR NOT NULL, metric VARCHAR NOT NULL,
            score_kind VARCHAR NOT NULL, k INTEGER NOT NULL, spike_ratio DOUBLE NOT NULL, tau DOUBLE NOT NULL,
            lambda_ DOUBLE NOT NULL, mean_score DOUBLE NOT NULL, n_tokens BIGINT NOT NULL, n_samples INTEGER NOT NULL,
            mean_length DOUBLE NOT NULL, PRIMARY KEY (calibration_id)
        );
        CREATE TABLE problems (
            problem_set VARCHAR, problem_id VARCHAR, question VARCHAR NOT NULL, answer VARCHAR, metadata JSON NOT NULL,
            PRIMARY KEY (problem_set, problem_id)
        );
        CREATE TABLE samples (
            run_id VARCHAR, sample_id VARCHAR, problem_id VARCHAR NOT NULL, sample_index INTEGER NOT NULL,
            base_prompt VARCHAR, reasoning_prompt VARCHAR, text VARCHAR NOT NULL, n_tokens INTEGER NOT NULL,
            n_takeovers INTEGER NOT NULL, n_changed INTEGER NOT NULL, finish_reason VARCHAR NOT NULL, answer VARCHAR,
            correct BOOLEAN, started_at TIMESTAMP NOT NULL, wall_ms DOUBLE NOT NULL, base_calls INTEGER NOT NULL,
            reasoning_calls INTEGER NOT NULL, base_ms DOUBLE NOT NULL, reasoning_ms DOUBLE NOT NULL,
            base_prompt_tokens BIGINT NOT NULL, base_cached_tokens BIGINT NOT NULL,
            reasoning_prompt_tokens BIGINT NOT NULL, reasoning_cached_tokens BIGINT NOT NULL,
            tokens_drafted INTEGER NOT NULL, tokens_discarded INTEGER NOT NULL, tokens_scored INTEGER NOT NULL,
            parent_sample_id VARCHAR, parent_position INTEGER, arm VARCHAR, PRIMARY KEY (run_id, sample_id)
        );
        CREATE TABLE tokens (
            run_id VARCHAR NOT NULL, sample_id VARCHAR NOT NULL, position INTEGER NOT NULL, token_id INTEGER NOT NULL,
            token_text VARCHAR NOT NULL, source VARCHAR NOT NULL, base_token_id INTEGER, base_token_text VARCHAR,
            reasoning_token_id INTEGER, base_logprob DOUBLE, reasoning_logprob DOUBLE, score DOUBLE, local_mean DOUBLE,
            fired BOOLEAN NOT NULL, ce DOUBLE, kl DOUBLE, reverse_kl DOUBLE, js DOUBLE, tv DOUBLE, entropy_base DOUBLE,
            entropy_reasoning DOUBLE, base_tail_mass DOUBLE, reasoning_tail_mass DOUBLE, planning_tag VARCHAR,
            planted SMALLINT, base_topk_ids INTEGER[], base_topk_logprobs FLOAT[], reasoning_topk_ids INTEGER[],
            reasoning_topk_logprobs FLOAT[]
        );
    """)


def downgrade() -> None:
    """Drop the tables."""
    for table in ("tokens", "samples", "problems", "calibrations", "runs"):
        op.drop_table(table)
