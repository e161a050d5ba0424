"""Training sets made of traces: takeovers as preference pairs, and what both models say of each token of a rollout.

Both are rows in the columns that trainers read: `prompt`, `chosen` and `rejected` as TRL's DPO trainer takes them, and
`prompt` and `completion` with one number a token for distillation on the student's own rollouts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa

from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError, command

_DIR = Path(__file__).parent / "training"
TRAINING_SETS: Final = ("preferences", "distillation")
_LACKING: Final = {
    "preferences": "no position of a counterfactual run at which one token was right more often than the other",
    "distillation": "no sample with scores of both models",
}


def training_rows(store: Store, name: str, run: str | Sequence[str] | None = None) -> pa.Table:
    """The rows of a training set.

    Args:
        store: where the traces are.
        name: one of `TRAINING_SETS`; "preferences" are of counterfactual runs, whose two arms continue one beginning with
            the reasoning model's and with the base model's token.
        run: run ids, prefixes of them or program names; None takes every run that has what the set needs.

    Raises:
        UsageError: no run has it.
    """
    if run is None:
        runs = store.sql("SELECT run_id FROM runs ORDER BY run_id").column(0).to_pylist()
    else:
        named = [run] if isinstance(run, str) else run
        runs = list(dict.fromkeys(found.run_id for each in named for found in store.find_runs(each)))
    rows = store.sql((_DIR / f"{name}.sql").read_text(encoding="utf-8"), {"runs": runs})
    if not rows.num_rows:
        where = "the store" if run is None else ", ".join(runs)
        making = {"preferences": "counterfactual", "distillation": "score"}[name]
        raise UsageError(f"There is {_LACKING[name]} in {where}.", f"Make one: {command(making)}.")
    return rows
