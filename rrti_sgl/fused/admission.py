"""Who may come in: requests that the guided model cannot serve are refused by name, and those without room wait."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rrti_sgl.errors import UsageError
from rrti_sgl.fused import places
from rrti_sgl.fused.acceptance import Guidance
from rrti_sgl.fused.base_side import BaseSide
from rrti_sgl.fused.protocol import DEFAULTS_VARIABLE, GATES_VARIABLE, KEY, Steering
from rrti_sgl.records import Json
from rrti_sgl.science.gates import NeverGate, load_gate

_ATTRIBUTE = "_rrti_guidance"  # on SGLang's request object
_PROMISED = "_rrti_promised"  # on its prefill planner: base slots of the requests that it has taken
_HEALTH_CHECK = "HEALTH_CHECK"
_MOST_TOLD = 2**26  # entries of the lists of one answer: 1 GiB


class Door:
    """What a server admits.

    Args:
        side: the base model's sequences.
        draft_tokens: most tokens of a draft.
        vocab_size: of both models.
        longest: most tokens of a sequence of the base model.
    """

    def __init__(self, side: BaseSide, draft_tokens: int, vocab_size: int, longest: int) -> None:
        self.side = side
        self._draft_tokens = draft_tokens
        self._vocab_size, self._longest = vocab_size, longest
        self._defaults: Mapping[str, Json] = json.loads(os.environ.get(DEFAULTS_VARIABLE) or "{}")
        self._own_gates = {name for name in os.environ.get(GATES_VARIABLE, "").split(",") if name}

    def admit(self, request: Any) -> None:
        """Read what a request asks, once; refuse it where it cannot be served."""
        if request.to_finish is not None or guidance_of(request) is not None:
            return
        try:
            setattr(request, _ATTRIBUTE, self._guidance(request))
        except Exception as error:  # it came over the network
            request.set_finish_with_abort(str(error))
            # It makes one pass all the same, on which what was refused must not be done.
            for name, value in _PLAIN.items():
                setattr(request.sampling_params, name, value)
            request.custom_logit_processor = None

    def _guidance(self, request: Any) -> Guidance:
        if str(request.rid).startswith(_HEALTH_CHECK):
            return Guidance(Steering(), NeverGate())
        if refused := [name for name, asks in _UNSUPPORTED.items() if asks(request)]:
            raise UsageError(f"A guided model does not take {', '.join(refused)}.", "Leave it out.")
        params = request.sampling_params.custom_params
        asked = params.get(KEY) if isinstance(params, Mapping) else None
        steering = Steering.from_json(asked, self._defaults)
        prompt = steering.base_input_ids or request.origin_input_ids
        for name in ("base_input_ids", "given"):
            if wrong := [token for token in getattr(steering, name) if token >= self._vocab_size]:
                raise UsageError(f"{name} has {wrong[0]}, the vocabulary ends before {self._vocab_size}.", "Correct it.")
        needed = len(prompt) + request.sampling_params.max_new_tokens + self._draft_tokens
        room = min(self._longest, self.side.slots.size)
        if needed > room:
            raise UsageError(
                f"The base model's prompt of {len(prompt)} tokens and max_new_tokens = "
                f"{request.sampling_params.max_new_tokens} need {needed} of the {room} tokens that it can hold.",
                "Shorten the prompt, or lower max_new_tokens.",
            )
        for name in ("k", "trace"):
            if (value := getattr(steering, name)) > self._vocab_size:
                raise UsageError(f"{name} = {value} is above {self._vocab_size}, the vocabulary.", "Lower it.")
        if steering.trace * request.sampling_params.max_new_tokens > _MOST_TOLD:
            raise UsageError(
                f"trace = {steering.trace} of max_new_tokens = {request.sampling_params.max_new_tokens} is more than "
                f"{_MOST_TOLD} entries.",
                "Lower one of them.",
            )
        if steering.position > len(request.origin_input_ids):
            raise UsageError(
                f"position = {steering.position} is more than the {len(request.origin_input_ids)} tokens of input_ids.",
                "Send the solution's tokens at their end.",
            )
        if ":" in steering.gate:
            if steering.gate not in self._own_gates:
                known = ", ".join(sorted(self._own_gates)) or "none"
                raise UsageError(
                    f"gate = {steering.gate!r} was not named at the server's start; named: {known}.", "Name it."
                )
            return Guidance(steering, load_gate(steering.gate, steering.gate_params))
        return Guidance(steering, steering.make_gate())

    def has_room(self, requests: Iterable[Any]) -> bool:
        """Whether a round of each of these running requests fits the base model's pool."""
        self.side.sweep()
        needed = sum(self.side.needed(places.row_of(request), self._draft_tokens) for request in requests)
        return needed <= self.side.available

    def has_room_for(self, request: Any, planner: Any) -> bool:
        """Whether one more request fits, beside those that the planner has taken; notes it where it does."""
        if request.to_finish is not None:
            return True
        self.side.sweep()
        promised = getattr(planner, _PROMISED, 0)
        needed = len(base_prompt(request)) + len(request.output_ids) + self._draft_tokens
        if promised + needed > self.side.available:
            return False
        setattr(planner, _PROMISED, promised + needed)
        return True


