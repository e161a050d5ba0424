"""Pushing: sealed runs of a store into a dataset repository, with its card and index, in one commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rrti_sgl.db import relations, run_ids, schema
from rrti_sgl.db.folders import Manifest
from rrti_sgl.errors import UsageError, argument
from rrti_sgl.programs.publishing import card
from rrti_sgl.programs.publishing.card import PublishedRun
from rrti_sgl.programs.publishing.repository import MAIN, Repository, State


@dataclass(frozen=True)
class Pushed:
    """What became of the runs: those that were put there, those that were there, and the commit that holds all."""

    new: list[PublishedRun]
    known: list[PublishedRun]
    commit: str


def push(
    store: Path,
    name: str,
    *,
    runs: Sequence[str] = (),
    revision: str = MAIN,
    private: bool = False,
    licence: str | None = None,
    replace: bool = False,
) -> Pushed:
    """Put sealed runs into a dataset repository, which is made where it is missing; all of them, or nothing is changed.

    What is there with the same content is left alone, so pushing twice changes nothing. The store's file is not opened.

    Args:
        store: the DuckDB file that the runs were sealed of, or attached to.
        name: OWNER/NAME of the repository.
        runs: ids; none: every sealed run.
        revision: the branch; it is made where it is missing.
        private: a repository that is made is private, and one that is there must be.
        licence: of the traces, by the hub's name of it; None leaves what the card says.
        replace: a run that is there with another content is replaced.

    Raises:
        UsageError: such a run is not sealed, or its questions are not to be published; the token, the repository or the
            branch are not to be had; a run is there with another content.
        StoreError: a run's files are damaged.
        EndpointError: the hub cannot be reached or refuses; the same push goes on where this one was cut off.
    """
    repository = Repository(name, revision)
    chosen = _read(store, runs)
    for run in chosen.values():
        if run.benchmark is not None and run.benchmark.confidential and not private:
            message = f"Run {run.run_id} has questions of {run.benchmark.title}, whose authors ask not to publish them."
            raise UsageError(message, f"Push it to a private repository: {argument('private', True)}.")
    state = repository.open_for_writing(private=private)
    new, known = [], []
    files: dict[str, Path | bytes] = {}
    for folder, run in chosen.items():
        content = _content(folder, run)
        if all(path in state.files and state.files[path].is_same(file) for path, file in content.items()):
            known.append(run)
            continue
        if _manifest_of(run) in state.files and not replace:
            message = f"Run {run.run_id} is in {name} already, with another content."
            raise UsageError(
                message, f"Put yours in its place with {argument('replace', True)}; the old one stays in its history."
            )
        new.append(run)
        files |= content
    pages = _pages(repository, state, [*new, *known], licence)
    files |= {path: page for path, page in pages.items() if path not in state.files or not state.files[path].is_same(page)}
    commit = state.commit
    if files:
        said = ", ".join(run.run_id for run in new[:3]) + (f" and {len(new) - 3} more" if len(new) > 3 else "")
        commit = repository.commit(files, f"Add {said}" if new else "Renew the card", state.commit)
    return Pushed(new, known, commit)


def _read(store: Path, runs: Sequence[str]) -> dict[Path, PublishedRun]:
    """The folders of the runs that are meant, compared with their manifests."""
    wanted = [run_ids.checked(run) for run in runs]
    sealed = {folder.name: folder for folder in relations.complete_folders(store)}
    if not sealed:
        raise UsageError(f"There is no sealed run beside {store}.", f"Seal one first: rrti db seal RUN {store}")
    if missing := [run for run in wanted if run not in sealed]:
        raise UsageError(
            f"Run {missing[0]!r} is not sealed in {store}.", f"Seal it first: rrti db seal {missing[0]} {store}"
        )
    found = {}
    for folder in [relations.run_folder(store, run) for run in dict.fromkeys(wanted or sealed)]:
        manifest = Manifest.read(folder)
        manifest.check_revision(folder)
        manifest.refuse_damage(folder)
        found[folder] = PublishedRun.read(folder, manifest)
    return found


def _content(folder: Path, run: PublishedRun) -> dict[str, Path]:
    names = [*(f"{table}.parquet" for table in relations.FILES), relations.MANIFEST]
    return {f"runs/{run.run_id}/{name}": folder / name for name in names}


def _manifest_of(run: PublishedRun) -> str:
    return f"runs/{run.run_id}/{relations.MANIFEST}"


def _pages(repository: Repository, state: State, runs: Sequence[PublishedRun], licence: str | None) -> dict[str, bytes]:
    """Index, schema and card of what the repository will hold."""
    there = {path: repository.read(path, state.commit) if path in state.files else b"" for path in (card.INDEX, card.CARD)}
    listed = card.read_index(there[card.INDEX], repository.name)
    every = {run.run_id: run for run in listed if _manifest_of(run) in state.files} | {run.run_id: run for run in runs}
    models = sorted({model for run in every.values() for model in (run.base_model, run.reasoning_model) if model})
    licences = {model: repository.licence_of_model(model) for model in models}
    before = there[card.CARD].decode(errors="replace")
    page = card.write_card(repository.name, repository.revision, list(every.values()), licences, licence, before)
    return {
        card.INDEX: card.write_index(list(every.values())),
        card.SCHEMA: schema.schema_markdown().encode(),
        card.CARD: page,
    }
