"""Options that let many pairs of a Ray cluster share a run, for the commands that can be shared out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rrti_sgl import bounds
from rrti_sgl.errors import UsageError

if TYPE_CHECKING:
    from rrti_sgl.programs.cluster.cluster import RayCluster
    from rrti_sgl.programs.cluster.member import PairOpening

Ray = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS|local", help="Share the samples among pairs on this Ray cluster.", rich_help_panel="Cluster"
    ),
]
Pairs = Annotated[
    int | None,
    typer.Option(min=1, max=bounds.RUNS, help="At most so many pairs; what fits by default.", rich_help_panel="Cluster"),
]
PairGpus = Annotated[
    float | None,
    typer.Option(
        min=0, max=bounds.GPUS, help="GPUs of each pair, also 0.5; 1 by default, 0 without GPUs.", rich_help_panel="Cluster"
    ),
]
PairAt = Annotated[
    list[str] | None,
    typer.Option(
        metavar="URL[,URL]",
        help="Take a pair that runs there, base and reasoning server, or one for both; repeat.",
        rich_help_panel="Cluster",
    ),
]
Parts = Annotated[
    Path | None,
    typer.Option(help="Folder that all machines share; beside the store by default.", rich_help_panel="Cluster"),
]


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """What names a cluster on the command line, and what a pair takes of it."""

    ray: Ray = None
    pairs: Pairs = None
    pair_gpus: PairGpus = None
    pair_at: PairAt = None
    parts: Parts = None

    def check(self) -> None:
        """Refuse options that do nothing.

        Raises:
            UsageError: an option of a cluster without one, or Ray is not installed.
        """
        if self.ray is not None:
            try:
                import ray  # noqa: F401
            except ImportError as error:
                raise UsageError("--ray needs Ray, which is not installed.", "pip install 'rrti-sgl[ray]'") from error
        elif self != ClusterOptions():
            raise UsageError("--pairs, --pair-gpus, --pair-at and --parts are of a cluster.", "Name one: --ray ADDRESS")

    @property
    def typed(self) -> list[tuple[str, Path | float | str | None]]:
        """The options and their values as they are typed."""
        single = [("--ray", self.ray), ("--pairs", self.pairs), ("--pair-gpus", self.pair_gpus), ("--parts", self.parts)]
        return [*single, *(("--pair-at", each) for each in self.pair_at or ())]

    def folder(self, store: Path) -> Path | None:
        """The folder of parts for a store; None without a cluster.

        Raises:
            UsageError: see `check`.
        """
        self.check()
        return None if self.ray is None else self.parts or store.with_suffix(".parts")

    @asynccontextmanager
    async def open(self, opening: PairOpening, store: Path) -> AsyncIterator[RayCluster]:
        """The cluster's pairs for as long as this lasts.

        Args:
            opening: how a pair is started, and connected with; of its addresses those of `--pair-at` take the place.
            store: that the parts are merged into.
        """
        from rrti_sgl.programs.cluster.cluster import Share, open_cluster

        if opening.base_url is not None:
            raise UsageError("The addresses of one pair were given for a cluster.", "Name each pair: --pair-at URL[,URL]")
        folder, share = self.folder(store), Share(gpus=0 if self.pair_at else self.pair_gpus, pairs=self.pairs)
        assert self.ray is not None
        assert folder is not None
        async with open_cluster(self.ray, self._openings(opening), folder, share) as cluster:
            yield cluster

    def _openings(self, opening: PairOpening) -> Sequence[PairOpening]:
        if not self.pair_at:
            return [opening]
        if opening.base is not None or opening.fused:
            raise UsageError(
                "Both pairs that run and what to start were given.", "Leave --base, --reasoning or --fused out."
            )
        found = []
        for text in self.pair_at:
            base, comma, reasoning = text.partition(",")
            found.append(replace(opening, base_url=base, reasoning_url=reasoning if comma else base))
        return found
