"""The tokens behind a point of a statistic."""

from __future__ import annotations

from rrti_sgl.db.sample_index import SampleIndex
from rrti_sgl.db.tables import SCORES
from rrti_sgl.errors import UsageError
from rrti_sgl.programs.explorer.asked import WORD, MissingError, TokensAsked
from rrti_sgl.programs.explorer.samples import Payload

AROUND = 12  # tokens that are shown before and after each

_U = "(position + 0.5::DOUBLE) / n_tokens"
_WHERE = {
    "word": WORD,
    "score_min": "score >= $score_min",
    "score_max": "score <= $score_max",
    "fired": "fired = $fired",
    "changed": "(fired AND base_token_id IS NOT NULL AND base_token_id <> token_id) = $changed",
}
_PLACES = {
    False: {"position_from": "position >= $position_from", "position_to": "position <= $position_to"},
    True: {"position_from": f"{_U} >= $position_from", "position_to": f"{_U} < $position_to"},
}
_TESTED = """(sample_id, position) IN (
    SELECT (parent_sample_id, parent_position) FROM sample_index
    WHERE arm IN ('taken', 'denied') AND correct IS NOT NULL
    GROUP BY parent_sample_id, parent_position HAVING count(DISTINCT arm) = 2
)"""


def tokens_behind(index: SampleIndex, asked: TokensAsked) -> list[Payload]:
    """Tokens of a run with some text around each, in the order of its samples.

    Raises:
        MissingError: there is no such run.
        UsageError: no such metric.
    """
    if asked.metric not in SCORES:
        raise UsageError(f"metric = {asked.metric[:50]!r} is unknown.", f"Use one of {', '.join(SCORES)}.")
    if not index.sql("FROM sample_index WHERE run_id = $run LIMIT 1", {"run": asked.run}).num_rows:
        raise MissingError(f"There is no run {asked.run[:50]!r} with samples in this store.", "Go to the list of runs: /.")
    rows: list[Payload] = index.sql(*statement(asked)).to_pylist()
    return rows


def statement(asked: TokensAsked) -> tuple[str, Payload]:
    """The statement for the tokens, and its values."""
    conditions = _WHERE | _PLACES[asked.relative]
    given = {name: value for name, value in asked if name in conditions and value is not None}
    where = [conditions[name] for name in given] + ([_TESTED] if asked.tested else [])
    query = f"""
        WITH chosen AS (
            SELECT sample_id, position, token_text, score, fired, correct, number
            FROM (SELECT * REPLACE ({asked.metric} AS score) FROM tokens WHERE run_id = $run)
            JOIN (SELECT sample_id, n_tokens, correct, number FROM sample_index WHERE run_id = $run) USING (sample_id)
            {"WHERE " + " AND ".join(where) if where else ""}
            ORDER BY number, position LIMIT $limit OFFSET $offset
        ),
        around AS (
            SELECT c.sample_id, c.position,
                string_agg(t.token_text, '' ORDER BY t.position) FILTER (t.position < c.position) AS before,
                string_agg(t.token_text, '' ORDER BY t.position) FILTER (t.position > c.position) AS after
            FROM chosen AS c
            JOIN (SELECT sample_id, position, token_text FROM tokens
                  WHERE run_id = $run AND sample_id IN (SELECT sample_id FROM chosen)) AS t
                ON t.sample_id = c.sample_id AND t.position BETWEEN c.position - {AROUND} AND c.position + {AROUND}
            GROUP BY ALL
        )
        SELECT $run AS run, sample_id AS sample, position, token_text AS token, coalesce(before, '') AS before,
            coalesce(after, '') AS after, score, fired, correct
        FROM chosen JOIN around USING (sample_id, position)
        ORDER BY number, position
    """
    values: Payload = {**given, "run": asked.run, "limit": asked.limit, "offset": asked.offset}
    return query, values
