"""The rows that `decoding.py` measures: medians, the file that keeps them, and the tables of docs/performance.md."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

TRACED = "trace"
METHODS = ("fused", TRACED, "chunked", "lockstep", "base", "reasoning")
"""`fused` once for each length of drafts; `trace` the same with the first of them and lists of 20 told of each token."""

OURS = ("8", "pace", "chunked")
"""What stands beside both models alone: one server with drafts of 8 and by pace, and two servers."""


@dataclass(frozen=True)
class Row:
    """One measured cell of the table; medians over the repetitions."""

    suite: str
    pair: str
    method: str
    sequences: int
    spike_ratio: float
    threads: int
    cores: int
    drafts: str
    takeover_rate: float
    tokens_per_s: float
    tokens: int
    discarded_share: float
    base_cached_share: float
    reasoning_cached_share: float
    cpu_ms_base: float
    cpu_ms_reasoning: float
    cpu_ms_client: float
    repetitions: int

    @property
    def cell(self) -> tuple[object, ...]:
        """What rows that are compared have in common."""
        return self.pair, self.threads, self.cores, self.sequences, self.spike_ratio


def median_row(rows: Sequence[Row]) -> Row:
    """Field by field the median of repeated measurements."""
    values: dict[str, Any] = asdict(rows[0])
    for name, value in values.items():
        if isinstance(value, float):
            values[name] = statistics.median(getattr(row, name) for row in rows)
    return Row(**values | {"repetitions": len(rows)})


def markdown(rows: Sequence[Row]) -> str:
    """Every row with all that was measured."""
    lines = [
        "| pair | threads / cores | in flight | r | method | drafts | takeovers | tok/s | of base | of reasoning "
        "| thrown away | CPU ms/token: servers | client |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cell = {other.method: other.tokens_per_s for other in rows if other.cell == row.cell}
        shares = [f"{row.tokens_per_s / cell[model]:.2f}" if model in cell else "" for model in ("base", "reasoning")]
        ours = row.method not in ("base", "reasoning")
        lines.append(
            f"| {row.pair} | {row.threads} / {row.cores or 'all'} | {row.sequences} | {row.spike_ratio:.2f} "
            f"| {row.method} | {row.drafts} "
            f"| {f'{row.takeover_rate:.3f}' if ours else ''} | {row.tokens_per_s:.0f} | {shares[0]} | {shares[1]} "
            f"| {f'{row.discarded_share:.2f}' if ours else ''} "
            f"| {row.cpu_ms_base + row.cpu_ms_reasoning:.2f} | {row.cpu_ms_client:.2f} |"
        )
    return "\n".join(lines)


def side_by_side(rows: Sequence[Row]) -> str:
    """The table of one server, two servers and each model alone, a line for a cell; speeds as parts of base alone."""
    lines = [
        "| pair | threads | r | in flight | base alone, tok/s | drafts of 8 | by pace | two servers | reasoning alone "
        "| by pace ÷ reasoning alone | two servers ÷ reasoning alone | thrown away: 8 / pace / two servers |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    cells: dict[tuple[object, ...], dict[str, Row]] = {}
    for row in rows:
        name = ("pace" if row.drafts.endswith("/pace") else row.drafts) if row.method == "fused" else row.method
        cells.setdefault(row.cell, {})[name] = row
    for cell in cells.values():
        first = next(iter(cell.values()))

        def share(name: str, of: str, cell: Mapping[str, Row] = cell) -> str:
            return two_places(cell[name].tokens_per_s / cell[of].tokens_per_s) if name in cell and of in cell else ""

        base = f"{cell['base'].tokens_per_s:.0f}" if "base" in cell else ""
        speeds = " | ".join(share(name, "base") for name in (*OURS, "reasoning"))
        thrown = " / ".join(two_places(cell[name].discarded_share) if name in cell else "" for name in OURS)
        lines.append(
            f"| {first.pair} | {first.threads} | {two_places(first.spike_ratio)} | {first.sequences} | {base} | {speeds} "
            f"| {share('pace', 'reasoning')} | {share('chunked', 'reasoning')} | {thrown} |"
        )
    return "\n".join(lines)


def two_places(number: float) -> str:
    """.85, 1.02"""
    return f"{number:.2f}".removeprefix("0")


def stored_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of every suite that were measured so far."""
    rows: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    return rows


def decoding_rows(stored: Sequence[dict[str, Any]]) -> list[Row]:
    """Those of this benchmark, cell by cell."""
    names = {entry.name for entry in fields(Row)}
    rows = [Row(**row) for row in stored if row["suite"] == "decoding" and set(row) == names]
    return sorted(rows, key=lambda row: (row.cell, METHODS.index(row.method)))


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """Replace the rows that were measured again, keep the others."""

    def key(row: Row) -> tuple[object, ...]:
        return (*row.cell, row.method, row.drafts)

    stored = stored_rows(path)
    again = set(map(key, rows))
    kept = [row for row in decoding_rows(stored) if key(row) not in again]
    others = [row for row in stored if row["suite"] != "decoding"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([*others, *map(asdict, [*kept, *rows])], indent=1) + "\n")
