"""Files that `rrti` reads, sound and then damaged, each with the commands that read it."""

from __future__ import annotations

import io
import json
import re
import shutil
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from hypothesis import strategies as st

from rrti_sgl.db import maintenance, relations, sealing
from rrti_sgl.db.store import Store
from tests.cli.fuzz.typed import DB
from tests.db.conftest import make_calibration, make_problem, make_run, make_trace
from tests.experiments.files import SMALL

LOGS = Path(__file__).resolve().parents[2] / "score" / "logs"
DEEP = 20_000
ROWS = [
    {"question": f"{i} and {i}?", "answer": str(2 * i), "text": f"That is {2 * i}.", "problem_id": f"p{i}", "n": i}
    for i in range(1, 6)
]
PIECES = (
    *(
        b"",
        b"\0",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\x1b[2J",
        b"\r",
        b"\n",
        b"\n\n",
        b"\\ud800",
        b"\\u0000",
        b"\xe2\x80\xae",
    ),
    *(b'"', b"'", b",", b"{", b"}", b"[", b"]", b"=", b"#", b"\\", b"null", b"NaN", b"Infinity", b"-1", b"1e999", b"true"),
    *(
        b"7" * 6000,
        b"[" * DEEP,
        b'{"a":' * DEEP,
        b"x" * 100_000,
        b"\x9b31m".decode("latin-1").encode(),
        b"9" * 23,
        b"\x00" * 5000,
    ),
)
LITERALS: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        10**23,
        -(2**63),
        2**64,
        1.5,
        1e308,
        float("nan"),
        float("inf"),
        "",
        " ",
        "\x1b[31m",
        "\ud800",
    ),
    *(
        "x" * 20_000,
        "\0",
        "\u202e",
        "../../x",
        "/nowhere/x",
        [],
        {},
        [[]],
        [None],
        {"": None},
        [1, "a", {}],
        ["\udcff"],
        "nan",
    ),
    *("1970-01-01", "9999-12-31T23:59:59Z", "guided", "run-b", {"a": {"b": {"c": [1]}}}, "7" * 6000, "{question}", "stop"),
)
TOML = (
    *(
        "-1",
        "0",
        "nan",
        "-inf",
        "1e400",
        "9" * 23,
        "7" * 6000,
        "[]",
        "{}",
        "[[1]]",
        '""',
        '"\\u001b[31m"',
        "true",
        "'x'",
        "1979-05-27",
    ),
    *(
        "[" * DEEP,
        "[" * 300 + "]" * 300,
        "{a=" * 300 + "1" + "}" * 300,
        '"' + "x" * 5000 + '"',
        '"../../x"',
        "07:32:00",
        '"',
        "'''",
    ),
    *(
        '"bundled"',
        '"world:heldout"',
        '"guided"',
        "0xff",
        "1_0",
        "1979-05-27T00:32:00.999999-07:00",
        "[1,'a']",
        '"no.such:Class"',
    ),
)


def make_sources(folder: Path) -> None:
    """A store with an open and a finished run, one of them sealed, an empty store, and sound files of every kind."""
    with Store.open(folder / "store.duckdb") as store:
        store.add_problems([make_problem(f"p{i}") for i in range(1, 6)])
        draws = np.random.default_rng(7)
        for run_id, program in (("run-a", "diagnose"), ("run-b", "guided"), ("run-s", "base")):
            store.begin_run(make_run(run_id, program=program, n_problems=5, samples_per_problem=1))
            store.write_samples(
                [
                    make_trace(
                        run_id, f"p{i}", ce=draws.exponential(size=8), correct=i % 2 == 0, tokens={"fired": _fired(program)}
                    )
                    for i in range(1, 6)
                ]
            )
            if run_id != "run-b":
                store.finish_run(run_id, "finished")
        store.add_calibration(make_calibration(run_id="run-a"))
    sealing.seal(folder / "store.duckdb", "run-s")
    maintenance.vacuum(folder / "store.duckdb")
    Store.open(folder / "empty.duckdb").close()
    shutil.copytree(relations.runs_folder(folder / "store.duckdb"), folder / "sealed")
    (folder / "folder").mkdir()
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    for name, content in SOUND.items():
        (folder / name).write_bytes(content)
    (folder / "good.jsonl").write_text(lines)


def _fired(program: str) -> list[bool]:
    return [program == "guided" and place in (2, 5) for place in range(8)]


def _encoded(write: Callable[[pa.Table, Any], None]) -> bytes:
    sink = io.BytesIO()
    write(pa.Table.from_pylist(ROWS), sink)
    return sink.getvalue()


