"""`rrti run counterfactual`: which takeovers of a stored sample were necessary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import typer

from rrti_sgl.cli import tables
from rrti_sgl.cli.pairing import PairAddress
from rrti_sgl.cli.progress import RunProgress
from rrti_sgl.cli.signals import run_async
from rrti_sgl.db.store import Store
from rrti_sgl.decoding.engine import Concurrency
from rrti_sgl.engines.pair import connect
from rrti_sgl.programs.running.counterfactual import Effect, parent_settings, run_counterfactual
from rrti_sgl.records import RunRecord


def run_and_print(
    db: Path,
    pair: PairAddress,
    sample: str,
    positions: Sequence[int] | None,
    continuations: int | None,
    temperature: float | None,
    concurrency: Concurrency,
    *,
    as_json: bool,
) -> None:
    """Run both arms at every position and print what each takeover did."""

    async def go(store: Store) -> tuple[RunRecord, list[Effect]]:
        settings = parent_settings(store, sample)
        chosen = temperature if temperature is not None else settings.temperature
        async with connect(
            pair.base_url, pair.reasoning_url, sampled=chosen > 0, special_tokens=settings.special_tokens
        ) as connected:
            with RunProgress() as progress:
                return await run_counterfactual(
                    store,
                    connected,
                    sample,
                    positions=positions,
                    continuations=continuations,
                    temperature=chosen,
                    concurrency=concurrency,
                    on_progress=progress.track("counterfactual"),
                )

    with Store.open(db, create=False) as store:
        record, effects = run_async(go(store))
    rows = [asdict(effect) | {"effect": effect.effect, "necessary": effect.necessary} for effect in effects]
    if as_json:
        tables.print_json(rows)
        return
    tables.print_table(rows, list(rows[0]))
    necessary = [effect.position for effect in effects if effect.necessary]
    named = ", ".join(map(str, necessary)) or "none"
    typer.echo(f"Necessary takeovers (right with, wrong without): {named}. Stored as run {record.run_id}.")
