"""`rrti grade`: grade a stored run again, with another grader."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rrti_sgl.cli.terminal import console, say


def grade(
    run: Annotated[str, typer.Argument(help="Run id, or enough of its beginning.")],
    grader: Annotated[
        str, typer.Option(metavar="NAME", help="last-number, math-verify, choice, world, or PKG.MODULE:CLASS.")
    ],
    db: Annotated[Path, typer.Option(help="The trace store.")] = Path("traces.duckdb"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and store nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print counts and changed samples as JSON.")] = False,
) -> None:
    """Grade the samples of a stored run again; nothing is generated.

    The run keeps its samples and says who graded them before.
    """
    from rrti_sgl.cli import tables
    from rrti_sgl.db.store import Store
    from rrti_sgl.errors import UsageError
    from rrti_sgl.programs.stored.regrade import regrade

    with Store.open_readonly(db) if dry_run else Store.open(db, create=False) as store:
        found = store.find_runs(run)
        if len(found) > 1:
            raise UsageError(f"{run!r} names {len(found)} runs.", f"Name one: {', '.join(r.run_id for r in found[-4:])}.")
        with console(stderr=True).status(f"Grading {found[0].run_id} ..."):
            result = regrade(store, found[0].run_id, grader, keep=dry_run)
    changed = [
        {
            "sample_id": sample.sample_id,
            "problem_id": sample.problem_id,
            "answer_before": sample.before.answer,
            "answer": sample.now.answer,
            "method": sample.now.method,
            "correct_before": sample.before.correct,
            "correct": sample.now.correct,
            "truncated": sample.truncated,
        }
        for sample in result.changed
    ]
    if json:
        return tables.print_json([result.summary() | {"methods": result.methods, "changed": changed}])
    tables.print_facts(result.summary())
    methods = [{"method": name, "samples": count} for name, count in result.methods.most_common()]
    tables.print_rows(methods, "How the answers were found")
    tables.print_rows(changed[:20], f"Changed{' (the first 20)' if len(changed) > 20 else ''}")
    return say("Nothing was stored." if dry_run else f"Stored in {db}.")