SOUND: Mapping[str, bytes] = {
    "good.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS).encode(),
    "list.json": json.dumps(ROWS).encode(),
    "texts.csv": _encoded(pa.csv.write_csv),
    "texts.parquet": _encoded(pa.parquet.write_table),
    "good.toml": SMALL.encode(),
    "files.toml": SMALL.replace("world:heldout", "good.jsonl").encode(),
    "template.toml": b'text = "Question: {question}\\nAnswer:"\nstops = ["\\nQuestion:"]\nchat = false\n',
    "lm_eval.jsonl": (LOGS / "samples_text.jsonl").read_bytes(),
    "lm_eval_chat.jsonl": (LOGS / "samples_chat.jsonl").read_bytes(),
    "inspect.eval": (LOGS / "sums.eval").read_bytes(),
}
_SCORED, _ASKED = ("score", *DB, "--input"), ("score", *DB, "--input", "good.jsonl", "--problems")
_SKIPPED = ("score", *DB, "--skip", "--input")
READERS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    **dict.fromkeys(("good.jsonl", "list.json", "texts.csv", "texts.parquet"), (_SCORED, _SKIPPED, _ASKED)),
    "good.toml": (("experiment", "--dry-run"), ("experiment", "--dry-run", "--json")),
    "files.toml": (("experiment", "--dry-run"),),
    "template.toml": (("run", "guided", *DB, "--base-template"), ("run", "base", *DB, "--reasoning-template")),
    "lm_eval.jsonl": (_SCORED, ("score", *DB, "--format", "lm-eval", "--input")),
    "lm_eval_chat.jsonl": (_SCORED,),
    "inspect.eval": (_SCORED, ("score", *DB, "--thoughts", "--skip", "--input")),
}
_OF_STORES = (
    *(
        ("db", "info"),
        ("db", "check"),
        ("db", "upgrade"),
        ("db", "vacuum"),
        ("db", "seal", "run-a"),
        ("db", "delete", "--yes", "run-a"),
    ),
    *(("db", "unseal", "run-s"), ("sql", "SELECT * FROM tokens", "--db"), ("sql", "SELECT * FROM run_view", "--db")),
    *(
        ("stats", "accuracy", "--db"),
        ("whatif", "run-a", "--db"),
        ("export", "samples", "--db"),
        ("run", "--resume", "run-b", "--db"),
    ),
    ("grade", "run-a", "--grader", "last-number", "--db"),
)


@dataclass(frozen=True, slots=True)
class Damaged:
    """A file that is not what it was.

    Args:
        path: in the folder of the example; none where the content is an argument.
        content: of it.
        arguments: of the command that reads it.
    """

    path: str
    content: bytes
    arguments: tuple[str, ...]


@st.composite
def files(draw: st.DrawFn, sources: Path) -> Damaged:
    """A damaged file of any kind; some stores, some sealed runs."""
    kind = draw(st.sampled_from([*READERS, *READERS, "store", "sealed", "sealed", "parameter"]))
    if kind == "store":
        content = (sources / "store.duckdb").read_bytes()
        return Damaged("store.duckdb", _bytes(draw, content), (*draw(st.sampled_from(_OF_STORES)), "store.duckdb"))
    if kind == "sealed":
        path = draw(st.sampled_from(sorted(p.relative_to(sources) for p in (sources / "sealed").rglob("*") if p.is_file())))
        content = _changed(draw, path.name, (sources / path).read_bytes())
        return Damaged(str(path), content, ("db", "attach", "sealed", "empty.duckdb"))
    if kind == "parameter":
        text = _changed(draw, "x.json", json.dumps({"tau": 0.5, "window": [4, 8], "metric": "ce"}).encode())
        given = text.replace(b"\0", b"").decode(errors="surrogateescape")[:100_000]
        flag = draw(st.sampled_from(("--gate-param", "--set")))
        reader = ("stats", "accuracy", *DB, "--set") if flag == "--set" else ("run", "guided", *DB, flag)
        return Damaged("", b"", (*reader, f"{draw(st.sampled_from(('tau', 'gate', 'window')))}={given}"))
    content = _changed(draw, kind, SOUND[kind])
    reader = draw(st.sampled_from(READERS[kind]))
    return Damaged(kind, content, (*reader, kind))


def _changed(draw: st.DrawFn, name: str, content: bytes) -> bytes:
    ending = Path(name).suffix
    structured = {".jsonl": _json_lines, ".json": _json, ".toml": _toml, ".parquet": _parquet, ".eval": _archive}
    if ending in structured and draw(st.integers(0, 2)) > 0:
        return structured[ending](draw, content)
    return _bytes(draw, content)


