"""What `rrti experiment` does between the checks and the results: servers, store, grid, report."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from rrti_sgl.cli.clustering import ClusterOptions
from rrti_sgl.cli.experiment_progress import GridProgress
from rrti_sgl.cli.pairing import open_pair
from rrti_sgl.cli.signals import run_async
from rrti_sgl.cli.terminal import console
from rrti_sgl.db.store import Store
from rrti_sgl.errors import spelled
from rrti_sgl.programs.cluster.member import PairOpening
from rrti_sgl.programs.experiments.complaints import Keys
from rrti_sgl.programs.experiments.finished import STORE, FinishedExperiment
from rrti_sgl.programs.experiments.grid import Grid
from rrti_sgl.programs.experiments.models import serving_options
from rrti_sgl.programs.experiments.preflight import Findings
from rrti_sgl.programs.experiments.results import result_tables
from rrti_sgl.programs.experiments.running import GridRunner, GridRuns, PairIdentity
from rrti_sgl.programs.experiments.spec import ExperimentSpec
from rrti_sgl.programs.reporting.report import make_report, write_report
from rrti_sgl.programs.running.runner import Workers
from rrti_sgl.programs.running.session import Concurrency, PairSession, open_session
from rrti_sgl.programs.tables.table import Table


@dataclass(frozen=True, slots=True)
class ExperimentResult:
    """A finished experiment.

    Args:
        tables: one for each evaluation, and means.
        runs: ids by (evaluation, label).
        store: its path.
        report: the report's HTML page.
    """

    tables: Sequence[Table]
    runs: GridRuns
    store: Path
    report: Path


def run_experiment(
    spec: ExperimentSpec, grid: Grid, findings: Findings, command: str, cluster: ClusterOptions
) -> ExperimentResult:
    """Run what the store lacks, then make the tables and the report.

    Args:
        spec, grid, findings: the experiment, checked.
        command: what continues it, for the message of an error.
        cluster: whose pairs share each run; none is named: one pair here.

    Raises:
        RRTIError: a server or the store fails; what was finished is stored.
    """
    path = spec.out / STORE
    runs = GridRuns()
    n_problems = {name: len(problem_set.problems) for name, problem_set in findings.problem_sets.items()}
    with spelled(Keys()), Store.open(path, parts=cluster.folder(path)) as store:
        progress = GridProgress(grid, n_problems, spec.decoding.in_flight)
        runner = GridRunner(store, progress, command)
        for guest in grid.guests:
            identity = expected_identity(spec, findings, guest)
            if identity is not None and runner.take_stored(identity, grid, runs, guest):
                continue
            _run_pair(spec, grid, runner, progress, runs, cluster, guest)
        with console(stderr=True).status("Writing the report ..."):
            finished = FinishedExperiment.of(spec, runs.runs)
            tables = result_tables(store, finished)
            finished.write(spec.out)
            files = write_report(make_report(store, runs.ids), spec.out / "report")
    return ExperimentResult(tables, runs, path, files[1])


def expected_identity(spec: ExperimentSpec, findings: Findings, guest: str) -> PairIdentity | None:
    """What servers that we start would report of a pair; None for servers that run already, and without a tokenizer."""
    pair = findings.pairs.get(guest)
    if spec.servers.running or pair is None:
        return None
    return replace(PairIdentity.of(pair), fused=spec.servers.fused)


def _run_pair(
    spec: ExperimentSpec,
    grid: Grid,
    runner: GridRunner,
    progress: GridProgress,
    runs: GridRuns,
    cluster: ClusterOptions,
    guest: str,
) -> None:
    opening = _opening(spec, guest)

    async def go(opened: AbstractAsyncContextManager[PairSession | Workers]) -> None:
        async with opened as session:
            with progress:
                await runner.run(session, grid, runs, guest)

    if cluster.ray is not None:
        opening = replace(opening, log_dir=None)
        if cluster.addresses:
            opening = replace(opening, base_url=None, reasoning_url=None)  # they stand for all, and were checked as such
        run_async(go(cluster.open(opening, runner.store.path)))
        return
    models = (opening.base_url, opening.reasoning_url, opening.base, opening.reasoning)
    with open_pair(*models, log_dir=opening.log_dir, options=opening.options, fused=opening.fused) as address:
        run_async(go(open_session(address.base_url, address.reasoning_url, opening.concurrency, **opening.connecting)))


def _opening(spec: ExperimentSpec, side: str) -> PairOpening:
    """How the pair with that reasoning model is had, and connected with."""
    servers, model = spec.servers, spec.models.by_side[side]
    # One server for both models reads no texts, and does not know the two tokenizers apart.
    names_tokenizers = servers.running or servers.fused
    # Without one of its own, the model's, where the base model has another than its server's.
    own = model.tokenizer or (model.model if spec.models.base.tokenizer else None)
    base, reasoning = (None, None) if servers.running or spec.bundled else (spec.models.base.model, model.model)
    return PairOpening(
        servers.base_url,
        servers.urls.get(side),
        base,
        reasoning,
        fused=servers.fused,
        options=None if servers.running else serving_options(spec, side),
        log_dir=spec.out / "logs",
        concurrency=Concurrency(spec.decoding.in_flight),
        connecting={
            "tokenizer": spec.models.base.tokenizer if names_tokenizers else None,
            "reasoning_tokenizer": own if names_tokenizers else None,
            "api_key": os.environ.get(servers.api_key_env),
            "special_tokens": spec.decoding.option("special_tokens"),
        },
    )
