"""The question and the answer of the plugin as they travel, and what the client makes of bad ones."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from rrti_sgl.engines.wire import GenerateRequest, Generation, parse, payload
from rrti_sgl.server_plugin.protocol import KEY, Answer, NoAnswerError, Question, read_answer
from tests.wire.test_wire import VOCAB_SIZE, answer, flat

IDS = np.asarray([[4, 1, 7], [2, 3, 0]], dtype=np.int32)


@pytest.mark.parametrize("ids", [IDS, IDS[:, :1], np.empty((0, 0), np.int32)])
def test_a_question_travels_as_scalars(ids: np.ndarray) -> None:
    sent = Question(9, ids).to_json()
    assert {type(value) for value in sent.values()} <= {int, str}
    found = Question.from_json(sent)
    assert found.first == 9
    np.testing.assert_array_equal(found.ids, ids)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"first": 0, "m": 0, "ids": ""},
        {"first": True, "m": 0, "ids": ""},
        {"first": 1, "m": -1, "ids": ""},
        {"first": 10**23, "m": 0, "ids": ""},
        {"first": 1, "m": 2, "ids": "AAAA"},
        {"first": 1, "m": 1, "ids": "no base64!"},
        {"first": 1, "m": 1, "ids": 5},
    ],
)
def test_a_bad_question_raises_what_the_server_expects(value: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Question.from_json(value)


def test_an_answer_travels() -> None:
    values = np.asarray([[0.5, 3.0, -1.0], [0.25, 2.0, math.nan]], dtype=np.float32)
    np.testing.assert_array_equal(read_answer({KEY: [Answer(values).to_json()]}).values, values)


@pytest.mark.parametrize(
    ("meta", "match"),
    [
        ({}, "does not have the plugin"),
        ({KEY: []}, "does not have the plugin"),
        ({KEY: [{"error": "out of memory"}]}, "out of memory"),
        ({KEY: [{"shape": [2, 2], "values": "AAAA"}]}, "unreadable"),
        ({KEY: [{}]}, "unreadable"),
        ({KEY: ["text"]}, "unreadable"),
        ({KEY: [{"shape": [1, 1], "values": "AAAAAA=="}] * 2}, "unreadable"),
    ],
)
def test_no_answer_says_why(meta: dict[str, Any], match: str) -> None:
    with pytest.raises(NoAnswerError, match=match):
        read_answer(meta)


def test_only_requests_that_ask_carry_a_question() -> None:
    plain = GenerateRequest((5, 7), 1, 2)
    drawn = GenerateRequest((5, 7), 3, 2, score_from=1, exact=True, named_ids=IDS[:1])
    scored = GenerateRequest((5, 7, 2), 0, 2, score_from=1, exact=True, named_ids=IDS)
    params = payload([plain, drawn, scored], ["a", "b", "c"])["sampling_params"]
    assert "custom_params" not in params[0]
    assert [params[i]["custom_params"][KEY]["first"] for i in (1, 2)] == [2, 1]


def scored_with(meta: dict[str, Any]) -> Generation:
    request = GenerateRequest((5, 7, 2, 8), 0, 2, score_from=2, exact=True, named_ids=IDS)
    return parse(request, answer(**flat("input", slice(1, 3)), **meta), VOCAB_SIZE)


def test_the_client_reads_exact_numbers_beside_the_lists() -> None:
    values = np.arange(15, dtype=np.float32).reshape(3, 5)  # a row more than was asked for: the next token's
    found = scored_with({KEY: [Answer(values).to_json()]})
    exact = found.input.exact
    assert exact is not None
    assert found.exact_missing is None
    np.testing.assert_array_equal(exact.entropy, [0, 5])
    np.testing.assert_array_equal(exact.log_normalizer, [1, 6])
    np.testing.assert_array_equal(exact.at(IDS), [[2, 3, 4], [7, 8, 9]])


@pytest.mark.parametrize("values", [np.zeros((1, 5)), np.zeros((2, 4)), np.zeros(10)])
def test_an_answer_of_another_shape_is_no_answer(values: np.ndarray) -> None:
    found = scored_with({KEY: [Answer(values).to_json()]})
    assert found.input.exact is None
    assert found.exact_missing is not None
    assert len(found.input) == 2
