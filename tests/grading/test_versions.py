"""A grader that judges a case otherwise than before has another name."""

from __future__ import annotations

from tests.grading.verdicts import FILE, committed, current


def test_a_changed_verdict_comes_with_another_version() -> None:
    before = committed()
    for name, verdicts in current().items():
        assert name in before, f"{name} has no verdicts in {FILE.name}: run python -m tests.grading.verdicts"
        changed = {case: (before[name].get(case), now) for case, now in verdicts.items() if before[name].get(case) != now}
        missing = [case for case, (old, _) in changed.items() if old is None]
        assert not missing, f"cases without a verdict: run python -m tests.grading.verdicts\n{missing}"
        assert not changed, f"{name} judges otherwise than under this name before: raise its version.\n{changed}"


def test_the_committed_verdicts_tell_right_from_wrong() -> None:
    for name, verdicts in committed().items():
        kinds = {verdict.partition(":")[0] for verdict in verdicts.values()}
        assert {"right", "wrong"} <= kinds, name
