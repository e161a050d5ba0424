"""The explorer as a folder: chosen samples as a page that needs no server.

A browser that opens a file may not fetch others, but may take scripts from beside it. So every payload is a script that
hands itself over, `rrti("KEY", PAYLOAD)`, under the name of its data address. What is said of runs and statistics are of the
chosen samples alone, by the same functions. Lists of samples and of tokens the page makes itself, of two files that have
something of every sample: its row, and what filters ask of its tokens.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from rrti_sgl.db.excerpts import excerpt
from rrti_sgl.errors import UsageError
from rrti_sgl.programs.explorer.aggregates import OF_SCORES, SHARES
from rrti_sgl.programs.explorer.asked import MOST_TOKENS, FiltersAsked, PartAsked, StatisticAsked
from rrti_sgl.programs.explorer.explorer import Explorer, quoted, searched
from rrti_sgl.programs.explorer.sample import TOGETHER
from rrti_sgl.programs.explorer.samples import Payload
from rrti_sgl.programs.explorer.shell import ASSETS, asset, document, dumped

MARK = "explorer.json"  # in every folder that is written here, and so the right to write it again


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Args:
        folder: where.
        samples: how many.
        bytes: in all files.
    """

    folder: Path
    samples: int
    bytes: int

    @property
    def page(self) -> Path:
        """What to open."""
        return self.folder / "index.html"


def chosen_samples(
    explorer: Explorer,
    runs: Sequence[str] = (),
    samples: Sequence[str] = (),
    limit: int = 100,
    asked: FiltersAsked | None = None,
) -> list[Payload]:
    """The rows of samples to write: in the order of problems, so that those of one problem in several runs come together.

    Args:
        explorer: of the store.
        runs: run ids, prefixes of them or program names; none takes every run.
        samples: ids, or their first digits; none takes all.
        limit: at most so many.
        asked: filters of a list; an order that it names is the rows', too.

    Raises:
        UsageError: a run or a sample that there is not; nothing is left.
    """
    ids = list(dict.fromkeys(run.run_id for reference in runs for run in explorer.store.find_runs(reference)))
    asked = asked or FiltersAsked()
    order = "place" if "sort" in asked.model_fields_set else "problem_set, problem_id, sample_index, number"
    query = f"""
        SELECT number, sample_id AS sample
        FROM (SELECT unnest($numbers) AS number, generate_subscripts($numbers, 1) AS place) JOIN sample_index USING (number)
        WHERE (len($runs) = 0 OR list_contains($runs, run_id))
          AND (len($samples) = 0 OR len(list_filter($samples, lambda one: starts_with(sample_id, one))) > 0)
        ORDER BY {order}
    """
    numbers = explorer.lists.numbers(asked).tolist()
    found = explorer.index.sql(query, {"numbers": numbers, "runs": ids, "samples": list(samples)}).to_pylist()
    for reference in samples:
        if not any(row["sample"].startswith(reference) for row in found):
            raise UsageError(f"No sample id of these starts with {reference!r}.", "List them: rrti samples.")
    if not found:
        raise UsageError("There is no sample to write.", "Name runs that have some, rrti runs, or other filters.")
    return explorer.lists.rows([row["number"] for row in found[:limit]])


