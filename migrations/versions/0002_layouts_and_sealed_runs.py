"""Tokens in two layouts, samples and tokens as views that span the file and sealed runs.

The rows of `tokens` stay as they are, as the exact layout; new tokens are compact unless the file is set to "exact".

Revision 0002, after 0001.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from duckdb_sqlalchemy.datatypes import USmallInteger, UTinyInteger

from rrti_sgl.errors import StoreError

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

COMPACT_AS_EXACT = """
SELECT
    * EXCLUDE (score_is, base_topk_codes, reasoning_topk_ranks, reasoning_other_ids, reasoning_topk_codes)
    REPLACE (
        CASE WHEN base_token_id IS NOT NULL THEN COALESCE(base_token_text, token_text) END AS base_token_text,
        CASE WHEN source = 'reasoning' THEN token_id ELSE reasoning_token_id END AS reasoning_token_id,
        CASE WHEN score_is = 'ce' THEN score ELSE ce END AS ce,
        CASE WHEN score_is = 'kl' THEN score ELSE kl END AS kl,
        CASE WHEN score_is = 'reverse_kl' THEN score ELSE reverse_kl END AS reverse_kl,
        CASE WHEN score_is = 'js' THEN score ELSE js END AS js,
        CASE WHEN score_is = 'tv' THEN score ELSE tv END AS tv,
        CASE WHEN score_is = 'entropy_base' THEN score ELSE entropy_base END AS entropy_base,
        CASE WHEN score_is = 'entropy_reasoning' THEN score ELSE entropy_reasoning END AS entropy_reasoning
    ),
    list_transform(
        base_topk_codes, lambda code: CASE WHEN code = 255 THEN '-inf' ELSE (1 - exp(code / 27)) / 4 END::FLOAT
    ) AS base_topk_logprobs,
    list_select(list_concat(base_topk_ids, reasoning_other_ids), reasoning_topk_ranks) AS reasoning_topk_ids,
    list_transform(
        reasoning_topk_codes, lambda code: CASE WHEN code = 255 THEN '-inf' ELSE (1 - exp(code / 27)) / 4 END::FLOAT
    ) AS reasoning_topk_logprobs
