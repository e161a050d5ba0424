"""Texts of token ids: lists of candidates are stored as ids, and a store has no vocabulary."""

from __future__ import annotations

import threading
from collections.abc import Callable

from rrti_sgl.db.store import Store
from rrti_sgl.tokens.vocabulary import Vocabulary


class TokenTexts:
    """What ids mean: by a vocabulary where one is at hand, else as the store's tokens of the same vocabulary read.

    An id that was never emitted or drawn reads `#ID`.

    Args:
        store: open.
        vocabulary: of the runs whose hash it has; None: none is at hand.
    """

    def __init__(self, store: Store, vocabulary: Vocabulary | None = None) -> None:
        self._store, self._vocabulary = store, vocabulary
        self._digest = None if vocabulary is None else vocabulary.digest
        self._known: dict[str, dict[int, str]] = {}
        self._lock = threading.Lock()
        rows = store.sql("SELECT run_id, tokenizer_hash FROM runs").to_pylist()
        self._hashes: dict[str, str] = {row["run_id"]: row["tokenizer_hash"] for row in rows}

    def of_run(self, run: str) -> Callable[[int], str]:
        """The text of an id, in a run's vocabulary."""
        digest = self._hashes.get(run, "")
        if self._vocabulary is not None and digest in (self._digest, ""):
            return self._vocabulary.token_text
        with self._lock:
            if digest not in self._known:
                self._known[digest] = self._read(digest)
        known = self._known[digest]
        return lambda token_id: known.get(token_id, f"#{token_id}")

    def _read(self, digest: str) -> dict[int, str]:
        # Of a token's texts, with and without the space before it, the one with it sorts first.
        query = """
            WITH seen AS (
                SELECT run_id, token_id AS id, token_text AS text FROM tokens
                UNION ALL SELECT run_id, base_token_id, base_token_text FROM tokens
            )
            SELECT id, min(text) AS text FROM seen
            WHERE run_id IN (SELECT run_id FROM runs WHERE tokenizer_hash = $digest) AND text <> ''
            GROUP BY id
        """
        found = self._store.sql(query, {"digest": digest})
        return dict(zip(found["id"].to_pylist(), found["text"].to_pylist(), strict=True))