def guidance_of(request: Any) -> Guidance | None:
    """What was read of a request at the door."""
    found: Guidance | None = getattr(request, _ATTRIBUTE, None)
    return found


def base_prompt(request: Any) -> list[int]:
    """The base model's prompt."""
    guidance = guidance_of(request)
    asked = guidance.steering.base_input_ids if guidance is not None else ()
    return list(asked or request.origin_input_ids)


_UNSUPPORTED: Mapping[str, Callable[[Any], bool]] = {
    "grammars (json_schema, regex, ebnf, structural_tag)": lambda request: any(
        getattr(request.sampling_params, name, None) for name in ("json_schema", "regex", "ebnf", "structural_tag")
    ),
    "frequency_penalty": lambda request: request.sampling_params.frequency_penalty != 0,
    "presence_penalty": lambda request: request.sampling_params.presence_penalty != 0,
    "repetition_penalty": lambda request: request.sampling_params.repetition_penalty != 1,
    "min_new_tokens": lambda request: request.sampling_params.min_new_tokens > 0,
    "logit_bias": lambda request: bool(request.sampling_params.logit_bias),
    "LoRA adapters": lambda request: request.lora_id is not None,
    "custom_logit_processor": lambda request: bool(request.custom_logit_processor),
    "input_embeds": lambda request: request.input_embeds is not None,
    "images, audio or video": lambda request: request.multimodal_inputs is not None,
    "return_hidden_states": lambda request: bool(request.return_hidden_states),
    "beam search": lambda request: getattr(request, "beam_group", None) is not None,
    "sessions": lambda request: request.session is not None,
}


_PLAIN: Mapping[str, Json] = {
    **{"frequency_penalty": 0.0, "presence_penalty": 0.0, "repetition_penalty": 1.0, "min_new_tokens": 0},
    **{"logit_bias": None, "json_schema": None, "regex": None, "ebnf": None, "structural_tag": None},
}


_door: Door | None = None  # a scheduler process has one worker


def open_door(door: Door) -> None:
    """From here on the hooks below ask this door."""
    global _door
    _door = door


def before_queue(scheduler: Any, request: Any, *args: Any, **kwargs: Any) -> None:
    """Before `Scheduler._add_request_to_queue(self, req, ...)`."""
    if _door is not None:
        _door.admit(request)


def around_check_memory(original: Callable[..., bool], batch: Any, selected_indices: list[int] | None = None) -> bool:
    """Around `ScheduleBatch.check_decode_mem(self, selected_indices)`: SGLang retracts until it is true."""
    fits = original(batch, selected_indices)
    requests = batch.reqs if selected_indices is None else [batch.reqs[index] for index in selected_indices]
    return fits and (_door is None or _door.has_room(requests))


def around_add_request(original: Callable[..., Any], planner: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
    """Around `PrefillAdder.add_one_req(self, req, ...)`: the request waits where the base model has no room for it."""
    if _door is not None and not _door.has_room_for(request, planner):
        from sglang.srt.managers.schedule_policy import AddReqResult

        return AddReqResult.NO_TOKEN
    return original(planner, request, *args, **kwargs)


def around_abort(original: Callable[..., Any], scheduler: Any, asked: Any) -> Any:
    """Around `Scheduler.abort_request(self, recv_req)`: those whose ids only begin with the named one stay out of sight."""
    others = [] if asked.abort_all else [request for request in _known(scheduler) if _is_other(request.rid, asked.rid)]
    hidden = [(request, request.rid) for request in others]
    for request, rid in hidden:
        request.rid = f"\0{rid}"
    try:
        return original(scheduler, asked)
    finally:
        for request, rid in hidden:
            request.rid = rid


def _is_other(rid: str, named: str) -> bool:
    return rid != named and rid.startswith(named)


def _known(scheduler: Any) -> list[Any]:
    """Every request of a scheduler, each once."""
    batches = [getattr(scheduler, name, None) for name in ("running_batch", "cur_batch", "last_batch")]
    found = [*scheduler.waiting_queue, *scheduler.grammar_manager.grammar_queue]
    found += [request for batch in batches if batch is not None for request in batch.reqs]
    if scheduler.chunked_req is not None:
        found.append(scheduler.chunked_req)
    return list({id(request): request for request in found}.values())
