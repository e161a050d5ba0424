"""What `rrti experiment` prints: the plan of a dry run, and the results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from rrti_sgl.cli import tables
from rrti_sgl.cli.experiment_run import ExperimentResult
from rrti_sgl.cli.terminal import console as safe_console
from rrti_sgl.cli.terminal import say
from rrti_sgl.programs.experiments.estimates import CellCost
from rrti_sgl.programs.experiments.plan import Plan, PlannedCell, ShownPrompts, ShownRequest
from rrti_sgl.programs.experiments.results import compared_tables
from rrti_sgl.programs.experiments.spec import ModelSpec
from rrti_sgl.programs.tables.numbers import BYTES, ROUGH
from rrti_sgl.programs.tables.safe_text import json_text, one_line, visible
from rrti_sgl.programs.tables.table import Column, rows_table
from rrti_sgl.programs.tables.table import Table as ResultTable

SHOWN_IDS = 8
SHOWN_CHARACTERS = 1_500


def print_results(result: ExperimentResult, *, as_json: bool) -> None:
    """The tables, and where everything is."""
    if as_json:
        rows = [
            {"evaluation": evaluation, "run": label, "run_id": run} for (evaluation, label), run in result.runs.runs.items()
        ]
        shown = [{"title": table.title, "rows": table.data.to_pylist()} for table in result.tables]
        tables.print_json([{"store": str(result.store), "report": str(result.report), "runs": rows, "tables": shown}])
        return
    _print_alike(result.tables)
    say("")
    tables.print_facts({"Store": result.store, "Report": result.report})


def print_compared(folders: Sequence[Path], *, as_json: bool) -> None:
    """Finished experiments side by side, one table for each problem set."""
    found = compared_tables(folders)
    if as_json:
        tables.print_json([{"title": table.title, "rows": table.data.to_pylist()} for table in found])
        return
    _print_alike(found)


def _print_alike(found: Sequence[ResultTable]) -> None:
    """Tables of the same columns: what these are is said once."""
    tables.print_tables([*(replace(table, notes=()) for table in found[:-1]), *found[-1:]])


def print_plan(plan: Plan, source: str, *, as_json: bool) -> None:
    """What would be done, with prompts and requests."""
    if as_json:
        say(json_text(json.dumps(plan.to_dict(), indent=2, ensure_ascii=False)))
        return
    console = safe_console()
    console.print(plan.spec.title, style="bold")
    console.print(f"{source}: everything that can be checked here is right.\n", soft_wrap=True)
    models = plan.spec.models.by_role
    tables.print_facts(
        {role: _model_line(model) for role, model in models.items()} | {"servers": plan.servers, "out": str(plan.spec.out)}
    )
    _print_runs(console, plan.cells)
    if plan.notes:
        console.print("\nNotes", style="bold")
    listed = Table.grid(padding=(0, 1))
    for note in plan.notes:
        listed.add_row("-", Text(visible(note)))
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
    rows = [{"runs": name, **_costs(group)} for name, group in groups.items()]
    rows.append({"runs": f"all {len(cells)} runs", **_costs(cells)})
    columns = [
        Column("runs", ""),
        Column("samples"),
        Column("tokens", kind=ROUGH),
        Column("most_tokens", "at most", ROUGH),
        Column("requests", kind=ROUGH),
        Column("disk_bytes", "disk", BYTES),
        Column("most_disk_bytes", "at most", BYTES),
    ]
    notes = (
        "tokens: with solutions of the file's typical_tokens; at most: with solutions as long as they may be. disk: by the "
        "bytes that a token takes at this k (benchmarks/store.py)."
    )
    console.print("", rows_table("The runs", rows, columns, notes=[notes]), sep="\n")
    by_labels: dict[tuple[str, ...], list[str]] = {}
    for name, group in groups.items():
        by_labels.setdefault(tuple(planned.cell.label for planned in group), []).append(name)
    for labels, names in by_labels.items():
        console.print(f"{', '.join(names)}: {'; '.join(labels)}")


def _costs(cells: Sequence[PlannedCell]) -> dict[str, int | None]:
    return {each.name: _sum([getattr(planned.cost, each.name) for planned in cells]) for each in fields(CellCost)}


def _sum(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _print_prompts(console: Console, shown: ShownPrompts) -> None:
    job = shown.job
    console.print(f"\nThe prompts of problem {job.problem.problem_id} of {shown.evaluation}", style="bold")
    sides = (
        ("base", job.base_prompt, job.base_prompt_ids),
        ("reasoning", job.reasoning_prompt, job.reasoning_prompt_ids),
    )
    for (name, text, ids), context in zip(sides, shown.contexts, strict=True):
        room = f" of {context:,}" if context is not None else ""
        title = f"{name}: {len(ids):,} tokens, with a solution {len(ids) + shown.max_new_tokens:,}{room}"
        body = text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + " ..."
        console.print(Panel(Text(visible(body)), title=Text(one_line(title)), title_align="left"))
    if job.problem.answer is not None:
        console.print(f"gold answer: {job.problem.answer[-200:]}")


def _print_request(console: Console, request: ShownRequest) -> None:
    console.print(f"\nPOST {request.route}, {request.server}: {request.purpose}", style="bold")
    lines = ",\n".join(
        f'  "{name}": {json.dumps(_short(value), ensure_ascii=False)}' for name, value in request.body.items()
    )
    console.print("{\n" + lines + "\n}")


def _short(value: Any) -> Any:
    """Long lists of token ids with their middle left out."""
    if isinstance(value, list) and len(value) > SHOWN_IDS + 2 and all(isinstance(item, int) for item in value):
        half = SHOWN_IDS // 2
        return [*value[:half], f"... {len(value) - SHOWN_IDS} ids ...", *value[-half:]]
    return [_short(item) for item in value] if isinstance(value, list) else value
