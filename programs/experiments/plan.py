"""What an experiment would do: its runs with their cost, the prompts of one problem, the first requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from rrti_sgl.decoding.chunked import ChunkedSample
from rrti_sgl.decoding.endpoint import sample_request
from rrti_sgl.decoding.fused import FusedDecoding
from rrti_sgl.decoding.job import SampleJob
from rrti_sgl.engines.endpoint import COMPLETIONS, SUFFIX
from rrti_sgl.engines.pair import Pair
from rrti_sgl.engines.renumbered import renumber_request
from rrti_sgl.engines.wire import GenerateRequest, Generation, payload
from rrti_sgl.problems import ProblemSet
from rrti_sgl.programs.experiments.estimates import WHOLE_SOLUTIONS, CellCost, cell_cost
from rrti_sgl.programs.experiments.grid import Cell, Grid
from rrti_sgl.programs.experiments.models import context_of
from rrti_sgl.programs.experiments.preflight import Findings
from rrti_sgl.programs.experiments.spec import REASONING, ExperimentSpec, ServerSpec
from rrti_sgl.programs.running.gating import ChosenGate
from rrti_sgl.programs.running.preparing import PreparedRun, ResolvedRun, build, in_roles
from rrti_sgl.science.distributions import Distributions
from rrti_sgl.science.gates import NeverGate
from rrti_sgl.science.planning import LexicalTagger


@dataclass(frozen=True, slots=True)
class PlannedCell:
    """One run and its cost."""

    cell: Cell
    cost: CellCost


@dataclass(frozen=True, slots=True)
class ShownPrompts:
    """The prompts of one problem of one evaluation, with the room that they leave.

    Args:
        evaluation: its name.
        job: the prompts, each in the token ids of its own model.
        max_new_tokens: the longest solution.
        contexts: tokens that the two models take; None where that is not known here.
    """

    evaluation: str
    job: SampleJob
    max_new_tokens: int
    contexts: tuple[int | None, int | None]


@dataclass(frozen=True, slots=True)
class ShownRequest:
    """The JSON body of a request to a server, and what it is."""

    server: str
    purpose: str
    body: dict[str, Any]
    route: str = "/generate"


@dataclass(frozen=True, slots=True)
class Plan:
    """All of it.

    Args:
        spec: the file.
        cells: the runs in order.
        prompts: of one problem; None where no tokenizer could be loaded.
        requests: the first ones of a guided run.
        notes: what could not be checked, and the memory plan.
    """

    spec: ExperimentSpec
    cells: Sequence[PlannedCell]
    prompts: ShownPrompts | None
    requests: Sequence[ShownRequest]
    notes: Sequence[str]

    @property
    def servers(self) -> str:
        """What is started, in words."""
        servers = self.spec.servers
        if servers.running:
            return "running, behind an endpoint" if servers.through_endpoint else "running"
        each = "one server for both models" if servers.fused else "a server for each model"
        return each if servers.replicas == 1 else f"{each}, {servers.replicas} times behind a router"

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON values."""
        shown = self.prompts
        return {
            "experiment": self.spec.title,
            "out": str(self.spec.out),
            "servers": self.servers,
            "models": {role: model.model for role, model in self.spec.models.by_role.items()},
            "runs": [
                {"evaluation": planned.cell.evaluation.name, "run": planned.cell.label, **asdict(planned.cost)}
                for planned in self.cells
            ],
            "prompts": shown
            and {
                "evaluation": shown.evaluation,
                "problem_id": shown.job.problem.problem_id,
                "max_new_tokens": shown.max_new_tokens,
                "base": _prompt(shown.job.base_prompt, shown.job.base_prompt_ids, shown.contexts[0]),
                "reasoning": _prompt(shown.job.reasoning_prompt, shown.job.reasoning_prompt_ids, shown.contexts[1]),
            },
            "requests": [asdict(request) for request in self.requests],
            "notes": list(self.notes),
        }