def _bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """Cut, flipped, inserted, lines doubled or gone, once to three times."""
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(content)))
        end = min(len(content), place + draw(st.integers(1, 64)))
        kind = draw(st.integers(0, 6))
        if kind == 0:
            content = content[:place]
        elif kind == 1 and place < end:
            content = content[:place] + bytes([content[place] ^ draw(st.integers(1, 255))]) + content[place + 1 :]
        elif kind == 2:
            content = content[:place] + draw(st.sampled_from(PIECES)) + content[place:]
        elif kind == 3:
            content = content[:place] + content[end:]
        elif kind == 4:
            content = content[:place] + draw(st.binary(max_size=end - place)) + content[end:]
        elif content.count(b"\n") < 10_000:
            lines = content.split(b"\n")
            number = draw(st.integers(0, len(lines) - 1))
            lines[number : number + 1] = [] if kind == 5 else [lines[number]] * 2
            content = b"\n".join(lines)
    return content


def _json(draw: st.DrawFn, content: bytes) -> bytes:
    changed = mutated(draw, json.loads(content))
    text = json.dumps(changed, ensure_ascii=draw(st.booleans()))
    return text.encode(errors="surrogatepass")


def _json_lines(draw: st.DrawFn, content: bytes) -> bytes:
    lines = content.split(b"\n")
    number = draw(st.integers(0, len(lines) - 2))
    lines[number] = _json(draw, lines[number])
    return b"\n".join(lines)


def mutated(draw: st.DrawFn, value: Any) -> Any:
    """The value with something in it replaced, renamed or left out."""
    if isinstance(value, (dict, list)) and value and draw(st.integers(0, 5)) > 0:
        places = list(value) if isinstance(value, dict) else list(range(len(value)))
        place = draw(st.sampled_from(places))
        copy = value.copy()
        if draw(st.integers(0, 7)) == 0:
            removed = copy.pop(place)
            if isinstance(copy, dict) and draw(st.booleans()):
                copy[draw(st.sampled_from(("", "\x1b", "__class__", "Question", "id", "x" * 5000)))] = removed
        else:
            copy[place] = mutated(draw, value[place])
        return copy
    return draw(st.sampled_from(LITERALS))


def _toml(draw: st.DrawFn, content: bytes) -> bytes:
    lines = content.decode().split("\n")
    assigned = [number for number, line in enumerate(lines) if "=" in line]
    number = draw(st.sampled_from(assigned))
    key = lines[number].split("=")[0]
    if draw(st.integers(0, 4)) == 0:
        key = draw(
            st.sampled_from(('"\\u001b"', "a.b.c", "''", "k", "samples", "temperature", "gate_params", "x" * 5000, "\x1b"))
        )
    lines[number] = f"{key} = {draw(st.sampled_from(TOML))}"
    return "\n".join(lines).encode()


def _parquet(draw: st.DrawFn, content: bytes) -> bytes:
    """A column of another type, doubled, renamed or gone, or rows that are gone or doubled."""
    table = pa.parquet.read_table(io.BytesIO(content))
    place = draw(st.integers(0, table.num_columns - 1))
    kind = draw(st.integers(0, 4))
    if kind == 0:
        table = table.remove_column(place)
    elif kind == 1:
        table = table.append_column(table.schema.names[place], table.column(place))
    elif kind == 2:
        table = table.slice(0, draw(st.integers(0, table.num_rows)))
    elif kind == 3:
        table = pa.concat_tables([table, table])
    else:
        filler = draw(
            st.sampled_from(
                (
                    None,
                    1,
                    -(2**63),
                    float("nan"),
                    "\x1b[31m",
                    b"\xff",
                    [1, None],
                    {"a": 1},
                    True,
                    "x" * 1000,
                    "../../x",
                    [],
                    1e300,
                )
            )
        )
        table = table.set_column(place, table.schema.names[place], pa.array([filler] * table.num_rows))
    sink = io.BytesIO()
    pa.parquet.write_table(table, sink)
    return sink.getvalue()


def _archive(draw: st.DrawFn, content: bytes) -> bytes:
    """A member of an archive changed, doubled or gone; those that stay are not compressed."""
    sink = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(sink, "w") as written:
        names = [name for name in archive.namelist() if re.search("json", name)]
        chosen, kind = draw(st.sampled_from(names)), draw(st.integers(0, 7))
        for name in names:
            member = _members()[name]
            if name != chosen:
                written.writestr(name, member)
            elif kind > 1:
                written.writestr(name, _changed(draw, name, member))
            elif kind == 1:
                written.writestr(draw(st.sampled_from(("../x", "samples/\x1b.json", "samples/x_epoch_1.json"))), member)
    return sink.getvalue()


_MEMBERS: dict[str, bytes] = {}


def _members() -> dict[str, bytes]:
    """Content of the members of the log; Python 3.11 does not know their compression."""
    from rrti_sgl.rows.opening import member_bytes

    if not _MEMBERS:
        with zipfile.ZipFile(LOGS / "sums.eval") as archive:
            for member in archive.infolist():
                _MEMBERS[member.filename] = member_bytes(archive, member)
    return _MEMBERS
