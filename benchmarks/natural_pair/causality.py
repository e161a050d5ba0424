"""Deny takeovers of guided solutions, and force tokens into the base model's own: ``python -m natural_pair.causality``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import rrti_sgl as rr
from natural_pair.expert_iteration import SERVER_FLAGS
from rrti_sgl.programs.experiments.finished import STORE, FinishedExperiment

# Wrong rollouts of the base model: where the reasoning model's favourite is another token than theirs.
_FORCED = """
    SELECT sample_id, list(position ORDER BY position) AS positions FROM tokens JOIN samples USING (run_id, sample_id)
    WHERE run_id = $run AND NOT correct AND reasoning_topk_ids[1] <> token_id
    GROUP BY sample_id ORDER BY sample_id LIMIT $n
"""
# Guided solutions, each with its changed takeovers.
_DENIED = """
    SELECT sample_id, NULL AS positions FROM samples
    WHERE run_id = $run AND n_changed > 0 ORDER BY sample_id LIMIT $n
"""
_DONE = "SELECT DISTINCT parent_sample_id AS sample FROM samples WHERE parent_sample_id IS NOT NULL"


def main(
    folder: Annotated[Path, typer.Argument(help="What `python -m natural_pair` made, with the experiment in it.")],
    label: Annotated[
        str, typer.Option(help="Run whose takeovers are denied, as the experiment calls it.")
    ] = "guided r=0.08",
    denied: Annotated[int, typer.Option(help="Guided solutions of the first evaluation whose takeovers are denied.")] = 20,
    forced: Annotated[int, typer.Option(help="Rollouts of the base model into which tokens are forced.")] = 5,
) -> None:
    """Every changed takeover of guided solutions, and every token of wrong base rollouts that both models would not write.

    Greedy continuations. Samples that were done before are left out; `rrti stats causality` pools what there is.
    """
    experiment = folder / "experiment"
    runs = FinishedExperiment.read(experiment).evaluations[0].runs
    base, reasoning = (str(folder / name) for name in ("base", "reasoning"))
    with (
        rr.serve(base=base, reasoning=reasoning, flags=SERVER_FLAGS, device="cpu", in_flight=32) as pair,
        rr.open(experiment / STORE) as store,
    ):
        done = {row["sample"] for row in store.sql(_DONE).data.to_pylist()}
        for query, run, n in ((_DENIED, runs[label], denied), (_FORCED, runs["diagnose"], forced)):
            for row in store.sql(query, {"run": run, "n": n}).data.to_pylist():
                if row["sample_id"] not in done:
                    found = pair.counterfactual(row["sample_id"], positions=row["positions"], store=store)
                    print(f"{row['sample_id']}: {len(found.effects)} positions", flush=True)


if __name__ == "__main__":
    typer.run(main)
