"""Sealed runs go to a repository and come back equal; what is there stays, what does not fit is refused."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
import yaml
from huggingface_hub import constants
from typer.testing import CliRunner

from rrti_sgl.cli.main import app
from rrti_sgl.db import attaching, checking
from rrti_sgl.db.store import Store
from rrti_sgl.errors import EndpointError, StoreError, UsageError
from rrti_sgl.programs.publishing import card
from rrti_sgl.programs.publishing.pulling import pull
from rrti_sgl.programs.publishing.pushing import push
from tests.publishing.conftest import fill
from tests.publishing.hub import WRITER, Hub

# `huggingface_hub` uploads large files so.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw bytes:DeprecationWarning")

REPO = "us/traces"
TABLES = ("runs", "problems", "calibrations", "samples", "tokens")


def content(path: Path) -> dict[str, list[dict[str, object]]]:
    with Store.open_readonly(path) as store:
        return {table: store.sql(f"FROM {table} ORDER BY ALL").to_pylist() for table in TABLES}


def ids(runs: list[card.PublishedRun]) -> list[str]:
    return [run.run_id for run in runs]


# -- there and back -------------------------------------------------------------------------------------------------


def test_pulled_rows_are_those_that_were_pushed(hub: Hub, ours: Path, tmp_path: Path) -> None:
    pushed = push(ours, REPO)
    assert ids(pushed.new) == ["a", "b"]
    theirs = tmp_path / "theirs.duckdb"
    pulled = pull(theirs, REPO)
    assert pulled.commit == pushed.commit == hub.repos[REPO].branches["main"]
    assert [(run.run_id, run.samples, run.tokens, run.known_samples) for run in pulled.runs] == [
        ("a", 2, 6, 0),
        ("b", 2, 6, 0),
    ]
    assert content(theirs) == content(ours)
    assert checking.check(theirs) == []
    asked = len(hub.asked)
    assert [run.known_samples for run in pull(theirs, REPO).runs] == [2, 2]  # again: nothing is new, nothing fetched
    assert [line for line in hub.asked[asked:] if "/resolve/" in line] == []
    assert content(theirs) == content(ours)


def test_what_another_tool_downloaded_is_attached(hub: Hub, ours: Path, tmp_path: Path) -> None:
    from huggingface_hub import snapshot_download

    push(ours, REPO)
    snapshot_download(REPO, repo_type="dataset", local_dir=tmp_path / "files")
    attaching.attach(tmp_path / "theirs.duckdb", [tmp_path / "files"])
    assert content(tmp_path / "theirs.duckdb") == content(ours)


def test_commands(hub: Hub, ours: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["push", REPO, "--db", str(ours), "--run", "a", "--licence", "mit"])
    assert done.exit_code == 0, done.output
    assert "us/traces: run a: 2 samples, 6 tokens" in done.output
    again = CliRunner().invoke(app, ["push", REPO, "--db", str(ours)])
    assert "run a is there already" in again.output
    assert "run b: 2 samples" in again.output
    theirs = ["--db", str(tmp_path / "theirs.duckdb")]
    done = CliRunner().invoke(app, ["pull", REPO, "--run", "a", *theirs])
    assert done.exit_code == 0, done.output
    assert "run a (finished): 2 new samples, 6 tokens" in done.output
    query = "SELECT run_id, n_samples, n_tokens, accuracy FROM run_view"
    done = CliRunner().invoke(app, ["sql", query, "--json", *theirs])
    assert json.loads(done.output) == [{"run_id": "a", "n_samples": 2, "n_tokens": 6, "accuracy": 1.0}]


# -- what is there already ------------------------------------------------------------------------------------------


def test_pushing_twice_changes_nothing(hub: Hub, ours: Path) -> None:
    first = push(ours, REPO, licence="mit")
    uploads = hub.count("PUT")
    again = push(ours, REPO)
    assert (ids(again.new), ids(again.known)) == ([], ["a", "b"])
    assert again.commit == first.commit
    assert hub.count("PUT") == uploads
    assert hub.repos[REPO].messages == ["initial commit", "Add a, b"]


def test_a_repository_that_is_there_keeps_what_it_has(hub: Hub, ours: Path, tmp_path: Path) -> None:
    push(ours, REPO, runs=["a"], licence="mit")
    repo = hub.repos[REPO]
    page = repo.files()["README.md"].decode()
    by_hand = (
        page.replace("tags:", "language: en\ntags:").replace("# us/traces", "# Our own title\n\nOur own words.")
        + "\nBelow.\n"
    )
    repo.commit("main", repo.files() | {"README.md": by_hand.encode(), "notes.txt": b"x"}, "by hand")
    fill(tmp_path / "more.duckdb", "c", problem_set="gsm8k")
    push(tmp_path / "more.duckdb", REPO)
    files = repo.files()
    assert files["notes.txt"] == b"x"
    assert ids(card.read_index(files["index.jsonl"], "")) == ["a", "c"]
    page = files["README.md"].decode()
    assert page.count("Our own words.") == page.count("Below.") == page.count("## Runs") == page.count(card.BEGIN) == 1
    said = yaml.safe_load(page.split("---\n")[1])
    assert (said["license"], said["language"]) == ("mit", "en")
    assert "| gsm8k" in page
    assert "| tiny" in page
    theirs = tmp_path / "theirs.duckdb"
    assert [run.run_id for run in pull(theirs, REPO).runs] == ["a", "c"]


def test_a_run_with_another_content_is_replaced_when_asked_for(hub: Hub, ours: Path, tmp_path: Path) -> None:
    push(ours, REPO)
    other = fill(tmp_path / "other.duckdb", "a", correct=False)
    before = hub.repos[REPO].files()
    with pytest.raises(UsageError, match=r"Run a is in us/traces already, with another content\. .*replace=True"):
        push(other, REPO)
    assert hub.repos[REPO].files() == before
    assert ids(push(other, REPO, replace=True).new) == ["a"]
    theirs = tmp_path / "theirs.duckdb"
    pull(theirs, REPO)
    assert {row["correct"] for row in content(theirs)["samples"] if row["run_id"] == "a"} == {False}
    mixed = fill(tmp_path / "mixed.duckdb", "a")  # and a store that has the first one refuses the second
    with pytest.raises(StoreError, match="is not the same"):
        pull(mixed, REPO)


def test_two_who_push_at_once(hub: Hub, ours: Path) -> None:
    push(ours, REPO, runs=["a"])
    repo = hub.repos[REPO]

    def someone(method: str, path: str) -> None:
        if method == "PUT":
            repo.commit("main", repo.files() | {"x": b"x"}, "somebody else's")

    hub.refuse = someone
    with pytest.raises(EndpointError, match=r"us/traces was changed by somebody else meanwhile\. Push again"):
        push(ours, REPO)
    hub.refuse = lambda method, path: None
    assert ids(push(ours, REPO).new) == ["b"]
    assert "x" in repo.files()


# -- cut off --------------------------------------------------------------------------------------------------------


def test_an_interrupted_push_goes_on(hub: Hub, ours: Path) -> None:
    hub.refuse = lambda method, path: 507 if method == "PUT" and len(hub.blobs) >= 3 else None
    with pytest.raises(EndpointError, match=r"refuses us/traces.*transferred twice"):
        push(ours, REPO)
    assert hub.repos[REPO].messages == ["initial commit"]  # nothing of it is seen
    uploaded = dict(hub.blobs)
    assert len(uploaded) >= 3
    hub.refuse = lambda method, path: None
    asked = len(hub.asked)
    push(ours, REPO)
    again = {line.rpartition("/")[2] for line in hub.asked[asked:] if line.startswith("PUT")}
    assert again
    assert not again & set(uploaded)


def test_a_killed_push_goes_on(hub: Hub, ours: Path, tmp_path: Path) -> None:
    """The process itself, by `kill -9` in the middle of the uploads; it finds hub, token and cache by the variables."""
    variables = {"HF_ENDPOINT": hub.url, "HF_TOKEN": WRITER, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-m", "rrti_sgl.cli.main", "push", REPO, "--db", str(ours)]
    started = subprocess.Popen(command, env=os.environ | variables, stderr=subprocess.PIPE)

    def kill(method: str, path: str) -> None:
        if method == "PUT" and sum(line.startswith("PUT") for line in hub.asked) >= 3:  # several come at the same time
            started.send_signal(signal.SIGKILL)

    hub.refuse = kill
    assert started.communicate()[1] == b""
    assert started.returncode == -signal.SIGKILL
    assert hub.repos[REPO].messages == ["initial commit"]
    hub.refuse = lambda method, path: None
    assert ids(push(ours, REPO).new) == ["a", "b"]


def test_an_interrupted_pull_goes_on(hub: Hub, ours: Path, tmp_path: Path) -> None:
    push(ours, REPO)
    theirs = tmp_path / "theirs.duckdb"
    hub.refuse = lambda method, path: 507 if method == "GET" and path.endswith("b/stored_samples.parquet") else None
    with pytest.raises(EndpointError, match="refuses us/traces"):
        pull(theirs, REPO)
    assert not theirs.exists()
    hub.refuse = lambda method, path: None
    asked = len(hub.asked)
    pull(theirs, REPO)
    fetched = [line for line in hub.asked[asked:] if line.startswith("GET") and "/resolve/" in line]
    assert 0 < len(fetched) < 14
    assert content(theirs) == content(ours)


# -- who sees what, and which revision ------------------------------------------------------------------------------


def test_private(hub: Hub, ours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    push(ours, REPO, private=True)
    assert hub.repos[REPO].private
    push(ours, REPO)  # what is private stays so
    assert hub.repos[REPO].private
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(
        UsageError, match=rf"There is no dataset repository us/traces at {hub.url} that you may see.*HF_TOKEN"
    ):
        pull(tmp_path / "theirs.duckdb", REPO)


def test_a_public_repository_is_not_taken_for_a_private_one(hub: Hub, ours: Path) -> None:
    push(ours, REPO, runs=["a"])
    before = dict(hub.repos[REPO].branches)
    with pytest.raises(UsageError, match="private=True, and the repository us/traces is there and public"):
        push(ours, REPO, private=True)
    assert hub.repos[REPO].branches == before


def test_questions_that_are_not_to_be_published(hub: Hub, tmp_path: Path) -> None:
    store = fill(tmp_path / "gpqa.duckdb", "g", problem_set="gpqa-diamond")
    with pytest.raises(UsageError, match=r"Run g has questions of GPQA Diamond, .*private=True"):
        push(store, REPO)
    assert hub.repos == {}
    assert ids(push(store, REPO, private=True).new) == ["g"]


def test_a_revision_of_its_own(hub: Hub, ours: Path, tmp_path: Path) -> None:
    push(ours, REPO, runs=["a"])
    done = push(ours, REPO, runs=["b"], revision="second")
    assert {path.split("/")[1] for path in hub.repos[REPO].files("second") if path.startswith("runs/")} == {"a", "b"}
    assert {path.split("/")[1] for path in hub.repos[REPO].files() if path.startswith("runs/")} == {"a"}
    assert f"'hf://datasets/{REPO}@second/index.jsonl'" in hub.repos[REPO].files("second")["README.md"].decode()
    assert [run.run_id for run in pull(tmp_path / "1.duckdb", REPO).runs] == ["a"]
    assert [run.run_id for run in pull(tmp_path / "2.duckdb", REPO, revision=done.commit).runs] == ["a", "b"]
    with pytest.raises(UsageError, match="us/traces has no revision 'third'"):
        pull(tmp_path / "3.duckdb", REPO, revision="third")
    assert not (tmp_path / "3.duckdb").exists()


# -- what cannot be -------------------------------------------------------------------------------------------------


def test_no_token(hub: Hub, ours: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(UsageError, match=r"There is no token to write to us/traces with\. Set HF_TOKEN"):
        push(ours, REPO)
    monkeypatch.setenv("HF_TOKEN", "reader")
    with pytest.raises(UsageError, match=r"The hub refuses us/traces with your token: .*HF_TOKEN"):
        push(ours, REPO)
    assert hub.repos == {}


def test_no_such_repository_run_or_name(hub: Hub, ours: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.duckdb"
    with pytest.raises(UsageError, match="There is no dataset repository us/traces at"):
        pull(theirs, REPO)
    push(ours, REPO, runs=["a"])
    with pytest.raises(UsageError, match="us/traces has no run 'b' at main"):
        pull(theirs, REPO, runs=["a", "b"])
    with pytest.raises(UsageError, match="'a/b/c' is no name of a repository"):
        pull(theirs, "a/b/c")
    with pytest.raises(UsageError, match=r"'traces' has no owner\. Write OWNER/NAME"):
        push(ours, "traces")
    with pytest.raises(UsageError, match=r"'\.\./x' is no name of a folder"):
        pull(theirs, REPO, runs=["../x"])
    with pytest.raises(UsageError, match=r"Run 'c' is not sealed in .*rrti db seal c"):
        push(ours, REPO, runs=["c"])
    with pytest.raises(UsageError, match="There is no sealed run beside"):
        push(theirs, REPO)
    hub.repos["us/other"] = type(hub.repos[REPO])(private=False)
    hub.repos["us/other"].commit("main", {"README.md": b"x"}, "x")
    with pytest.raises(UsageError, match="us/other has no sealed runs at main"):
        pull(theirs, "us/other")
    assert not theirs.exists()


def test_a_licence_that_the_hub_does_not_know(hub: Hub, ours: Path) -> None:
    with pytest.raises(UsageError, match=r'refuses the card of us/traces: "license" must be one of.*licence'):
        push(ours, REPO, licence="nonsense")
    assert hub.count("PUT") == 0


@pytest.mark.parametrize("damaged", ["a/compact_tokens.parquet", "a/manifest.json", "a/runs.parquet"])
def test_a_file_that_does_not_fit_its_sum_is_refused(hub: Hub, ours: Path, tmp_path: Path, damaged: str) -> None:
    push(ours, REPO)
    repo = hub.repos[REPO]
    changed = repo.files()[f"runs/{damaged}"].replace(b"compact", b"Compact")[:-1] + b"?"
    repo.commit("main", repo.files() | {f"runs/{damaged}": changed}, "damaged")
    theirs = fill(tmp_path / "theirs.duckdb", "c")
    before = content(theirs)
    with pytest.raises(
        StoreError, match=r"Run a of us/traces at .* is not what its manifest says|its manifest cannot be read"
    ):
        pull(theirs, REPO)
    assert content(theirs) == before
    assert [path.name for path in (tmp_path / "theirs.runs").iterdir()] == ["c"]


def test_damaged_runs_are_not_pushed(hub: Hub, ours: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.duckdb"
    shutil.copytree(ours.with_suffix(".runs"), copy.with_suffix(".runs"))
    path = copy.with_suffix(".runs") / "b" / "compact_tokens.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(StoreError, match=r"compact_tokens\.parquet was changed"):
        push(copy, REPO)
    assert hub.repos == {}


def test_without_the_hub(hub: Hub, ours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    push(ours, REPO)
    pull(tmp_path / "first.duckdb", REPO)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    pull(tmp_path / "second.duckdb", REPO)  # all of it is in the cache
    assert content(tmp_path / "second.duckdb") == content(ours)
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(EndpointError, match="cannot be reached for us/traces: HF_HUB_OFFLINE forbids to ask it"):
        pull(tmp_path / "third.duckdb", REPO)
    with pytest.raises(EndpointError, match="HF_HUB_OFFLINE forbids"):
        push(ours, REPO)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    for call in (lambda: pull(tmp_path / "third.duckdb", REPO), lambda: push(ours, REPO)):
        with pytest.raises(EndpointError, match=r"The hub at http://127\.0\.0\.1:9 cannot be reached for us/traces"):
            call()
    assert not (tmp_path / "third.duckdb").exists()


# -- the card -------------------------------------------------------------------------------------------------------


def test_the_card_says_what_is_there(hub: Hub, ours: Path) -> None:
    hub.models["org/base"] = "apache-2.0"
    push(ours, REPO, licence="cc-by-4.0")
    files = hub.repos[REPO].files()
    page = files["README.md"].decode()
    said = yaml.safe_load(page.split("---\n")[1])
    assert said["license"] == "cc-by-4.0"
    assert {entry["config_name"]: entry["data_files"] for entry in said["configs"]} == {
        "samples": "runs/*/stored_samples.parquet",
        "runs": "runs/*/runs.parquet",
        "problems": "runs/*/problems.parquet",
        "calibrations": "runs/*/calibrations.parquet",
        "exact_tokens": "runs/*/exact_tokens.parquet",
        "compact_tokens": "runs/*/compact_tokens.parquet",
    }
    assert "2 runs by rrti-sgl: 4 samples, 12 tokens" in page
    rows = {tuple(cell.strip() for cell in line.strip("|").split("|")) for line in page.splitlines() if line.startswith("|")}
    assert ("org/base", "apache-2.0") in rows
    assert ("think", "not stated") in rows
    assert "/srv" not in page + files["index.jsonl"].decode()
    sums = dict(re.findall(r"^([0-9a-f]{64})  (runs/.*/manifest\.json)$", page, re.MULTILINE))
    assert {path: card.folders.hashlib.sha256(files[path]).hexdigest() for path in sums.values()} == {
        path: digest for digest, path in sums.items()
    }
    assert len(sums) == 2
    assert b"### compact_tokens" in files["SCHEMA.md"]


def test_the_queries_of_the_card_answer(hub: Hub, ours: Path, tmp_path: Path) -> None:
    """DuckDB's, on the same files in a folder: its extension for the hub is not fetched here."""
    push(ours, REPO)
    for path, data in hub.repos[REPO].files().items():
        (tmp_path / "files" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "files" / path).write_bytes(data)
    page = (tmp_path / "files" / "README.md").read_text()
    [block] = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    queries = block.replace(f"hf://datasets/{REPO}", str(tmp_path / "files")).split(";")[:-1]
    answers = [sorted(duckdb.sql(query).fetchall()) for query in queries]
    assert answers[0] == [("a", "guided", 2, 6), ("b", "guided", 2, 6)]
    assert answers[1] == [("a", 2, 1.0), ("b", 2, 1.0)]
    assert answers[2] == [("a", 3, pytest.approx(2 / 3), 1.0), ("b", 3, pytest.approx(2 / 3), 1.0)]
    [shell] = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    for line in shell.splitlines()[:2]:
        done = CliRunner().invoke(app, shlex.split(line.replace("pulled.duckdb", str(tmp_path / "pulled.duckdb")))[1:])
        assert done.exit_code == 0, done.output


def test_names_in_a_card_do_no_harm() -> None:
    run = card.PublishedRun(
        *("r", "guided", "finished", "org/<script>|x", "b`\n# c", "s|t\x1b"),
        1,
        1,
        {"stored_samples": 1},
        1,
        "0001",
        "0" * 64,
    )
    page = card.write_card("us/x", "main", [run], {"org/<script>|x": None}, None).decode()
    assert "<script>" not in page
    assert "\n# c" not in page
    assert "\x1b" not in page
    assert page == card.write_card("us/x", "main", [run], {"org/<script>|x": None}, None, page).decode()


def test_an_index_that_is_none(hub: Hub, ours: Path) -> None:
    push(ours, REPO, runs=["a"])
    repo = hub.repos[REPO]
    repo.commit("main", repo.files() | {"index.jsonl": b"{}\n"}, "damaged")
    with pytest.raises(StoreError, match=r"index\.jsonl of us/traces is no index of runs\. Delete that file"):
        push(ours, REPO)
