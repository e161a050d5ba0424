"""What the door of a fused server lets in, on stand-ins for SGLang's objects: no number of a request's becomes memory."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest

from rrti_sgl.fused import admission
from rrti_sgl.fused.protocol import KEY

V, ROOM = 50_000, 20_000


def request(asked: object, max_new_tokens: int = 10_000) -> Any:
    """A request of four tokens; `refused` is why it is."""
    params = SimpleNamespace(custom_params={KEY: asked}, max_new_tokens=max_new_tokens, **admission._PLAIN)
    absent = ("lora_id", "custom_logit_processor", "input_embeds", "multimodal_inputs", "session", "to_finish", "refused")
    made = SimpleNamespace(rid="r", sampling_params=params, origin_input_ids=[1, 2, 3, 4], **dict.fromkeys(absent))
    made.return_hidden_states = False
    made.set_finish_with_abort = lambda reason: setattr(made, "refused", reason)
    return made


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"tau": 1.0}, None),
        ({"tau": 1.0, "trace": 64, "position": 4, "history": [0.5] * 4}, None),
        ({"tau": 1.0, "trace": V}, "trace = 50000 of max_new_tokens = 10000 is more than 67108864 entries"),
        ({"tau": 1.0, "trace": V + 1}, "the vocabulary"),
        ({"tau": 1.0, "k": V + 1}, "the vocabulary"),
        ({"tau": 1.0, "position": 5}, "more than the 4 tokens of input_ids"),
        ({"tau": 1.0, "position": 900_000, "history": [1.0] * 900_000}, "more than the 4 tokens of input_ids"),
        ({"tau": 1.0, "window": 10**12}, "window"),
        ({"tau": 1.0, "base_input_ids": [7] * ROOM}, "need 30008"),
        ({"tau": 1.0, "base_input_ids": [V]}, "the vocabulary"),
        ("[" * 100_000, "JSON"),
        ('{"tau": ' + "7" * 6000 + "}", "JSON"),
    ],
)
def test_a_request_is_let_in_or_refused_with_the_field(asked: object, said: str | None) -> None:
    side: Any = SimpleNamespace(slots=SimpleNamespace(size=ROOM))
    door = admission.Door(side, draft_tokens=8, vocab_size=V, longest=ROOM)
    door.admit(one := request(asked))
    assert (one.refused is None) == (said is None), one.refused
    assert (admission.guidance_of(one) is None) == (said is not None)
    assert said is None or said in one.refused


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("json_schema", "{}", "grammars"),
        ("regex", "a+", "grammars"),
        ("ebnf", "root ::= 'a'", "grammars"),
        ("structural_tag", "{}", "grammars"),
        ("frequency_penalty", 0.5, "frequency_penalty"),
        ("presence_penalty", -0.5, "presence_penalty"),
        ("repetition_penalty", 1.2, "repetition_penalty"),
        ("min_new_tokens", 3, "min_new_tokens"),
        ("logit_bias", {"5": 1.0}, "logit_bias"),
        ("lora_id", "adapter", "LoRA adapters"),
        ("custom_logit_processor", "{}", "custom_logit_processor"),
        ("input_embeds", [[0.0]], "input_embeds"),
        ("multimodal_inputs", object(), "images, audio or video"),
        ("session", object(), "sessions"),
        ("return_hidden_states", True, "return_hidden_states"),
        ("beam_group", object(), "beam search"),
    ],
)
def test_what_a_guided_model_does_not_take_is_refused_by_its_name(name: str, value: object, said: str) -> None:
    side: Any = SimpleNamespace(slots=SimpleNamespace(size=ROOM))
    one = request({"tau": 1.0})
    setattr(one.sampling_params if hasattr(one.sampling_params, name) else one, name, value)
    admission.Door(side, draft_tokens=8, vocab_size=V, longest=ROOM).admit(one)
    assert one.refused is not None
    assert re.match(rf"A guided model does not take {said}\b", one.refused)
