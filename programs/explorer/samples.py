"""Lists of samples: filtered, sorted and cut into pages."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrti_sgl.db.sample_index import SampleIndex
from rrti_sgl.programs.explorer.asked import WORD, FiltersAsked, MissingError, SamplesAsked

Payload = dict[str, Any]
_REMEMBERED = 32  # lists of samples, a number each
_COLUMNS = """
    run_id AS run, sample_id AS sample, sample_index AS "index", program, problem_id AS problem, question, answer, gold,
    correct, n_tokens AS tokens, n_takeovers AS takeovers, n_changed AS changed, finish_reason AS finish,
    max_score AS "maxScore", parent_sample_id AS parent, parent_position AS "parentPosition"
"""
# Field of a query -> what must hold of a sample.
_OF_SAMPLES = {
    "run": "run_id IN (SELECT unnest($run))",
    "program": "program IN (SELECT unnest($program))",
    "outcome": "if(correct IS NULL, 'ungraded', if(correct, 'right', 'wrong')) = $outcome",
    "takeovers_min": "n_takeovers >= $takeovers_min",
    "takeovers_max": "n_takeovers <= $takeovers_max",
    "flipped": """EXISTS (
        FROM sample_index AS other
        WHERE other.run_id = $flipped AND other.problem_set = s.problem_set AND other.problem_id = s.problem_id
          AND other.sample_index = s.sample_index AND other.correct <> s.correct
          AND ($flip = 'any' OR s.correct = ($flip = 'gained')))""",
    "text": """(run_id, sample_id) IN (
        SELECT (run_id, sample_id) FROM samples WHERE contains(lower(samples.text), lower($text))
        UNION ALL
        SELECT (run_id, sample_id) FROM sample_view WHERE contains(lower(question), lower($text)))""",
}
# Field of a query -> what must hold of one token.
_OF_TOKENS = {
    "word": WORD,
    "from_": "position >= $from_",
    "to": "position <= $to",
    "score_min": "score >= $score_min",
    "score_max": "score <= $score_max",
}
_SORTS = {
    "problem": "problem_id {order}, number",
    "tokens": "n_tokens {order}, number",
    "takeovers": "n_takeovers {order}, number",
    "changed": "n_changed {order}, n_takeovers {order}, number",
    "maxScore": "max_score {order} NULLS LAST, number",
    "outcome": "correct {order} NULLS LAST, number",
    "run": "run_order {order}, number",
}
_LARGE_FIRST = ("tokens", "takeovers", "changed", "maxScore")


class SampleLists:
    """Lists of samples of an index; each is found once and then cut into pages.

    Args:
        index: of the store.
    """

    def __init__(self, index: SampleIndex) -> None:
        self._index = index
        self._found: OrderedDict[tuple[int, str, str], NDArray[np.int32]] = OrderedDict()
        self._dropping = threading.Lock()

    def page(self, asked: SamplesAsked) -> Payload:
        """A part of a list, and how long the list is."""
        numbers = self.numbers(asked)
        rows = self.rows(numbers[asked.offset : asked.offset + asked.limit].tolist())
        return {"total": len(numbers), "offset": asked.offset, "rows": rows}

    def row(self, run: str, sample: str) -> Payload:
        """The row of one sample.

        Raises:
            MissingError: there is none.
        """
        query = f"SELECT {_COLUMNS} FROM sample_index WHERE run_id = $run AND sample_id = $sample"
        rows: list[Payload] = self._index.sql(query, {"run": run, "sample": sample}).to_pylist()
        if not rows:
            message = f"There is no sample {sample[:50]!r} of a run {run[:50]!r} in this store."
            raise MissingError(message, "Go to the list of samples: /.")
        return rows[0]

    def partners(self, run: str, sample: str) -> list[Payload]:
        """Other samples of the same problem: those of other runs with the same index first, then other draws."""
        self.row(run, sample)
        query = f"""
            WITH own AS (FROM sample_index WHERE run_id = $run AND sample_id = $sample)
            SELECT {_COLUMNS} FROM sample_index AS s
            WHERE (problem_set, problem_id) = (SELECT (problem_set, problem_id) FROM own)
              AND (run_id, sample_id) <> ($run, $sample)
            ORDER BY parent_sample_id IS NOT NULL, sample_index <> (SELECT sample_index FROM own), number
            LIMIT 1000
        """
        rows: list[Payload] = self._index.sql(query, {"run": run, "sample": sample}).to_pylist()
        return rows

    def rows(self, numbers: Sequence[int]) -> list[Payload]:
        """The rows of samples by their numbers, in the same order."""
        query = f"""
            SELECT {_COLUMNS}
            FROM (SELECT unnest($numbers) AS number, generate_subscripts($numbers, 1) AS place)
            JOIN sample_index USING (number) ORDER BY place
        """
        rows: list[Payload] = self._index.sql(query, {"numbers": list(numbers)}).to_pylist() if len(numbers) else []
        return rows

    def numbers(self, asked: FiltersAsked) -> NDArray[np.int32]:
        """The numbers of the samples of a list, in its order."""
        query, values = statement(asked)
        key = (self._index.version, query, repr(values))
        found = self._found.get(key)  # another thread may drop it meanwhile
        if found is None:
            self._found[key] = found = self._index.sql(query, values).column(0).to_numpy()
            with self._dropping:
                while len(self._found) > _REMEMBERED:
                    self._found.popitem(last=False)
        return found


def keys_of(rows: Iterable[Payload]) -> Payload:
    """Which samples some rows are of, as the values `$runs` and `$samples` of a statement."""
    pairs = [(row["run"], row["sample"]) for row in rows]
    return {"runs": list({run for run, _ in pairs}), "samples": [sample for _, sample in pairs]}


def statement(asked: FiltersAsked) -> tuple[str, Payload]:
    """The statement for the numbers of the samples of a list, in order, and its values."""
    given = {name: value for name, value in asked if value not in (None, ())}
    used = [name for name in _OF_SAMPLES if name in given]
    conditions = [_OF_SAMPLES[name] for name in used]
    values = {name: list(given[name]) if isinstance(given[name], tuple) else given[name] for name in used}
    if "flipped" in used:
        values["flip"] = asked.flip
    of_tokens = [name for name in _OF_TOKENS if name in given]
    if asked.tagged is not None and not (asked.tagged and of_tokens):
        conditions.append("n_tagged > 0" if asked.tagged else "n_tagged = 0")
    if of_tokens:
        on_token = [_OF_TOKENS[name] for name in of_tokens]
        values |= {name: given[name] for name in of_tokens}
        if asked.tagged:
            on_token.append("planning_tag IS NOT NULL")
        elif set(of_tokens) <= {"from_", "to"}:
            on_token.append("source = 'reasoning'")
        conditions.append(f"(run_id, sample_id) IN (SELECT (run_id, sample_id) FROM tokens WHERE {' AND '.join(on_token)})")
    order = asked.order or ("down" if asked.sort in _LARGE_FIRST else "up")
    descending = (order == "down") != (asked.sort == "outcome")  # up: right ones first
    sort = _SORTS[asked.sort].format(order="DESC" if descending else "ASC")
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    return f"SELECT number FROM sample_index AS s {where} ORDER BY {sort}", values
