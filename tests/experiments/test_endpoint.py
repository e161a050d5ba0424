"""Experiments through an endpoint, by their file or by `--endpoint-url`: checked and planned before it is asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rrti_sgl.cli.main import app, run
from rrti_sgl.db.store import Store
from rrti_sgl.programs.experiments.loading import load_experiment, shipped_text, through_endpoint
from rrti_sgl.serving.server import ServedPair
from tests.api.running import served
from tests.experiments.files import BASE, SMALL, checked, pair, write
from tests.experiments.test_bad_files import assert_told

URL = "http://127.0.0.1:9"
IN_FILE = SMALL.replace("[decoding]", f'[servers]\nbase_url = "{URL}/v1"\nreasoning_url = "{URL}/v1"\n[decoding]')


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("k = 0", 'decoding = "lockstep"', "decoding.decoding: lockstep decoding does not go through an endpoint"),
        ("k = 0", "exchanged = true", "decoding.exchanged: exchanged roles do not go through an endpoint"),
        ("k = 0", 'k = 5\nscore_kind = "plugin"', "decoding.score_kind: the servers' exact numbers do not go through"),
        ('program = "base"', 'program = "oracle"', r"programs\[0\].program: its gate knows the problem"),
        (
            "spike_ratio = 0.08",
            'gate = "rrti_sgl.science.gates:NeverGate"',
            r"programs\[1\].gate: an endpoint does not know it. Leave it out, or name the two servers",
        ),
    ],
    ids=lambda value: value[:32],
)
def test_what_does_not_go_through_is_told_by_its_field(tmp_path: Path, old: str, new: str, fault: str) -> None:
    assert old in SMALL
    _, _, faults = checked(write(tmp_path, IN_FILE.replace(old, new, 1)))
    assert_told(fault, faults)
    loaded = through_endpoint(load_experiment(write(tmp_path, SMALL.replace(old, new, 1))), URL)
    assert_told(fault, [str(complaint) for complaint in loaded.complaints.found])


def test_an_endpoint_has_no_third_model(tmp_path: Path) -> None:
    text = pair().replace("[calibration]", f"[models.reference]\nmodel = {str(BASE)!r}\n[calibration]")
    loaded = through_endpoint(load_experiment(write(tmp_path, text)), URL)
    assert_told("models.reference: an endpoint has no third model", [str(found) for found in loaded.complaints.found])


def test_the_address_takes_the_place_of_the_servers_that_the_file_starts(tmp_path: Path) -> None:
    own = '[servers]\nfused = true\nreplicas = 2\napi_key_env = "MY_KEY"\n[decoding]'
    loaded = through_endpoint(load_experiment(write(tmp_path, SMALL.replace("[decoding]", own))), f"{URL}/")
    servers = loaded.spec.servers
    assert (servers.base_url, servers.reasoning_url, servers.api_key_env) == (f"{URL}/v1", f"{URL}/v1", "MY_KEY")
    assert (servers.fused, servers.replicas, servers.through_endpoint) == (False, 1, True)
    assert not loaded.complaints.found


def test_the_dry_run_shows_the_one_request_of_a_sample(tmp_path: Path) -> None:
    file = write(tmp_path, SMALL.replace("limit = 4", "limit = 4\ntypical_tokens = 30"))
    command = ["experiment", file, "--endpoint-url", URL, "--dry-run"]
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0, shown.exception
    assert "POST /v1/completions, endpoint: a whole sample, with its trace" in shown.stdout
    plan = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert plan["servers"] == "running, behind an endpoint"
    [request] = plan["requests"]
    body, prompts = request["body"], plan["prompts"]
    assert body["prompt"] == prompts["base"]["token_ids"]
    assert body["rrti"]["sample"]["reasoning_prompt"] == prompts["reasoning"]["token_ids"]
    assert (body["max_tokens"], body["rrti"]["sample"]["k"]) == (prompts["max_new_tokens"], 56)
    assert [row["requests"] for row in plan["runs"] if row["run"] == "guided r=0.08"] == [4]


def test_an_address_where_no_endpoint_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["experiment", write(tmp_path, SMALL), "--out", str(tmp_path / "out"), "--endpoint-url"]
    assert run([*command, URL]) != 0
    assert f"GET {URL}/v1/pair failed" in capsys.readouterr().err
    assert run([*command, "nowhere"]) == 2
    assert "Endpoint address 'nowhere' is no URL" in capsys.readouterr().err


@pytest.mark.server
@pytest.mark.slow
def test_the_demonstration_through_an_endpoint_is_that_of_its_servers(
    served_pair: ServedPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, urls = "sixteen-letters-or-more", (served_pair.base.url, served_pair.reasoning.url)
    monkeypatch.setenv("RRTI_API_KEY", key)
    servers = f'[servers]\nbase_url = "{urls[0]}"\nreasoning_url = "{urls[1]}"\n[calibration]'
    direct = write(tmp_path, shipped_text("demo").replace("[calibration]", servers, 1))
    found = []
    with served(urls, key=key) as (url, _):
        for name, command in (("direct", [direct]), ("through", ["demo", "--endpoint-url", url])):
            out = tmp_path / name
            done = CliRunner().invoke(app, ["experiment", *command, "--limit", "12", "--out", str(out)])
            assert done.exit_code == 0, done.exception
            assert (out / "report" / "report.html").is_file()
            with Store.open_readonly(out / "traces.duckdb") as store:
                assert {run["status"] for run in store.sql("SELECT status FROM runs").to_pylist()} == {"finished"}
                # Of what is drawn, and of a threshold that is a score of the run itself (entropy like guided), the last bits
                # of a score decide, which differ from batch to batch.
                rows = store.sql(
                    "SELECT dense_rank() OVER (ORDER BY r.created_at) AS run, program, problem_id, sample_index,"
                    " json_extract_string(config, '$.gate.like') AS followed,"
                    " temperature = 0 AND NOT (program = 'entropy' AND followed IS NOT NULL) AS same,"
                    " CASE WHEN same THEN text END AS text, CASE WHEN same THEN n_takeovers END AS taken"
                    " FROM samples JOIN runs AS r USING (run_id) ORDER BY ALL"
                ).drop_columns("followed")  # an id
                found.append(rows.to_pylist())
    assert found[0] == found[1]
    assert {row["program"] for row in found[0]} >= {
        "diagnose",
        "guided",
        "entropy",
        "random",
        "matched",
        "early",
        "reasoning",
    }
    assert sum(row["taken"] or 0 for row in found[0]) > 20
