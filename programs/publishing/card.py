"""The card of a repository of runs, and its index: made of what the runs say of themselves, the same for the same runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import Any

import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError

from rrti_sgl.db import folders, relations
from rrti_sgl.db.folders import Manifest
from rrti_sgl.errors import StoreError
from rrti_sgl.problems.benchmarks import BENCHMARKS, Benchmark
from rrti_sgl.programs.tables.safe_text import markdown

CARD, SCHEMA, INDEX = "README.md", "SCHEMA.md", "index.jsonl"
BEGIN, END = "<!-- rrti push: from here -->", "<!-- rrti push: to here -->"
# What the hub's viewer and `datasets.load_dataset(NAME, CONFIG)` show, where any run has rows of it.
_CONFIGS = {"samples": "stored_samples", "runs": "runs", "problems": "problems", "calibrations": "calibrations"}
_CONFIGS |= {table: table for table in relations.TOKEN_TABLES}
_TAGS = ("rrti-sgl", "token-level-intervention", "logprobs")


@dataclass(frozen=True)
class PublishedRun:
    """What the index says of a run; one line of it each.

    Args:
        run_id, program, status, base_model, reasoning_model, problem_set: as in `runs`; of models that were folders, the
            folder's name alone.
        n_samples, n_tokens: what it holds.
        rows: table -> rows of its file.
        n_bytes: of its files.
        schema: revision of the schema that they have.
        manifest_sha256: of its manifest, which has the sums of its files.
    """

    run_id: str
    program: str
    status: str
    base_model: str
    reasoning_model: str
    problem_set: str
    n_samples: int
    n_tokens: int
    rows: dict[str, int]
    n_bytes: int
    schema: str
    manifest_sha256: str

    @classmethod
    def read(cls, folder: Path, manifest: Manifest) -> PublishedRun:
        """Of the folder of a sealed run that keeps to its manifest."""
        columns = ["program", "status", "base_model", "reasoning_model", "problem_set"]
        [said] = pq.read_table(relations.file_of(folder, "runs"), columns=columns).to_pylist()
        models = {name: _without_folders(said.pop(name)) for name in ("base_model", "reasoning_model")}
        return cls(
            run_id=manifest.run_id,
            **said,
            **models,
            n_samples=manifest.n_samples,
            n_tokens=manifest.n_tokens,
            rows={PurePath(name).stem: facts.rows for name, facts in manifest.files.items()},
            n_bytes=sum((folder / name).stat().st_size for name in manifest.files),
            schema=manifest.revision,
            manifest_sha256=folders.sha256(folder / relations.MANIFEST),
        )

    @property
    def benchmark(self) -> Benchmark | None:
        """Whose problems it has, where that is a benchmark by name."""
        return next((known for name, known in BENCHMARKS.items() if self.problem_set in (name, f"{name}-train")), None)


def _without_folders(model: str) -> str:
    """The name of a model: on the hub, or of its folder; paths of a machine are nobody's business."""
    path = PurePath(model)
    return path.name if path.is_absolute() or model.startswith((".", "~")) else model


def read_index(content: bytes, place: str) -> list[PublishedRun]:
    """The runs that an index lists.

    Raises:
        StoreError: it is none; says of which place.
    """
    try:
        rows = [json.loads(line) for line in content.decode().splitlines()]
        return TypeAdapter(list[PublishedRun]).validate_python(rows)
    except (ValueError, ValidationError) as error:
        raise StoreError(f"{INDEX} of {place} is no index of runs.", "Delete that file there, and push all runs.") from error


def write_index(runs: Sequence[PublishedRun]) -> bytes:
    """The index of runs: a JSON object a line, in order of their ids."""
    rows = sorted(runs, key=lambda run: run.run_id)
    return "".join(f"{json.dumps(asdict(run), ensure_ascii=False)}\n" for run in rows).encode()


