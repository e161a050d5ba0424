"""Logs that inspect_ai and lm-eval wrote, with their mock models: committed ones, and in a slow test those of today.

`logs/write_inspect.py` and `logs/write_lm_eval.py` make them. In the committed archive paths in tracebacks were shortened.
"""

from __future__ import annotations

import logging
import subprocess
import venv
import zipfile
from pathlib import Path

import pytest

from rrti_sgl.errors import UsageError
from rrti_sgl.given_texts import GivenText, read_texts
from rrti_sgl.programs.scoring.settings import TextInput
from rrti_sgl.rows import Complaints

LOGS = Path(__file__).with_name("logs")
BUILD = Path(__file__).resolve().parents[2] / "build"
CHAT = (("system", "Add."), ("user", "1 and 1?"), ("assistant", "ANSWER: 2"), ("user", "5 and 5?"))


def check_inspect(path: Path) -> None:
    """Every sample of a log, and why some are left out."""
    skipped = Complaints()
    texts = {text.place.split("'")[1]: text for text in read_texts(path, thoughts=True, skipped=skipped)}
    assert set(texts) == {"plain", "thought", "cut", "chat"}
    assert (texts["plain"].continuation, texts["plain"].answer, texts["plain"].finish_reason) == ("ANSWER: 4", "4", "stop")
    assert texts["thought"].continuation == "<think>\n2 and 3 make 5.\n</think>\n\nANSWER: 5"
    assert texts["cut"].finish_reason == "length"
    assert (texts["chat"].question, texts["chat"].conversation) == ("5 and 5?", CHAT)
    assert {place.split("'")[1]: problem for place, problem in skipped.found} == {
        "failed": "the sample failed: ValueError('no nines')",
        "filtered": "the answer was filtered (content_filter)",
        "redacted": "the reasoning is not in the log (redacted)",
    }
    with pytest.raises(UsageError) as refused:
        read_texts(path)
    assert refused.value.message.count("reasoning); thoughts=True puts them back") == 2


def check_lm_eval(path: Path, *, chat: bool) -> None:
    """Both answers to both documents, once, whatever filters went over them."""
    texts = read_texts(path)
    asked = ["2 and 2?", "2 and 2?", "2 and 3?", "2 and 3?"]
    assert [(text.question, text.continuation) for text in texts] == [(question, "lol") for question in asked]
    assert [text.answer for text in texts] == ["4", "4", "5", "5"]
    assert {text.finish_reason for text in texts} == {None}
    if chat:
        turns = (("user", "Question: 1 and 1?\nAnswer:"), ("assistant", "2"), ("user", "Question: 2 and 2?\nAnswer:"))
        assert (texts[0].conversation, texts[0].base_prompt) == (turns, None)
    else:
        assert texts[0].base_prompt == "Question: 1 and 1?\nAnswer: 2\n\nQuestion: 2 and 2?\nAnswer:"


def test_a_log_of_inspect() -> None:
    with zipfile.ZipFile(LOGS / "sums.eval") as archive:
        assert {member.compress_type for member in archive.infolist()} == {93}  # Zstandard
    check_inspect(LOGS / "sums.eval")


@pytest.mark.parametrize("chat", [False, True])
def test_samples_of_lm_eval(chat: bool) -> None:
    check_lm_eval(LOGS / f"samples_{'chat' if chat else 'text'}.jsonl", chat=chat)


def test_a_damaged_archive_of_inspect_names_the_member(tmp_path: Path) -> None:
    content = bytearray((LOGS / "sums.eval").read_bytes())
    with zipfile.ZipFile(LOGS / "sums.eval") as archive:
        offset = archive.getinfo("samples/plain_epoch_1.json").header_offset
    content[offset + 200] ^= 255
    (tmp_path / "log.eval").write_bytes(content)
    skipped = Complaints()
    assert len(read_texts(tmp_path / "log.eval", thoughts=True, skipped=skipped)) == 3
    assert any(place.endswith("samples/plain_epoch_1.json") for place in skipped.places)


def test_what_is_skipped_is_counted_and_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        texts: list[GivenText] = TextInput(str(LOGS / "sums.eval"), thoughts=True, skip=True).read()
    assert len(texts) == 4
    [record] = caplog.records
    assert record.message.startswith("3 rows left out:\n  ")
    assert "sample 'filtered', epoch 1: the answer was filtered" in record.message


def python_with(package: str) -> Path:
    """The Python of an environment that has a package, made once."""
    folder = BUILD / f"environment-{package}"
    if not (folder / "installed").exists():
        venv.create(folder, with_pip=True, clear=True)
        installed = subprocess.run([folder / "bin" / "pip", "install", "--quiet", package], capture_output=True)
        if installed.returncode:
            pytest.skip(f"{package} cannot be installed here: {installed.stderr.decode().strip().splitlines()[-1]}")
        (folder / "installed").touch()
    return folder / "bin" / "python"


def run(package: str, script: str, folder: Path) -> None:
    subprocess.run([python_with(package), LOGS / script, folder], check=True, cwd=folder.parent, capture_output=True)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_logs_of_todays_inspect(tmp_path: Path) -> None:
    run("inspect_ai", "write_inspect.py", tmp_path / "logs")
    found = sorted((tmp_path / "logs").iterdir(), key=lambda path: path.suffix)
    assert [path.suffix for path in found] == [".eval", ".json"]
    for path in found:
        check_inspect(path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_samples_of_todays_lm_eval(tmp_path: Path) -> None:
    run("lm_eval", "write_lm_eval.py", tmp_path / "logs")
    for kind in ("text", "chat"):
        [path] = (tmp_path / "logs" / kind).rglob("samples_*.jsonl")
        check_lm_eval(path, chat=kind == "chat")