def make_plan(spec: ExperimentSpec, grid: Grid, findings: Findings) -> Plan:
    """The plan of an experiment that was checked and found right."""
    planned = []
    for cell in grid.all_cells:
        problem_set = findings.problem_sets[cell.evaluation.name]
        limit = cell.settings.max_new_tokens or problem_set.max_new_tokens
        n_problems, whole = len(problem_set.problems), spec.servers.whole_samples
        planned.append(PlannedCell(cell, cell_cost(cell, n_problems, limit, findings.vocab_size, whole=whole)))
    prompts, requests = None, list[ShownRequest]()
    shown, pair = _shown_cell(grid), findings.pairs.get(REASONING)
    if shown is not None and pair is not None:
        pair = in_roles(pair, shown.settings)
        run = _first_problem(shown, pair, findings.problem_sets[shown.evaluation.name])
        requests = [whole_request(run, pair, spec.servers)] if spec.servers.whole_samples else first_requests(run, pair)
        [job] = run.jobs[:1]
        contexts = [context_of(spec, findings.sizes, side) for side in _sides(pair)]
        job = replace(
            job,
            base_prompt_ids=pair.vocabulary.renumbered.inverse.ids(job.base_prompt_ids),
            reasoning_prompt_ids=pair.reasoning_vocabulary.renumbered.inverse.ids(job.reasoning_prompt_ids),
        )
        prompts = ShownPrompts(shown.evaluation.name, job, run.options.max_new_tokens, (contexts[0], contexts[1]))
    return Plan(spec, planned, prompts, requests, list(dict.fromkeys(findings.notes)))


def _first_problem(cell: Cell, pair: Pair, problem_set: ProblemSet) -> PreparedRun:
    """A run on the first of its problems, as it would be built, but for its gate, whose calibration is not made yet."""
    first = replace(problem_set, problems=problem_set.problems[:1])
    settings = cell.settings.resolved(first, pair.vocab_size)
    gate = ChosenGate(NeverGate(settings.gate.metric))
    run = build(pair, ResolvedRun(settings, first, gate, LexicalTagger()), "plan")
    if settings.program in WHOLE_SOLUTIONS:
        return run
    return replace(run, options=replace(run.options, draft_tokens=settings.draft_tokens))


def first_requests(run: PreparedRun, pair: Pair) -> list[ShownRequest]:
    """The first request to each server in guided decoding of one problem, as decoding makes them.

    The second holds the tokens that the base model drafted. There is no model here to draft any, so the first tokens of the
    question stand in for them.
    """
    sample = ChunkedSample(run.jobs[0], run.gate, run.options)
    draft = sample.next_call()
    assert draft is not None
    sample.receive(_stand_in(draft.request, pair.vocabulary.encode(run.problems[0].question), pair.vocab_size))
    scores = sample.next_call()
    assert scores is not None
    first, second = (
        renumber_request(call.request, known.renumbered.inverse)
        for call, known in ((draft, pair.vocabulary), (scores, pair.reasoning_vocabulary))
    )
    host, guest = _sides(pair)
    purpose = f"the scores of a draft, top {run.options.k} at each"
    return [
        ShownRequest(host, f"a draft of {first.max_new_tokens} tokens", payload([first], [f"{host}-1"])),
        ShownRequest(guest, purpose, payload([second], [f"{guest}-1"])),
    ]


def _sides(pair: Pair) -> tuple[Literal["base", "reasoning"], Literal["base", "reasoning"]]:
    """Which model of the file writes, and which takes over."""
    return ("reasoning", "base") if pair.is_exchanged else ("base", "reasoning")


def whole_request(run: PreparedRun, pair: Pair, servers: ServerSpec) -> ShownRequest:
    """The request to an endpoint, or to one server for both models, that asks for the whole first sample."""
    what = "a whole sample, with its trace"
    if servers.through_endpoint:
        body = sample_request(run.jobs[0], run.gate, run.options)
        return ShownRequest("endpoint", what, body, f"{SUFFIX}{COMPLETIONS}")
    request = FusedDecoding((), pair.vocab_size).request(run.jobs[0], run.gate, run.options, run.options.draft_tokens)
    return ShownRequest("fused", what, request.payload("sample-1"))


def _stand_in(request: GenerateRequest, ids: Sequence[int], vocab_size: int) -> Generation:
    """An answer to a draft whose tokens are given; its distributions are never looked at."""
    n = min(request.max_new_tokens, len(ids))
    k = request.k
    lists = np.broadcast_to(np.arange(k, dtype=np.int32), (n, k))
    rows = Distributions(lists, np.full((n, k), -np.log(vocab_size), np.float32), vocab_size)
    none = Distributions.empty(k, vocab_size)
    zeros = np.zeros(n)
    drafted = np.asarray(ids[:n], dtype=np.int32)
    return Generation(drafted, zeros, rows, zeros[:0], none, np.empty((0, 0)), False, len(request.input_ids), 0)


def _shown_cell(grid: Grid) -> Cell | None:
    """A guided run if there is one: it asks both models."""
    cells = [cell for cell in grid.cells if cell.guest == REASONING]
    first = next(iter(cells or grid.calibrations.values()), None)
    return next((cell for cell in cells if cell.settings.program == "guided"), first)


def _prompt(text: str, ids: Sequence[int], context: int | None) -> dict[str, Any]:
    return {"text": text, "tokens": len(ids), "token_ids": list(ids), "context": context}