def write_card(
    name: str,
    revision: str,
    runs: Sequence[PublishedRun],
    licences: Mapping[str, str | None],
    licence: str | None,
    before: str = "",
) -> bytes:
    """The card of a repository.

    Args:
        name, revision: of the repository, as queries name it.
        runs: all of its runs.
        licences: model -> its licence, None where it is not known.
        licence: of the traces; None: what the card says already.
        before: the card that is there. What somebody wrote into it outside of our part stays.
    """
    from huggingface_hub import DatasetCard

    card = DatasetCard(before if before.startswith("---") else f"---\n{{}}\n---\n{before}", ignore_metadata_errors=True)
    said: dict[str, Any] = card.data.to_dict()  # type: ignore[no-untyped-call]
    tags = [*(said.get("tags") or []), *(tag for tag in _TAGS if tag not in (said.get("tags") or []))]
    configs = [
        {"config_name": config, "data_files": f"runs/*/{table}.parquet", **({"default": True} if not place else {})}
        for place, (config, table) in enumerate(_CONFIGS.items())
        if not place or any(run.rows.get(table) for run in runs)
    ]
    said |= {"tags": tags, "configs": configs} | ({"license": licence} if licence else {})
    card.data = type(card.data)(ignore_metadata_errors=True, **said)
    ours = f"{BEGIN}\n\n{_text(name, revision, sorted(runs, key=lambda run: run.run_id), licences)}\n{END}"
    above, begun, rest = card.text.partition(BEGIN)
    below = rest.partition(END)[2] if begun else ""
    head = above.strip() or f"# {name}"
    card.text = f"\n{head}\n\n{ours}\n{below.strip()}".rstrip() + "\n"
    return str(card).encode()


def _text(name: str, revision: str, runs: Sequence[PublishedRun], licences: Mapping[str, str | None]) -> str:
    place = f"hf://datasets/{name}" + ("" if revision == "main" else f"@{revision}")
    option = "" if revision == "main" else f" --revision {revision}"
    sets = {run.problem_set: run.benchmark for run in runs}
    tables = [table for table in relations.TOKEN_TABLES if any(run.rows.get(table) for run in runs)]
    tokens = f"{place}/runs/*/{(tables or ['compact_tokens'])[-1]}.parquet"
    parts = [
        f"Token-level traces of {_counted(len(runs), 'run')} by rrti-sgl: "
        f"{_counted(sum(run.n_samples for run in runs), 'sample')}, "
        f"{_counted(sum(run.n_tokens for run in runs), 'token')}, {sum(run.n_bytes for run in runs) / 1e6:,.1f} MB. For "
        "each token: who wrote it, what the gate saw and decided, log-probabilities, divergences and entropies of a base "
        "and a reasoning model, and the most probable tokens of both.",
        "## Models\n\n" + _table(("model", "licence"), [(model, licences[model] or "not stated") for model in licences]),
        "## Problems\n\n"
        + _table(
            ("problem set", "from", "licence"),
            [
                (problem_set, known.hub if known else "", known.licence if known else "not stated")
                for problem_set, known in sorted(sets.items())
            ],
        ),
        "## Runs\n\n"
        + _table(
            ("run", "program", "status", "problems", "base model", "reasoning model", "samples", "tokens", "MB", "schema"),
            [
                (
                    *(run.run_id, run.program, run.status, run.problem_set, run.base_model, run.reasoning_model),
                    *(f"{run.n_samples:,}", f"{run.n_tokens:,}", f"{run.n_bytes / 1e6:,.1f}", run.schema),
                )
                for run in runs
            ],
        ),
        "## Files\n\nA folder `runs/RUN` has Parquet files of one run, and a manifest with their rows and SHA-256 sums; "
        f"[{SCHEMA}]({SCHEMA}) says what tables and columns mean, [{INDEX}]({INDEX}) has a line for each run. `sha256sum "
        "--check` takes the sums of the manifests:\n\n```text\n"
        + "".join(f"{run.manifest_sha256}  runs/{run.run_id}/{relations.MANIFEST}\n" for run in runs)
        + "```",
        "## Ask\n\nWith rrti-sgl, which compares every file with its manifest, joins the layouts of tokens into one view, "
        "and makes statistics and reports:\n\n```sh\n"
        f"rrti pull {name}{option} --db pulled.duckdb\n"
        'rrti sql "SELECT run_id, n_samples, n_tokens, rho, accuracy FROM run_view" --db pulled.duckdb\n'
        "rrti report --db pulled.duckdb\n```\n\nWith DuckDB alone, over the network:\n\n```sql\n"
        f"SELECT run_id, program, n_samples, n_tokens FROM '{place}/{INDEX}';\n\n"
        "SELECT run_id, count(*) AS samples, avg(correct::INTEGER) AS accuracy\n"
        f"FROM '{place}/runs/*/stored_samples.parquet' GROUP BY run_id;\n\n"
        "SELECT run_id, count(*) AS tokens, avg(fired::INTEGER) AS takeovers, avg(score) AS score\n"
        f"FROM '{tokens}' GROUP BY run_id;\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    from tabulate import tabulate

    cells = [[markdown(text) for text in row] for row in rows]
    return str(tabulate(cells, headers=head, tablefmt="pipe", disable_numparse=True))
