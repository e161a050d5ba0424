"""One server of our own that holds both models of a pair."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rrti_sgl.errors import UsageError, argument
from rrti_sgl.fused import ALGORITHM
from rrti_sgl.fused.admission import GATES_VARIABLE
from rrti_sgl.fused.plugin import VARIABLE
from rrti_sgl.fused.protocol import DEFAULTS_VARIABLE
from rrti_sgl.records import Json
from rrti_sgl.serving.server import Server, has_gpu

DRAFT_TOKENS = 8  # by measurement, see docs/performance.md


@dataclass
class BothModels(Server):
    """The reasoning model's server with the base model in it.

    Args:
        base_model: hub id or folder of the base model.
        draft_tokens: most tokens drafted in a round.
        steering: what requests leave out, such as tau; as in `rrti_sgl.fused.protocol.Steering`.
        gates: gates of one's own that requests may name, `package.module:Class`.
    """

    base_model: str = ""
    draft_tokens: int = DRAFT_TOKENS
    steering: Mapping[str, Json] = field(default_factory=dict)
    gates: Sequence[str] = ()

    @property
    def title(self) -> str:
        """What it is, for messages."""
        return f"server for {self.model!r} guided into {self.base_model!r}"

    def command(self, on_cpu: bool) -> list[str]:
        """The command line that becomes the server."""
        return [
            *super().command(on_cpu),
            *("--speculative-algorithm", ALGORITHM),
            *("--speculative-draft-model-path", self.base_model),
            *("--speculative-num-draft-tokens", str(self.draft_tokens)),
        ]

    def environment(self, on_cpu: bool) -> dict[str, str]:
        """The environment of the server's processes."""
        own = {VARIABLE: "1", DEFAULTS_VARIABLE: json.dumps(dict(self.steering)), GATES_VARIABLE: ",".join(self.gates)}
        return super().environment(on_cpu) | own

    def start(self) -> None:
        """Start the process; `is_ready` tells when it answers.

        Raises:
            UsageError: there is a GPU to be used, or a number of drafted tokens that is none.
            EndpointError: SGLang's version is not supported.
        """
        if self.draft_tokens < 1:
            raise UsageError(f"{argument('draft_tokens', self.draft_tokens)} drafts nothing.", "Draft at least 1.")
        if self.device == "cuda" or (self.device == "auto" and has_gpu()):
            raise UsageError(
                "One server for both models was tried on the CPU alone: its draft steps and its verification have no CUDA "
                "graphs yet.",
                f"Leave out {argument('fused')} (two servers), or serve with {argument('device', 'cpu')}.",
            )
        if Path(self.base_model).is_dir():
            self.base_model = str(Path(self.base_model).resolve())
        super().start()
