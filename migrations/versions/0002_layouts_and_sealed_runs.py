"""Tokens in two layouts, samples and tokens as views that span the file and sealed runs.

The rows of `tokens` stay as they are, as the exact layout; new tokens are compact unless the file is set to "exact".

Revision 0002, after 0001.
"""

from __future__ import annotations

from alembic import op

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


def upgrade() -> None:
    """Rename what is there and add the other tables; the views that take the old names are made afterwards."""
    op.execute("""
        ALTER TABLE samples ADD COLUMN answer_method VARCHAR;
        ALTER TABLE samples RENAME TO stored_samples;
        ALTER TABLE tokens RENAME TO exact_tokens;
        CREATE TABLE compact_tokens (
            run_id VARCHAR NOT NULL, sample_id VARCHAR NOT NULL, position INTEGER NOT NULL, token_id INTEGER NOT NULL,
            token_text VARCHAR NOT NULL, source VARCHAR NOT NULL, base_token_id INTEGER, base_token_text VARCHAR,
            reasoning_token_id INTEGER, base_logprob FLOAT, reasoning_logprob FLOAT, score DOUBLE, score_is VARCHAR,
            local_mean DOUBLE, fired BOOLEAN NOT NULL, ce FLOAT, kl FLOAT, reverse_kl FLOAT, js FLOAT, tv FLOAT,
            entropy_base FLOAT, entropy_reasoning FLOAT, base_tail_mass FLOAT, reasoning_tail_mass FLOAT,
            planning_tag VARCHAR, planted SMALLINT, base_topk_ids INTEGER[], base_topk_codes UTINYINT[],
            reasoning_topk_ranks USMALLINT[], reasoning_other_ids INTEGER[], reasoning_topk_codes UTINYINT[]
        );
        CREATE TABLE sealed_runs (
            run_id VARCHAR, sealed_at TIMESTAMP NOT NULL, n_samples INTEGER NOT NULL, n_tokens BIGINT NOT NULL,
            PRIMARY KEY (run_id)
        );
        CREATE TABLE store_settings (
            name VARCHAR, value VARCHAR NOT NULL, PRIMARY KEY (name)
        );
    """)


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
