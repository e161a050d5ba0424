"""`InterventionBackend`: SGLang's frontend language on a base and a reasoning model, under a gate."""

from __future__ import annotations

import atexit
import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sglang.lang.backend.base_backend import BaseBackend
from sglang.lang.chat_template import get_chat_template, get_chat_template_by_model_path
from sglang.lang.choices import token_length_normalized
from sglang.lang.global_config import global_config

from rrti_sgl.db.store import Store
from rrti_sgl.engines.transport import TransportLimits
from rrti_sgl.errors import UsageError, argument
from rrti_sgl.programs.frontend import executor
from rrti_sgl.programs.frontend.options import read_options
from rrti_sgl.programs.frontend.prefixes import Prompt
from rrti_sgl.programs.frontend.session import FrontendSession, open_frontend
from rrti_sgl.programs.options import declared
from rrti_sgl.programs.program import GateOptions
from rrti_sgl.programs.running.portal import Portal
from rrti_sgl.programs.running.runner import ended_by
from rrti_sgl.programs.running.session import Concurrency, open_session
from rrti_sgl.programs.running.settings import RunSettings, settings_from
from rrti_sgl.programs.running.streaming import iterated
from rrti_sgl.programs.values import given_path
from rrti_sgl.science.gates import Gate


class InterventionBackend(BaseBackend):  # type: ignore[misc]  # SGLang is not typed
    """A backend of SGLang's frontend language under which every `gen` is decoded with intervention, and traced.

    One engine in a thread of its own batches what all programs ask for at the same time. Both models see the text of the
    program so far. A context manager; without one, call `close`, or leave it to the end of the process.

    Args:
        base_url: address of the base model's server.
        reasoning_url: address of the reasoning model's server.
        gate: a gate, the name of a program that has one ("guided", "entropy", ...), or `package.module:Class`.
        store: the trace store, or its path; None keeps no traces. A store that is given open stays open.
        reasoning_prefix: text that the reasoning model alone is shown before the program's.
        chat_template: how `sgl.system`, `sgl.user` and `sgl.assistant` become text: an SGLang `ChatTemplate` or the name of
            one; None takes what SGLang has for the reasoning model's path ("USER:..." where it knows none).
        concurrency: samples in flight, and most sequences in one call.
        tokenizer: folder or hub id of the tokenizer, for servers whose model path is not readable here.
        api_key: bearer token for both servers.
        limits: time limits and retries.
        **options: of `rrti run`, with `_` for `-`, those of no problems and no single `gen`: of a gate that is given by name
            its own (`tau=`, `lambda_value=`, `calibration=`, ...), and `k=`, `seed=`, and `draft_tokens=`, the size of the
            pieces in which a stream moves on.

    Raises:
        RRTIError: an option, the servers, the gate or the store do not allow it.
    """

    def __init__(
        self,
        base_url: str,
        reasoning_url: str,
        gate: Gate | str = "guided",
        *,
        store: Store | Path | str | None = None,
        reasoning_prefix: str = "",
        chat_template: Any = None,
        concurrency: Concurrency | None = None,
        tokenizer: str | None = None,
        api_key: str | None = None,
        limits: TransportLimits | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        settings = _settings(gate, options)
        connecting = open_session(
            base_url,
            reasoning_url,
            concurrency,
            tokenizer=tokenizer,
            api_key=api_key,
            limits=limits,
            # One text is shown to both models here: its special tokens are what is written, for either of them.
            special_tokens="as-is",
        )
        kept = given_path("store", store) if isinstance(store, str) else store
        opening = open_frontend(connecting, settings, gate if isinstance(gate, Gate) else None, reasoning_prefix, kept)
        self._portal: Portal[FrontendSession] = Portal(opening, name="intervention backend")
        self._session = self._portal.opened
        self.chat_template = _chat_template(chat_template, self._session.pair.reasoning.info.model)
        atexit.register(self.close)

    # -- SGLang's interface -----------------------------------------------------------------------------------------

    @property
    def is_chat_model(self) -> bool:
        """Asked by SGLang for `@sgl.function(num_api_spec_tokens=...)` alone, which is not for local models."""
        raise UsageError("num_api_spec_tokens is not supported under intervention.", "Leave it out.")

    def get_model_name(self) -> str:
        """Both models."""
        pair = self._session.pair
        return f"{pair.base.info.model} + {pair.reasoning.info.model}"

    def get_server_info(self) -> dict[str, Any]:
        """What both servers said of themselves on connecting."""
        pair = self._session.pair
        return {"base": dict(pair.base.info.details), "reasoning": dict(pair.reasoning.info.details)}

    def generate(self, s: Any, sampling_params: Any) -> tuple[str, dict[str, Any]]:
        """Decode one sample after the state's text. Returns its text and its meta information."""
        pieces, infos = zip(*self._decoded(s, sampling_params, streamed=False), strict=True)
        return "".join(pieces), infos[-1]

    def generate_stream(self, s: Any, sampling_params: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        """The same, in pieces of text; the last piece, which may be empty, comes with the meta information."""
        return self._decoded(s, sampling_params, streamed=True)

    def select(self, s: Any, choices: Sequence[str], temperature: float, choices_method: Any = None) -> Any:
        """Choose by the base model's log-probabilities. Returns SGLang's `ChoicesDecision`; nothing is stored."""
        if temperature > 1e-5:
            raise UsageError(f"select(temperature={temperature!r}) is not supported.", "Use 0, as SGLang does.")
        prefixes = self._session.prefixes
        known, prompt = prefixes.known(s), prefixes.prompt(s)
        method = choices_method or token_length_normalized
        decision, after = self._portal.call(self._session.select, prompt, known, choices, method)
        prefixes.remember(s, after)
        return decision

    def commit_lazy_operations(self, s: Any) -> None:
        """Before a fork: prefill the state's text once, so that every branch finds it in the radix caches."""
        self._portal.call(self._session.prefill, self._session.prefixes.prompt(s))

    def cache_prefix(self, prefix_str: str) -> None:
        """Before a batch: prefill what its programs have in common."""
        ids = self._session.pair.vocabulary.encode(prefix_str)
        self._portal.call(self._session.prefill, Prompt(prefix_str, tuple(ids)))

    def flush_cache(self) -> None:
        """Empty the radix caches of both servers."""
        self._portal.call(self._session.session.flush)

    def shutdown(self) -> None:
        """The same as `close`."""
        self.close()

    # -- ours -------------------------------------------------------------------------------------------------------

    @property
    def gate(self) -> Gate:
        """The gate in use."""
        return self._session.chosen.gate

    @property
    def run_ids(self) -> list[str]:
        """Runs begun so far: one for each combination of temperature, top-p and length limit."""
        return list(self._session.run_ids)

    def flush(self) -> None:
        """Make the traces of finished samples durable.

        Raises:
            StoreError: they cannot be written.
        """
        self._portal.call(self._session.flush)

    def close(self) -> None:
        """Cancel what is under way, write what is finished and mark the runs as finished; safe to call twice.

        Raises:
            StoreError: traces cannot be written.
        """
        atexit.unregister(self.close)
        self._portal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            self._session.recorder.status = ended_by(error)
        self.close()

    def _decoded(self, s: Any, sampling_params: Any, *, streamed: bool) -> Iterator[tuple[str, dict[str, Any]]]:
        """Pieces of a sample's text, at last an empty one with its meta information; its ids are remembered."""
        session, skip_special = self._session, bool(global_config.skip_special_tokens_in_output)
        options = read_options(sampling_params, session.settings, skip_special=skip_special)
        prompt, forked = session.prefixes.prompt(s), session.prefixes.forked(s)
        decoding = session.generate(prompt, forked, options, streamed=streamed)
        with contextlib.closing(iterated(self._portal, decoding)) as found:
            for piece in found:
                if isinstance(piece, str):
                    yield piece, {}
                else:
                    session.prefixes.remember(s, piece.after)
                    yield "", piece.meta_info


executor.install(InterventionBackend)


def _settings(gate: Gate | str, options: dict[str, Any]) -> RunSettings:
    """The settings of every `gen`, but for what it asks for itself."""
    own = declared(GateOptions)
    of_gate = {"calibration", "calibration_id", *own, *(entry.field for entry in own.values())}
    if isinstance(gate, Gate):
        if given := sorted(of_gate & options.keys()):
            raise UsageError(f"{argument(given[0])} belongs to a gate that is given by name.", "Give the gate its own.")
        settings = settings_from("guided", **options)
    else:
        settings = settings_from("guided", gate=gate, **options) if ":" in gate else settings_from(gate, **options)
    if others := sorted(options.keys() - of_gate - {"k", "seed", "draft_tokens"}):
        raise UsageError(f"{argument(others[0])} is not a backend's.", "Leave it out; programs say at `gen` what they want.")
    return settings


def _chat_template(chosen: Any, reasoning_model: str) -> Any:
    if chosen is None:
        return get_chat_template_by_model_path(reasoning_model)
    if not isinstance(chosen, str):
        return chosen
    try:
        return get_chat_template(chosen)
    except KeyError as error:
        raise UsageError(f"SGLang has no chat template {chosen!r}.", "Name one of its registry, or give one.") from error
