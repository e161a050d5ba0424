"""Which stored run a command continues, and what is said when it cannot be."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from rrti_sgl.db import sealing
from rrti_sgl.db.store import Store
from rrti_sgl.errors import CalibrationMismatchError
from rrti_sgl.sinks.refusals import check_unchanged, identity
from tests.db.conftest import NOON, make_run


def test_the_newest_unfinished_run_of_the_same_command_is_found(path):
    with Store.open(path) as store:
        assert store.find_unfinished(identity(make_run())) is None
        for number, status in enumerate(("failed", "interrupted", "running", "finished")):
            store.begin_run(make_run(f"r{number}", created_at=NOON + timedelta(minutes=number)))
            if status != "running":
                store.finish_run(f"r{number}", status)
        assert store.find_unfinished(identity(make_run("new"))) == "r2"
    sealing.seal(path, "r2", unfinished=True)
    with Store.open(path) as store:
        assert store.find_unfinished(identity(make_run("new"))) == "r1"


@pytest.mark.parametrize(
    "change", [{"config_hash": "other"}, {"program": "base"}, {"base_model": "other"}, {"tau": 0.25}, {"k": 3}]
)
def test_a_run_of_another_command_is_not(store, change):
    store.begin_run(make_run())
    assert store.find_unfinished(identity(make_run("new"))) == "r1"
    assert store.find_unfinished(identity(make_run("new", **change))) is None


def test_what_changed_is_said_setting_by_setting():
    before = make_run(config={"seed": 1, "gate": {"tau": 0.5, "window": 4}, "problems": "a"})
    check_unchanged(before, before)
    now = make_run(
        config={"seed": 2, "gate": {"tau": 0.5, "window": 8}, "problems": "a"}, config_hash="x", base_model="other", tau=0.7
    )
    said = r"r1 cannot be continued: base_model was 'base' and is 'other'; tau was 0.5 and is 0.7; "
    with pytest.raises(CalibrationMismatchError, match=said + r"gate\.window was 4 and is 8; seed was 1 and is 2\."):
        check_unchanged(before, now)
    with pytest.raises(CalibrationMismatchError, match="content of its problem set is another one"):
        check_unchanged(before, make_run(config=before.config, config_hash="x"))


@pytest.mark.parametrize("name", ["grader", "tagger"])
def test_samples_of_one_run_are_judged_by_one_version(name):
    with pytest.raises(CalibrationMismatchError, match=rf"{name} was 'some-v1' and is 'some-v2'"):
        check_unchanged(make_run(**{name: "some-v1"}), make_run(**{name: "some-v2"}))
    check_unchanged(make_run(grader="some-v1", status="finished"), make_run(grader="some-v2"))


def test_a_stored_configuration_is_its_own(store):
    run = make_run(config={"prompt": {"stops": ("a", "b"), "examples": ()}})
    store.begin_run(run)
    with pytest.raises(CalibrationMismatchError, match="cannot be continued: the content of its problem set"):
        check_unchanged(store.get_run("r1"), replace(run, config_hash="x"))


def test_a_setting_that_came_with_a_newer_version_is_no_difference():
    before = make_run(config={"seed": 1})
    now = make_run(config={"seed": 2, "later": None}, config_hash="x")
    with pytest.raises(CalibrationMismatchError, match=r"cannot be continued: seed was 1 and is 2\."):
        check_unchanged(before, now)


def test_what_the_hash_leaves_out_may_change():
    check_unchanged(make_run(config={"input": "here.jsonl"}), make_run(config={"input": "there.jsonl"}))
