"""What was made of a sample from one of its tokens on: its continuations, and theirs."""

from __future__ import annotations

from rrti_sgl.db.sample_index import SampleIndex
from rrti_sgl.programs.explorer.samples import Payload, SampleLists
from rrti_sgl.programs.explorer.texts import TokenTexts

MOST_NODES = 2000

_NODES = """
    WITH RECURSIVE nodes AS (
        SELECT s.*, 1 AS depth FROM sample_index AS s WHERE s.parent_sample_id = $sample
        UNION
        SELECT s.*, depth + 1 FROM nodes JOIN sample_index AS s ON s.parent_sample_id = nodes.sample_id
        WHERE depth < $most
    )
    SELECT
        run_id AS run, sample_id AS sample, parent_sample_id AS parent, parent_position AS position, arm,
        coalesce(json_extract_string(config, '$.program'), runs.program) AS program, answer, correct, n_tokens AS tokens,
        try_cast(json_extract_string(config, '$.forced') AS INTEGER) AS forced
    FROM nodes JOIN runs USING (run_id)
    ORDER BY depth, number
    LIMIT $most
"""
# Lists of ids are values of the statement, so that only their rows are read.
_TEXTS = """
    SELECT sample_id, text FROM samples WHERE list_contains($runs, run_id) AND list_contains($samples, sample_id)
"""
_CHOICES = """
    SELECT sample_id, position, base_token_id AS denied, coalesce(reasoning_token_id, reasoning_topk_ids[1]) AS taken
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
        self._lists.row(run, sample)
        nodes: list[Payload] = self._index.sql(_NODES, {"sample": sample, "most": MOST_NODES}).to_pylist()
        if not nodes:
            return []
        ids: Payload = {
            "runs": [run, *{row["run"] for row in nodes}],
            "samples": [sample, *(row["sample"] for row in nodes)],
        }
        texts = {row["sample_id"]: row["text"] for row in self._index.sql(_TEXTS, ids).to_pylist()}
        positions = {row["position"] for row in nodes}
        rows = self._index.sql(_CHOICES, ids | {"positions": [*positions]}).to_pylist()
        choices = {(row["sample_id"], row["position"]): row for row in rows}
        for node in nodes:
            forced, choice = node.pop("forced"), choices.get((node["parent"], node["position"]), {})
            token = choice.get(node["arm"]) if forced is None else forced
            node |= {"token": "" if token is None else self._texts.of_run(run)(token), "text": texts[node["sample"]]}
        return nodes

    def export(self, run: str, sample: str) -> Payload:
        """The tree with its root, as one document."""
        return {"root": self._lists.row(run, sample), "nodes": self.nodes(run, sample)}
