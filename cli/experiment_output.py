"""What `rrti experiment` prints: the plan of a dry run, and the results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import typer
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from rrti_sgl.cli import tables
from rrti_sgl.cli.experiment_run import ExperimentResult
from rrti_sgl.cli.summaries import print_facts, print_text_table
from rrti_sgl.programs.experiments import ModelSpec
from rrti_sgl.programs.experiments.plan import Plan, PlannedCell, ShownPrompts, ShownRequest
from rrti_sgl.programs.experiments.preflight import models_of

SHOWN_IDS = 8
SHOWN_CHARACTERS = 1_500


def print_results(result: ExperimentResult, *, as_json: bool) -> None:
    """The tables, and where everything is."""
    if as_json:
        rows = [
            {"evaluation": evaluation, "run": label, "run_id": run} for (evaluation, label), run in result.runs.runs.items()
        ]
        shown = [{"title": table.title, "columns": table.columns, "rows": table.rows} for table in result.tables]
        tables.print_json([{"store": str(result.store), "report": str(result.report), "runs": rows, "tables": shown}])
        return
    console = Console()
    for table in result.tables:
        print_text_table(console, table.title, table.columns, table.rows, table.notes if table is result.tables[-1] else "")
    typer.echo("")
    print_facts({"Store": result.store, "Report": result.report})


def print_plan(plan: Plan, *, as_json: bool) -> None:
    """What would be done, with prompts and requests."""
    if as_json:
        typer.echo(json.dumps(plan.to_dict(), indent=2, ensure_ascii=False))
        return
    console = Console(highlight=False)
    console.print(plan.spec.title, style="bold")
    console.print(f"{plan.spec.source}: everything that can be checked here is right.\n", soft_wrap=True)
    models = models_of(plan.spec)
    print_facts({side: _model_line(model) for side, model in models.items()} | {"out": str(plan.spec.out)})
    _print_runs(console, plan.cells)
    if plan.notes:
        console.print("\nNotes", style="bold")
    listed = Table.grid(padding=(0, 1))
    for note in plan.notes:
        listed.add_row("-", Text(note))
    console.print(listed)
    if plan.prompts is not None:
        _print_prompts(console, plan.prompts)
    for request in plan.requests:
        _print_request(console, request)
    console.print("\nNothing was started. Leave out --dry-run to run it.")


def _model_line(model: ModelSpec) -> str:
    return model.model + (f"   (tokenizer {model.tokenizer})" if model.tokenizer else "")


def _print_runs(console: Console, cells: Sequence[PlannedCell]) -> None:
    groups: dict[str, list[PlannedCell]] = {}
    for planned in cells:
        groups.setdefault(planned.cell.evaluation.name, []).append(planned)
    rows = [[name, *_costs(group)] for name, group in groups.items()]
    rows.append([f"all {len(cells)} runs", *_costs(cells)])
    columns = ["", "samples", "tokens", "at most", "requests", "disk", "at most"]
    notes = (
        "tokens: with solutions of the file's typical_tokens; at most: with solutions as long as they may be. disk: by the "
        "bytes that a token takes at this k (benchmarks/store.py)."
    )
    print_text_table(console, "The runs", columns, rows, notes)
    by_labels: dict[tuple[str, ...], list[str]] = {}
    for name, group in groups.items():
        by_labels.setdefault(tuple(planned.cell.label for planned in group), []).append(name)
    for labels, names in by_labels.items():
        console.print(f"{', '.join(names)}: {'; '.join(labels)}", markup=False)


def _costs(cells: Sequence[PlannedCell]) -> list[str]:
    costs = [planned.cost for planned in cells]
    tokens = _sum([cost.tokens for cost in costs])
    disk = _sum([cost.disk_bytes for cost in costs])
    return [
        f"{sum(cost.samples for cost in costs):,}",
        counted(tokens),
        counted(sum(cost.most_tokens for cost in costs)),
        counted(_sum([cost.requests for cost in costs])),
        bytes_text(disk),
        bytes_text(sum(cost.most_disk_bytes for cost in costs)),
    ]


def _sum(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _print_prompts(console: Console, shown: ShownPrompts) -> None:
    pair = shown.pair
    console.print(f"\nThe prompts of problem {pair.problem.problem_id} of {shown.evaluation}", style="bold")
    sides = (("base", pair.base_text, pair.base_ids), ("reasoning", pair.reasoning_text, pair.reasoning_ids))
    for (name, text, ids), context in zip(sides, shown.contexts, strict=True):
        room = f" of {context:,}" if context is not None else ""
        title = f"{name}: {len(ids):,} tokens, with a solution {len(ids) + shown.max_new_tokens:,}{room}"
        body = text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + " ..."
        console.print(Panel(Text(body), title=Text(title), title_align="left"))
    if pair.problem.answer is not None:
        console.print(f"gold answer: {pair.problem.answer[-200:]}", markup=False)


def _print_request(console: Console, request: ShownRequest) -> None:
    console.print(f"\nPOST /generate of the {request.server} server: {request.purpose}", style="bold")
    lines = ",\n".join(
        f'  "{name}": {json.dumps(_short(value), ensure_ascii=False)}' for name, value in request.body.items()
    )
    console.print("{\n" + lines + "\n}", markup=False)


def _short(value: Any) -> Any:
    """Long lists of token ids with their middle left out."""
    if isinstance(value, list) and len(value) > SHOWN_IDS + 2 and all(isinstance(item, int) for item in value):
        half = SHOWN_IDS // 2
        return [*value[:half], f"... {len(value) - SHOWN_IDS} ids ...", *value[-half:]]
    return [_short(item) for item in value] if isinstance(value, list) else value


def counted(number: int | None) -> str:
    """`950`, `12.3k`, `4.56M`, `1.2G`; `?` for what is not known."""
    if number is None:
        return "?"
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)


def bytes_text(number: int | None) -> str:
    """`12 MB`, `3.4 GB`; `?` for what is not known."""
    if number is None:
        return "?"
    for size, unit in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number / 1000:.3g} kB"
