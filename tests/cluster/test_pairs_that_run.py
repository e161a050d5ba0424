"""`--pair-at`: pairs that run elsewhere take the place of those that the actors would start, in every command."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

pytest.importorskip("ray", reason="needs Ray: pip install 'rrti-sgl[ray]'")

from rrti_sgl.cli.clustering import ClusterOptions
from rrti_sgl.cli.main import run
from rrti_sgl.db.store import Store
from rrti_sgl.engines.transport import TransportLimits
from rrti_sgl.errors import PairMismatchError, UsageError
from rrti_sgl.programs.cluster import member
from rrti_sgl.programs.cluster.member import PairMember, PairOpening
from rrti_sgl.programs.experiments.loading import load_experiment, on_running
from rrti_sgl.programs.running.settings import RunSettings
from rrti_sgl.serving.opening import PairAddress
from rrti_sgl.serving.server import ServedPair
from tests.cluster.test_cluster import found_by_workers as found_by_workers
from tests.experiments.files import BASE, SMALL, pair, write

PAIR = "http://127.0.0.1:9,http://127.0.0.1:8"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"pair_at": ["nowhere"]}, "--pair-at 'nowhere' is no pair"),
        ({"pair_at": ["http://a:1,http://b:2,http://c:3"]}, "is no pair"),
        ({"pair_at": ["http://a:1,"]}, "is no pair"),
        ({"pair_at": [PAIR], "pairs": 2}, "--pairs and --pair-gpus are of pairs that are started"),
        ({"pair_at": [PAIR], "pair_gpus": 0.5}, "--pairs and --pair-gpus are of pairs that are started"),
        ({"pair_at": [PAIR], "ray": None}, "are of a cluster"),
        ({"parts": Path("parts"), "ray": None}, "are of a cluster"),
    ],
)
def test_options_that_name_no_pair_or_do_nothing_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        ClusterOptions(**{"ray": "local", **options}).check()


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert run(["experiment", "demo", "--ray", "local"]) == 2
    assert "--ray needs Ray, which is not installed.\n       pip install 'rrti-sgl[ray]'" in capsys.readouterr().err


def test_an_experiment_takes_them_in_place_of_its_own_servers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, SMALL.replace("[decoding]", "[servers]\nfused = true\nreplicas = 2\n[decoding]"))
    assert run(["experiment", file, "--ray", "local", "--pair-at", PAIR, "--dry-run"]) == 0
    assert "servers    running" in capsys.readouterr().out
    assert run(["experiment", file, "--ray", "local", "--endpoint-url", "http://127.0.0.1:9"]) == 2
    assert "Name each pair: --pair-at" in capsys.readouterr().err


def test_they_have_no_third_model(tmp_path: Path) -> None:
    text = pair().replace("[calibration]", f"[models.reference]\nmodel = {str(BASE)!r}\n[calibration]")
    [found] = on_running(load_experiment(write(tmp_path, text)), *PAIR.split(",")).complaints.found
    assert "models.reference: a pair that runs has no third model" in str(found)


def test_another_version_on_a_machine_is_told_before_its_servers_start(tmp_path: Path) -> None:
    one = PairMember(PairOpening(*PAIR.split(",")), tmp_path)
    with pytest.raises(PairMismatchError, match=r"has rrti-sgl .*, and the driver 0\.0\.1\."):
        asyncio.run(one.pair("0.0.1"))


def test_a_server_that_its_actor_started_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody starts it again but Ray, with a new actor; one that runs elsewhere may come back."""
    waited: list[float] = []

    @contextmanager
    def opened(*models: Any, **more: Any) -> Iterator[PairAddress]:
        yield PairAddress("http://a:1", "http://b:2", None if models[0] else cast("ServedPair", object()))

    @asynccontextmanager
    async def session(*addresses: Any, limits: TransportLimits, **more: Any) -> AsyncIterator[None]:
        waited.append(limits.patience_s)
        yield

    async def open_it(opening: PairOpening) -> None:
        async with opening():
            pass

    monkeypatch.setattr(member.opening, "open_pair", opened)
    monkeypatch.setattr(member, "open_session", session)
    connecting = {"limits": TransportLimits(patience_s=30.0)}
    asyncio.run(open_it(PairOpening(connecting=connecting)))
    asyncio.run(open_it(PairOpening(*PAIR.split(","), connecting=connecting)))
    assert waited == [0.0, 30.0]


TOKENS = """
    SELECT program, problem_id, sample_index,
        list(token_id ORDER BY position) AS ids, list(score ORDER BY position) AS scores
    FROM runs JOIN samples USING (run_id) JOIN tokens USING (run_id, sample_id)
    GROUP BY ALL ORDER BY program, problem_id, sample_index
"""


@pytest.mark.slow
@pytest.mark.server
def test_every_command_makes_the_rows_that_it_makes_without_ray(tmp_path: Path, served_pair: ServedPair) -> None:
    base, reasoning = served_pair.base.url, served_pair.reasoning.url
    texts, experiment = tmp_path / "texts.jsonl", write(tmp_path, SMALL)
    problems = RunSettings("base", "world:heldout", 9).load_problems().problems
    texts.write_text("".join(json.dumps({"problem_id": p.problem_id, "text": p.answer}) + "\n" for p in problems))
    in_file = f'[servers]\nbase_url = "{base}"\nreasoning_url = "{reasoning}"\n[decoding]'
    on_servers = write(tmp_path, SMALL.replace("[decoding]", in_file), "on_servers.toml")
    rows = []
    for name, addresses, file in (
        ("one", ["--base-url", base, "--reasoning-url", reasoning], on_servers),
        ("many", ["--ray", "local", "--pair-at", f"{base},{reasoning}", "--pair-at", f"{base},{reasoning}"], experiment),
    ):
        out = tmp_path / name
        db = ["--db", str(out / "traces.duckdb")]
        assert run(["experiment", file, "--out", str(out), *(addresses if name == "many" else ())]) == 0
        assert run(["run", "entropy", "--tau", "1.0", "--limit", "20", *db, *addresses]) == 0
        assert run(["score", "--input", str(texts), "--problems", "world:heldout", *db, *addresses]) == 0
        with Store.open_readonly(out / "traces.duckdb") as store:
            rows.append(store.sql(TOKENS).to_pylist())
    assert len(rows[0]) == 12 + 3 * 4 + 20 + 9
    for before, after in zip(*rows, strict=True):
        scores = (np.array(row.pop("scores"), float) for row in (before, after))
        np.testing.assert_allclose(*scores, rtol=1e-4, atol=1e-4)
        assert before == after
