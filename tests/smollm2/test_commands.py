"""`rrti calibrate`, `rrti run guided` and `rrti show` on real text: every stored token text, against the tokenizer's own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from rrti_sgl.db.store import Store
from rrti_sgl.serving.server import ServedPair
from tests.smollm2.models import SmolLM2Pair

pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.timeout(1200)]
# What byte-level tokens split: emoji, joined emoji, hieroglyphs, CJK, Devanagari, and combining marks.
QUESTIONS = [
    "What is the capital of France, and what is it famous for?",
    "Write three lines about the sea, each beginning with an emoji such as 🌊 or 🐚.",
    "How do you say 'thank you' in Japanese (ありがとう) and in Chinese (谢谢)?",
    "Spell nai\u0308ve cafe\u0301 twice, then write नमस्ते.",
    "Repeat exactly: 👩‍👩‍👧‍👦 한국어 𓀀𓀁 👍🏽",
]
REPLACEMENT = "\ufffd"


def rrti(*arguments: str, cwd: Path, code: int = 0) -> str:
    command = [sys.executable, "-m", "rrti_sgl.cli.main", *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


class Commands:
    """A folder in which the commands were run, and what they stored."""

    def __init__(self, folder: Path, served: ServedPair) -> None:
        self.folder = folder
        problems = [{"question": question, "answer": "0"} for question in QUESTIONS]
        (folder / "problems.jsonl").write_text("".join(json.dumps(problem) + "\n" for problem in problems))
        self.options = ["--base-url", served.base.url, "--reasoning-url", served.reasoning.url, "--max-new-tokens", "48"]
        self.options += ["--base-prompt", r"Question: {question}\nAnswer:", "--reasoning-prompt", "chat"]
        rrti("calibrate", *self.options, "--problems", "problems.jsonl", "--spike-ratio", "0.1", cwd=folder)
        rrti("run", "guided", *self.options, "--problems", "problems.jsonl", "--allow-overlap", cwd=folder)
        with Store.open_readonly(folder / "traces.duckdb") as store:
            self.samples = store.sql(
                """
                SELECT program, sample_id, question, text, finish_reason, base_prompt, reasoning_prompt,
                       list(token_id ORDER BY position) AS ids, list(token_text ORDER BY position) AS pieces,
                       list(base_token_text ORDER BY position) AS wanted, list(ce ORDER BY position) AS ce,
                       list(fired ORDER BY position) AS fired
                FROM tokens JOIN samples USING (run_id, sample_id) JOIN runs USING (run_id)
                JOIN problems USING (problem_set, problem_id) GROUP BY ALL ORDER BY program, sample_id
                """
            ).to_pylist()


@pytest.fixture(scope="module")
def commands(smollm2: ServedPair, tmp_path_factory: pytest.TempPathFactory) -> Commands:
    return Commands(tmp_path_factory.mktemp("commands"), smollm2)


@pytest.fixture(scope="module")
def tokenizer(folders: SmolLM2Pair) -> Tokenizer:
    return Tokenizer.from_file(str(folders.base / "tokenizer.json"))


def of(commands: Commands, program: str) -> list[dict[str, Any]]:
    found = [sample for sample in commands.samples if sample["program"] == program]
    assert len(found) == len(QUESTIONS)
    return found


def test_token_texts_join_to_the_decoded_solution(commands: Commands, tokenizer: Tokenizer) -> None:
    split = 0
    for sample in commands.samples:
        joined = "".join(sample["pieces"])
        assert joined == tokenizer.decode(sample["ids"], skip_special_tokens=False)
        assert sample["text"] == joined.removesuffix("<|im_end|>")
        assert sample["text"].encode().decode() == sample["text"]
        split += sample["pieces"].count("")
        # Only the limit may cut a character in two, and only the last one.
        assert REPLACEMENT not in "".join(sample["pieces"][:-1])
        if sample["finish_reason"] == "stop":
            assert sample["pieces"][-1] == "<|im_end|>"
    assert split > 20


def test_texts_hold_characters_of_several_tokens(commands: Commands) -> None:
    texts = "".join(sample["text"] for sample in commands.samples)
    assert sum(ord(character) > 0x2000 for character in texts) > 10


def test_each_model_sees_its_own_prompt(commands: Commands) -> None:
    for sample in commands.samples:
        assert sample["base_prompt"] == f"Question: {sample['question']}\nAnswer:"
        assert sample["reasoning_prompt"].startswith("<|im_start|>system\n")
        turn = f"<|im_start|>user\n{sample['question']}<|im_end|>\n<|im_start|>assistant\n"
        assert sample["reasoning_prompt"].endswith(turn)


def test_the_gate_fires_at_a_few_spikes(commands: Commands) -> None:
    diagnosed = [value for sample in of(commands, "diagnose") for value in sample["ce"]]
    assert not any(fired for sample in of(commands, "diagnose") for fired in sample["fired"])
    assert max(diagnosed) > 3 * sum(diagnosed) / len(diagnosed)
    fired = [fired for sample in of(commands, "guided") for fired in sample["fired"]]
    assert 0 < sum(fired) < len(fired) / 3


def test_show_prints_every_sample(commands: Commands) -> None:
    for sample in of(commands, "diagnose"):
        printed = rrti("show", sample["sample_id"], cwd=commands.folder)
        assert "".join("".join(sample["pieces"]).split()) in "".join(printed.split())
    for sample in of(commands, "guided"):
        rows = json.loads(rrti("show", sample["sample_id"], "--json", cwd=commands.folder))
        assert [row["token_text"] for row in rows] == sample["pieces"]
        printed = rrti("show", sample["sample_id"], "--tokens", cwd=commands.folder)
        assert ("->" in printed) == any(
            fired and wanted != piece
            for fired, wanted, piece in zip(sample["fired"], sample["wanted"], sample["pieces"], strict=True)
        )


def test_a_prompt_beyond_the_context_is_refused_before_a_run_begins(commands: Commands) -> None:
    (commands.folder / "long.jsonl").write_text(
        json.dumps({"question": "How many ships 🌊 ? " * 2000, "answer": "0"}) + "\n"
    )
    said = rrti("run", "diagnose", *commands.options, "--problems", "long.jsonl", "--db", "l", cwd=commands.folder, code=2)
    assert re.search(
        r"The base prompt has \d+ tokens; with --max-new-tokens 48 that is more than the 81\d\d that the base server", said
    )
    assert "Shorten the prompt" in said
    with Store.open_readonly(commands.folder / "l") as store:
        assert store.sql("SELECT count(*) AS n FROM runs").to_pylist() == [{"n": 0}]