def export(explorer: Explorer, rows: Sequence[Payload], folder: Path) -> Exported:
    """Write samples as a folder; it is there whole or not at all, and an older one is replaced.

    Args:
        explorer: of their store.
        rows: of the samples, as `chosen_samples` gives them.
        folder: new, empty, or written here before.

    Raises:
        UsageError: the folder is something else, or cannot be written.
    """
    _check_own(folder)
    folder = folder.resolve()
    beside = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    size = 0
    try:
        beside.mkdir(parents=True)
        for name, content in _files(explorer, rows):
            path = beside / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            size += len(content)
        (beside / MARK).write_bytes(dumped({"made by": "rrti view", "samples": len(rows), "bytes": size}))
        _replace(folder, beside)
    except OSError as error:
        raise UsageError(
            f"The folder {folder} cannot be written: {error.strerror or error}.", "Name another one."
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return Exported(folder, len(rows), size)


def _check_own(folder: Path) -> None:
    """Raises UsageError where a folder holds what was not written here."""
    if not folder.exists() and not folder.is_symlink():
        return
    if not folder.is_dir() or folder.is_symlink() or (any(folder.iterdir()) and not (folder / MARK).is_file()):
        raise UsageError(f"{folder} is there, and no page of the explorer.", "Name a new folder.")
    parts = {"index.html", MARK, *ASSETS}
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if path.is_symlink() or not (
            path.is_dir() or name.as_posix() in parts or (name.parts[0], path.suffix) == ("data", ".js")
        ):
            raise UsageError(f"{path} is none of the explorer's files; it would be lost.", "Move it, or name a new folder.")


def _replace(folder: Path, new: Path) -> None:
    old = new.with_name(f"{new.name}.old")
    if folder.exists():
        folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        with contextlib.suppress(OSError):
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _files(explorer: Explorer, rows: Sequence[Payload]) -> Iterator[tuple[str, bytes]]:
    """The files of a page: name, content."""
    chosen = {(row["run"], row["sample"]) for row in rows}
    with excerpt(explorer.store, chosen) as store, Explorer(store) as alone:
        info, statistics = alone.info(), dict(_statistics(alone, len(rows)))
    remedy = "This is a page of chosen samples. Branches need the store and the models: rrti view."
    names = list(dict.fromkeys(payload["name"] for payload in statistics.values()))
    info |= {"static": True, "branching": False, "branchingRemedy": remedy, "statistics": names}
    runs = {run["run"]: run for run in info["runs"]}
    metrics = {point["tokens"].get("metric") for one in statistics.values() for point in one["points"] if point["tokens"]}
    yield "index.html", document(info["name"], {"store": info}, static=True)
    for name in ASSETS:
        yield name, asset(name)
    yield _script("store", info)
    yield _script("samples", {"total": len(rows), "offset": 0, "rows": list(rows)})
    for key, payload in statistics.items():
        yield _script(key, payload)
    trees: dict[str, list[Payload]] = {}
    tokens: list[orjson.Fragment] = []
    for part in (rows[start : start + TOGETHER] for start in range(0, len(rows), TOGETHER)):
        for (run, sample), nodes in explorer.trees.of(part).items():
            if among := [node for node in nodes if (node["run"], node["sample"]) in chosen]:
                trees[f"{quoted(run)}/{quoted(sample)}"] = among
        for payload in explorer.samples.of(part):
            row = payload["row"]
            at = f"{quoted(row['run'])}/{quoted(row['sample'])}"
            yield _script(f"sample/{at}", payload | {"runInfo": runs[row["run"]]})
            yield _script(f"candidates/{at}", _all_candidates(explorer, row))
            tokens.append(orjson.Fragment(dumped(_tokens_of(payload, trees.get(at, []), metrics - {None, "score"}))))
    yield _script("trees", trees)
    yield _script("tokens", tokens)


def _tokens_of(sample: Payload, nodes: Sequence[Payload], metrics: Collection[str]) -> Payload:
    """What filters ask of a sample's tokens: texts and numbers of each, and the positions of those that are something."""
    arms = {(node["arm"], node["position"]) for node in nodes
            if node["parent"] == sample["row"]["sample"] and node["correct"] is not None}  # fmt: skip
    drawn = zip(sample["fired"], sample["baseDrewIds"], sample["ids"], strict=True)
    return {
        **{name: sample[name] for name in ("question", "text", "texts", "score")},
        "metrics": {name: sample["metrics"][name] for name in metrics},
        "taken": [at for at, source in enumerate(sample["source"]) if source == "reasoning"],
        "fired": [at for at, fired in enumerate(sample["fired"]) if fired],
        "changed": [at for at, (fired, drew, own) in enumerate(drawn) if fired and drew not in (None, own)],
        "planning": [at for at, tag in enumerate(sample["planning"]) if tag is not None],
        "tested": sorted(at for arm, at in arms if arm == "taken" and ("denied", at) in arms),
    }


def _statistics(alone: Explorer, n_samples: int) -> Iterator[tuple[str, Payload]]:
    """The statistics of a store of chosen samples by data address: of each run that has one, and of each share of tokens."""
    note = f"Of the {n_samples} samples of this page alone."
    for name in alone.info()["statistics"]:
        with contextlib.suppress(UsageError):  # of a sample that continues another the other may be missing
            for run in (None, *alone.aggregates.of(name, StatisticAsked())["runs"]):
                for share in (None, *SHARES) if name in OF_SCORES else (None,):
                    asked = StatisticAsked(run=run, p=share)
                    told = alone.aggregates.of(name, asked)
                    query = {key: [str(value)] for key, value in asked if value is not None}
                    own: Payload = {
                        "note": f"{note} {told['note'] or ''}".strip(),
                        "metrics": [],
                        "shares": told["shares"] and SHARES,
                    }
                    yield f"statistics/{name}{searched(query)}", told | own


def _all_candidates(explorer: Explorer, row: Mapping[str, Any]) -> Payload:
    parts = []
    for start in range(0, max(1, row["tokens"]), MOST_TOKENS):
        part = PartAsked.model_validate({"from": start, "to": start + MOST_TOKENS})
        parts.append(explorer.samples.candidates(row["run"], row["sample"], part))
    return {"from": 0, "to": parts[-1]["to"], "tokens": [token for part in parts for token in part["tokens"]]}


def _script(key: str, payload: Any) -> tuple[str, bytes]:
    """A payload as a file under its data address."""
    return f"data/{key.replace('%', '~').replace('?', '~3F')}.js", b"rrti(" + dumped(key) + b", " + dumped(payload) + b")\n"
