"""The line of every key, whatever form TOML allows for it."""

from __future__ import annotations

import pytest

from rrti_sgl.programs.experiments.locations import dotted, line_of, locate

TEXT = '''\
# a comment
title = "x"

[models.base]
model = "m"   # [not.a.table]
note = """
[also.not.a.table]
key = 3
"""
[[evaluations]]
name = "a"
seeds = [
  0,
  1,
]
options = { one = 1, two = { three = 3 } }
[[evaluations]]
"quoted key" = 1
inner.dotted = 2
[evaluations.deeper]
last = true
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("title",), 2),
        (("models", "base"), 4),
        (("models",), 4),
        (("models", "base", "model"), 5),
        (("models", "base", "note"), 6),
        (("evaluations", 0), 10),
        (("evaluations", 0, "seeds"), 12),
        (("evaluations", 0, "options", "two", "three"), 16),
        (("evaluations", 1), 17),
        (("evaluations", 1, "quoted key"), 18),
        (("evaluations", 1, "inner", "dotted"), 19),
        (("evaluations", 1, "deeper", "last"), 21),
    ],
    ids=lambda value: dotted(value) if isinstance(value, tuple) else None,
)
def test_lines(path: tuple[str | int, ...], line: int) -> None:
    assert locate(TEXT)[path] == line


def test_a_missing_key_stands_where_its_table_does() -> None:
    lines = locate(TEXT)
    assert line_of(lines, ("evaluations", 1, "limit")) == 17
    assert line_of(lines, ("programs", 0)) is None
    assert not any("also" in path or "not" in path for path in lines)
