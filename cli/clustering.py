"""Options that let many pairs of a Ray cluster share a run, for the commands that can be shared out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rrti_sgl import bounds
from rrti_sgl.cli.terminal import say
from rrti_sgl.errors import UsageError

if TYPE_CHECKING:
    from rrti_sgl.programs.cluster.cluster import RayCluster
    from rrti_sgl.programs.cluster.member import PairOpening

_ASKING_CPUS = 0.1  # of an actor that only asks a pair that runs: as many as there are pairs find a place
_in_cluster = partial(typer.Option, rich_help_panel="Cluster")


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """What names a cluster on the command line, and what a pair takes of it."""

    ray: Annotated[
        str | None, _in_cluster(metavar="ADDRESS|local", help="Share the samples among pairs on this Ray cluster.")
    ] = None
    pairs: Annotated[
        int | None, _in_cluster(min=1, max=bounds.RUNS, help="At most so many pairs; what fits by default.")
    ] = None
    pair_gpus: Annotated[
        float | None, _in_cluster(min=0, max=bounds.GPUS, help="GPUs of each pair, also 0.5; 1 by default, 0 without GPUs.")
    ] = None
    pair_at: Annotated[
        list[str] | None,
        _in_cluster(
            metavar="URL[,URL]", help="Take a pair that runs there, base and reasoning server, or one for both; repeat."
        ),
    ] = None
    parts: Annotated[Path | None, _in_cluster(help="Folder that all machines share; beside the store by default.")] = None

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
        if self.addresses and (self.pairs is not None or self.pair_gpus is not None):
            message = "--pairs and --pair-gpus are of pairs that are started, and --pair-at names such that run."
            raise UsageError(message, "Leave one of them out.")

    @property
    def addresses(self) -> list[tuple[str, str]]:
        """Base and reasoning server of each pair of --pair-at.

        Raises:
            UsageError: it is not one URL or two.
        """
        found = []
        for text in self.pair_at or ():
            urls = text.split(",")
            if len(urls) > 2 or not all(url.startswith(("http://", "https://")) for url in urls):
                raise UsageError(f"--pair-at {text!r} is no pair.", "Write it as http://HOST:PORT,http://HOST:PORT")
            found.append((urls[0], urls[-1]))
        return found

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
        folder, openings = self.folder(store), [opening]
        share = Share(gpus=self.pair_gpus, pairs=self.pairs)
        if self.addresses:
            if opening.base is not None or opening.fused:
                raise UsageError(
                    "Both pairs that run and what to start were given.", "Leave --base, --reasoning or --fused out."
                )
            openings = [replace(opening, base_url=base, reasoning_url=reasoning) for base, reasoning in self.addresses]
            share = Share(gpus=0, cpus=_ASKING_CPUS, pairs=len(openings))
        assert self.ray is not None
        assert folder is not None
        say("The run begins with the first pair of the cluster that is up.", err=True)
        async with open_cluster(self.ray, openings, folder, share) as cluster:
            yield cluster
