"""The public face on real servers; that `rr.serve` starts them is seen in the notebook's test."""

from __future__ import annotations

from pathlib import Path

import pytest

import rrti_sgl as rr
from rrti_sgl.serving.server import ServedPair

pytestmark = pytest.mark.server


def test_the_first_look(served_pair: ServedPair, tmp_path: Path) -> None:
    with (
        rr.connect(served_pair.base.url, served_pair.reasoning.url) as pair,
        rr.open(tmp_path / "t.duckdb") as store,
    ):
        assert pair.models == ("bundled/base", "bundled/reasoning")
        run = pair.run("guided", problems="world:heldout", limit=10, tau=0.5, store=store)
        sample = run.samples[0]
        assert sample.problem.question.split()[0] in repr(sample)
        assert "<span" in sample._repr_html_()
        assert len(sample.tokens.to_pandas()) == sample.record.n_tokens
        assert run.statistic("accuracy").to_pandas()["accuracy"].item() > 0.5
        answered = pair.generate("how many has ann ?")
        assert answered.run.tau == 0.5
        assert answered.record.n_tokens > 0
        again = pair.generate(sample.problem.question)
        assert again.trace.tokens.token_id.tolist() == sample.trace.tokens.token_id.tolist()
    with pytest.raises(rr.UsageError, match="is closed"):
        pair.generate("how many has ann ?", tau=0.5)
