"""What was made of a sample from one of its tokens on: its continuations, and theirs."""

from __future__ import annotations

from rrti_sgl.db.sample_index import SampleIndex
from rrti_sgl.programs.explorer.samples import Payload, SampleLists

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
        coalesce(json_extract_string(config, '$.program'), runs.program) AS program, answer, correct, n_tokens AS tokens
    FROM nodes JOIN runs USING (run_id)
    ORDER BY depth, number
    LIMIT $most
"""
# Lists of ids are values of the statement, so that only their rows are read.
_TEXTS = """
    SELECT run_id, sample_id, text, base_prompt, reasoning_prompt FROM samples
    WHERE list_contains($runs, run_id) AND list_contains($samples, sample_id)
"""
_TOKENS = """
    SELECT sample_id, list(token_text ORDER BY position) AS texts FROM tokens
    WHERE list_contains($runs, run_id) AND list_contains($samples, sample_id) GROUP BY sample_id
"""


class Trees:
    """The trees of a store's samples.

    Args:
        index, lists: of the store.
    """

    def __init__(self, index: SampleIndex, lists: SampleLists) -> None:
        self._index, self._lists = index, lists

    def nodes(self, run: str, sample: str) -> list[Payload]:
        """The stored continuations of a sample, parents before children.

        `token` is the text of the token that was given last, which the prompts of a continuation end with.

        Raises:
            MissingError: there is no such sample.
        """
        self._lists.row(run, sample)
        nodes: list[Payload] = self._index.sql(_NODES, {"sample": sample, "most": MOST_NODES}).to_pylist()
        if not nodes:
            return []
        ids = {"runs": [run, *{node["run"] for node in nodes}], "samples": [sample, *(node["sample"] for node in nodes)]}
        told = {row["sample_id"]: row for row in self._index.sql(_TEXTS, ids).to_pylist()}
        tokens = {row["sample_id"]: row["texts"] for row in self._index.sql(_TOKENS, ids).to_pylist()}
        for node in nodes:
            before = "".join(tokens.get(node["parent"], [])[: node["position"]])
            node["token"] = _given(told[node["sample"]], told[node["parent"]], before)
            node["text"] = told[node["sample"]]["text"]
        return nodes

    def export(self, run: str, sample: str) -> Payload:
        """The tree with its root, as one document."""
        return {"root": self._lists.row(run, sample), "nodes": self.nodes(run, sample)}


def _given(own: Payload, parent: Payload, before: str) -> str:
    """The token that a continuation was given last: the rest of its prompt after its parent's up to there."""
    for name in ("base_prompt", "reasoning_prompt"):
        shown, start = own[name], parent[name]
        if shown is not None and start is not None and shown.startswith(start + before):
            return str(shown[len(start) + len(before) :])
    return ""