FROM compact_tokens
"""
SINGLE = "Single precision; NULL too where `score` is its copy."


def _column(name: str, type_: sa.types.TypeEngine[Any], comment: str, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, type_, nullable=nullable, autoincrement=False, comment=comment)


def _single(name: str, comment: str) -> sa.Column[Any]:
    return _column(name, sa.REAL(), comment, nullable=True)


def upgrade() -> None:
    """Rename what is there and add the other tables; the views that take the old names are made afterwards."""
    method = "How the answer was found, such as boxed; NULL: unknown."
    op.add_column("samples", _column("answer_method", sa.String(), method, nullable=True))
    op.rename_table("samples", "stored_samples")
    op.rename_table("tokens", "exact_tokens")
    as_in_tokens = "As in `tokens`, in single precision."
    codes = "code c for -(exp(c / 27) - 1) / 4 nats, 255 for log 0."
    op.create_table(
        "compact_tokens",
        _column("run_id", sa.String(), "Run that it belongs to."),
        _column("sample_id", sa.String(), "Sample that it belongs to."),
        _column("position", sa.Integer(), "Generated tokens before it: 0 for the first."),
        _column("token_id", sa.Integer(), "The emitted token."),
        _column("token_text", sa.String(), "Text of the emitted token."),
        _column("source", sa.String(), "Model that the emitted token is from: base or reasoning."),
        _column("base_token_id", sa.Integer(), "What the base model drew there; NULL: it was not asked.", nullable=True),
        _column(
            "base_token_text",
            sa.String(),
            "Text of that token on its own, where it differs from `token_text`.",
            nullable=True,
        ),
        _column(
            "reasoning_token_id",
            sa.Integer(),
            "What the reasoning model drew there, where it is not the emitted token; NULL else.",
            nullable=True,
        ),
        _single("base_logprob", as_in_tokens),
        _single("reasoning_logprob", as_in_tokens),
        _column("score", sa.Double(), "What the gate saw, exactly.", nullable=True),
        _column(
            "score_is",
            sa.String(),
            "Metric that the scores of the sample equal bit for bit; its column is NULL.",
            nullable=True,
        ),
        _column("local_mean", sa.Double(), "Mean score of the window before the token, exactly.", nullable=True),
        _column("fired", sa.Boolean(), "Whether the gate asked for a takeover."),
        _single("ce", f"Cross-entropy. {SINGLE}"),
        _single("kl", f"Forward KL. {SINGLE}"),
        _single("reverse_kl", f"Reverse KL. {SINGLE}"),
        _single("js", f"Jensen-Shannon divergence. {SINGLE}"),
        _single("tv", f"Total variation distance. {SINGLE}"),
        _single("entropy_base", f"Entropy of the base distribution. {SINGLE}"),
        _single("entropy_reasoning", f"Entropy of the reasoning distribution. {SINGLE}"),
        _single("base_tail_mass", as_in_tokens),
        _single("reasoning_tail_mass", as_in_tokens),
        _column("planning_tag", sa.String(), "Category of the planning word it belongs to.", nullable=True),
        _column("planted", sa.SmallInteger(), "1 at planted decision points, 0 elsewhere.", nullable=True),
        _column(
            "base_topk_ids",
            sa.ARRAY(sa.Integer()),
            "Base model's k most probable tokens, most probable first.",
            nullable=True,
        ),
        _column("base_topk_codes", sa.ARRAY(UTinyInteger()), f"Their log-probabilities: {codes}", nullable=True),
        _column(
            "reasoning_topk_ranks",
            sa.ARRAY(USmallInteger()),
            "Reasoning model's list as places, from 1, in `base_topk_ids` followed by `reasoning_other_ids`.",
            nullable=True,
        ),
        _column(
            "reasoning_other_ids",
            sa.ARRAY(sa.Integer()),
            "Ids of that list that `base_topk_ids` does not hold.",
            nullable=True,
        ),
        _column(
            "reasoning_topk_codes",
            sa.ARRAY(UTinyInteger()),
            f"Log-probabilities of that list: {codes}",
            nullable=True,
        ),
        comment="Tokens in the compact layout; read them through `tokens`.",
    )
    op.create_table(
        "sealed_runs",
        _column("run_id", sa.String(), "Run that was sealed; its folder beside the store has its name."),
        _column("sealed_at", sa.DateTime(), "When it was sealed or attached (UTC)."),
        _column("n_samples", sa.Integer(), "Samples in the folder."),
        _column("n_tokens", sa.BigInteger(), "Tokens in the folder."),
        sa.PrimaryKeyConstraint("run_id"),
        comment="Runs whose samples and tokens are in Parquet files, one folder each.",
    )
    op.create_table(
        "store_settings",
        _column("name", sa.String(), "Name of the setting."),
        _column("value", sa.String(), "Its value."),
        sa.PrimaryKeyConstraint("name"),
        comment="Settings of the file: `precision` of new tokens, `location` that the views were made for.",
    )


def downgrade() -> None:
    """Put all tokens into the one table again; compact ones stay rounded.

    Raises:
        StoreError: runs are sealed; the older schema has no place for their files.
    """
    sealed = op.get_bind().exec_driver_sql("SELECT run_id FROM sealed_runs ORDER BY run_id").scalars().all()
    if sealed:
        raise StoreError(
            f"Schema 0001 has no place for sealed runs: {', '.join(sealed)}.", f"Run first: rrti db unseal {sealed[0]}"
        )
    op.execute(f"INSERT INTO exact_tokens BY NAME {COMPACT_AS_EXACT}")
    for table in ("compact_tokens", "sealed_runs", "store_settings"):
        op.drop_table(table)
    op.rename_table("stored_samples", "samples")
    op.drop_column("samples", "answer_method")
    op.rename_table("exact_tokens", "tokens")
