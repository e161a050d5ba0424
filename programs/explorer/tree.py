"""What was made of a sample from one of its tokens on: its continuations, and theirs."""

from __future__ import annotations

from collections.abc import Sequence

from rrti_sgl.db.sample_index import SampleIndex
from rrti_sgl.programs.explorer.samples import Payload, SampleLists, keys_of
from rrti_sgl.programs.explorer.texts import TokenTexts

MOST_NODES = 2000

_NODES = """
    WITH RECURSIVE nodes AS (
        SELECT s.*, s.parent_sample_id AS root, 1 AS depth FROM sample_index AS s
        WHERE s.parent_sample_id IN (SELECT unnest($samples))
        UNION
        SELECT s.*, root, depth + 1 FROM nodes JOIN sample_index AS s ON s.parent_sample_id = nodes.sample_id
        WHERE depth < $most
    )
    SELECT
        root, run_id AS run, sample_id AS sample, parent_sample_id AS parent, parent_position AS position, arm,
        coalesce(json_extract_string(config, '$.program'), runs.program) AS program, answer, correct, n_tokens AS tokens,
        try_cast(json_extract_string(config, '$.forced') AS INTEGER) AS forced
    FROM nodes JOIN runs USING (run_id)
    QUALIFY row_number() OVER (PARTITION BY root ORDER BY depth, number) <= $most
    ORDER BY root, depth, number
"""
# Lists of ids are values of the statement, so that only their rows are read.
_TEXTS = """
    SELECT sample_id, text FROM samples WHERE list_contains($runs, run_id) AND list_contains($samples, sample_id)
"""
_CHOICES = """
    SELECT
        sample_id, position, token_id AS kept, base_token_id AS denied,
        coalesce(reasoning_token_id, reasoning_topk_ids[1]) AS taken
    FROM tokens
    WHERE list_contains($runs, run_id) AND list_contains($samples, sample_id) AND list_contains($positions, position)
"""


class Trees:
    """The trees of a store's samples.

    Args:
        index, lists, texts: of the store.
    """

    def __init__(self, index: SampleIndex, lists: SampleLists, texts: TokenTexts) -> None:
        self._index, self._lists, self._texts = index, lists, texts

    def nodes(self, run: str, sample: str) -> list[Payload]:
        """The stored continuations of a sample, parents before children.

        `token` is the text of the token that each was given last.

        Raises:
            MissingError: there is no such sample.
        """
        return self.of([self._lists.row(run, sample)]).get((run, sample), [])

    def of(self, rows: Sequence[Payload]) -> dict[tuple[str, str], list[Payload]]:
        """The nodes of those of some samples that have any, by run and sample."""
        runs = {row["sample"]: row["run"] for row in rows}
        nodes: list[Payload] = self._index.sql(_NODES, {"samples": [*runs], "most": MOST_NODES}).to_pylist()
        if not nodes:
            return {}
        ids = keys_of([*rows, *nodes])
        texts = {row["sample_id"]: row["text"] for row in self._index.sql(_TEXTS, ids).to_pylist()}
        positions = {row["position"] for row in nodes}
        chosen = self._index.sql(_CHOICES, ids | {"positions": [*positions]}).to_pylist()
        choices = {(one["sample_id"], one["position"]): one for one in chosen}
        found: dict[tuple[str, str], list[Payload]] = {}
        for node in nodes:
            root = node.pop("root")
            forced, choice = node.pop("forced"), choices.get((node["parent"], node["position"]), {})
            token = choice.get(node["arm"]) if forced is None else forced
            node |= {"token": "" if token is None else self._texts.of_run(runs[root])(token), "text": texts[node["sample"]]}
            found.setdefault((runs[root], root), []).append(node)
        return found

    def export(self, run: str, sample: str) -> Payload:
        """The tree with its root, as one document."""
        return {"root": self._lists.row(run, sample), "nodes": self.nodes(run, sample)}
