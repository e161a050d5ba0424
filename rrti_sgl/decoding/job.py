"""What a decoding loop is given: a sample to generate, and how."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from rrti_sgl.decoding.trace import TraceBuilder
from rrti_sgl.engines.wire import GenerateRequest, Generation, Sampling
from rrti_sgl.records import FinishReason, ProblemRecord, sample_key

Role = Literal["base", "reasoning"]
_OF_REASONING = 0x2545F4914F6CDD1D  # any number below 2**63
Decoding = Literal["chunked", "lockstep"]


@dataclass(frozen=True, slots=True)
class Prefix:
    """The beginning of a solution that is given, not generated: for experiments on what follows from one token.

    Args:
        token_ids: its tokens; both models see them after their prompts.
        text: the tokens as text.
        scores: what the gate saw at those positions that it was asked about, so that its memory is the same.
        parent_sample_id: the stored sample that it is taken from.
        arm: what was done with its last token: "taken", "denied", or "kept" as it is in the sample; None: it is another one
            than the models', or goes on otherwise than the stored sample.
    """

    token_ids: tuple[int, ...]
    text: str
    scores: tuple[float, ...]
    parent_sample_id: str
    arm: Literal["taken", "denied", "kept"] | None


@dataclass(frozen=True, slots=True)
class GivenContinuation:
    """A whole solution that is given, to be scored: its tokens, and how it ended."""

    token_ids: tuple[int, ...]
    finish_reason: FinishReason


@dataclass(frozen=True, slots=True)
class SampleJob:
    """One sample to generate, or to score where its continuation is given: both models' prompts, as text and as ids."""

    run_id: str
    problem: ProblemRecord
    sample_index: int
    seed: int
    base_prompt: str
    base_prompt_ids: Sequence[int]
    reasoning_prompt: str
    reasoning_prompt_ids: Sequence[int]
    prefix: Prefix | None = None
    given: GivenContinuation | None = None

    @property
    def prefix_ids(self) -> tuple[int, ...]:
        """Tokens of the given beginning, if there is one."""
        return self.prefix.token_ids if self.prefix is not None else ()

    def base_ids(self, token_ids: Sequence[int]) -> list[int]:
        """What the base model is shown: its prompt, a given beginning, and the tokens so far."""
        return [*self.base_prompt_ids, *self.prefix_ids, *token_ids]

    def reasoning_ids(self, token_ids: Sequence[int]) -> list[int]:
        """What the reasoning model is shown, likewise."""
        return [*self.reasoning_prompt_ids, *self.prefix_ids, *token_ids]

    def ends_with_its_beginning(self, options: DecodeOptions) -> FinishReason | None:
        """How the sample is over before its first token: a given beginning may stop, or leave no room. None: it is not."""
        given = self.prefix_ids
        if given and given[-1] in options.stop_token_ids:
            return "stop"
        return "length" if len(given) >= options.max_new_tokens else None

    @property
    def sample_id(self) -> str:
        """Id of the sample in the store."""
        return sample_key(self.run_id, self.problem.problem_id, self.sample_index)

    @property
    def full_prompts(self) -> tuple[str, str]:
        """What both models were shown before the first generated token, a given beginning included."""
        beginning = self.prefix.text if self.prefix is not None else ""
        return self.base_prompt + beginning, self.reasoning_prompt + beginning

    @property
    def sample_seed(self) -> int:
        """Seed of what is drawn on our side: depends on the run's seed and the sample's place, not on the run's id."""
        text = f"{self.seed}\n{self.problem.problem_id}\n{self.sample_index}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

    def server_seed(self, role: Role) -> int:
        """Seed of what a model draws, where its server draws by seeds: in [0, 2**63), another one for each model.

        Without one, such a server gives every sample of a problem the same draws.
        """
        return self.sample_seed ^ (0 if role == "base" else _OF_REASONING)


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """How to decode.

    Args:
        k: top log-probabilities that are asked for at every position.
        max_new_tokens: most tokens a sample may have.
        sampling: how both models draw.
        stop_token_ids: end tokens of either model.
        draft_tokens: how many tokens the base model drafts at most before they are scored (chunked decoding); as many as
            `max_new_tokens` draft the whole solution, which suits gates that never take over.
        paced: drafts of two servers are shorter where more do not pay, by how often takeovers changed a token lately; one
            server for both models does so by itself.
        takeover_tokens: tokens that the reasoning model writes at a takeover; the paper's method takes 1.
        exact: ask the servers' plugin for exact entropies, and for the reasoning model's log-probabilities at the base's
            top k.
        loop: "chunked", or "lockstep" for the reference.
        exchanged: the roles are those of the pair exchanged: the reasoning model is asked what "base" is asked.
    """

    k: int
    max_new_tokens: int
    sampling: Sampling
    stop_token_ids: frozenset[int]
    draft_tokens: int = 12
    paced: bool = False
    takeover_tokens: int = 1
    exact: bool = False
    loop: Decoding = "chunked"
    exchanged: bool = False

    @property
    def whole(self) -> bool:
        """Whether a solution is drafted in one call."""
        return self.draft_tokens >= self.max_new_tokens


@dataclass(frozen=True, slots=True)
class Call:
    """A request for one of the two servers."""

    role: Role
    request: GenerateRequest


class SampleState(Protocol):
    """The state of one sample, without I/O: it says what to ask next and takes the answer."""

    trace: TraceBuilder

    def next_call(self) -> Call | None:
        """The next request, or None when the sample is finished."""

    def receive(self, generation: Generation) -> None:
        """Take the answer to the last request."""
