"""lm-evaluation-harness and inspect_ai evaluate through the endpoint what `rrti run` evaluates: the same accuracy.

They are no dependency of the package. Make an environment of them and name it:

    python -m venv evaluators && evaluators/bin/pip install lm_eval[api]==0.4.13 inspect_ai
    RRTI_EVALUATORS=evaluators python -m pytest tests/api/test_evaluators.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import rrti_sgl as rr
from rrti_sgl.problems import load_problems
from rrti_sgl.serving.server import ServedPair
from tests.api.running import served

pytestmark = [pytest.mark.server, pytest.mark.slow]

BIN = Path(os.environ.get("RRTI_EVALUATORS", sys.prefix)) / "bin"
N, TAU, LIMIT = 40, 0.5, 110
GRADING = """
import re


def right(text, gold):
    found = re.findall(r"answer((?: -?\\\\d)+)", text)
    return bool(found) and found[-1].replace(" ", "") == gold
"""
LM_EVAL_TASK = """
task: world
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs:
  until: ["<eos>"]
  max_gen_toks: {limit}
  temperature: 0
process_results: !function grading.process
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""
INSPECT_TASK = """
from inspect_ai import Task, task
from inspect_ai.dataset import FieldSpec, json_dataset
from inspect_ai.scorer import CORRECT, INCORRECT, Score, accuracy, scorer
from inspect_ai.solver import generate

from grading import right


@scorer(metrics=[accuracy()])
def last_answer():
    async def score(state, target):
        return Score(value=CORRECT if right(state.output.completion, target.text) else INCORRECT)

    return score


@task
def world():
    data = json_dataset("problems.jsonl", FieldSpec(input="question", target="answer"))
    return Task(dataset=data, solver=generate(), scorer=last_answer())
"""


def evaluator(name: str) -> str:
    if not (BIN / name).exists():
        pytest.skip(f"{name} is not in {BIN}; name an environment that has it: RRTI_EVALUATORS=FOLDER")
    return str(BIN / name)


@pytest.fixture
def task(tmp_path: Path) -> Path:
    problems = load_problems("world:heldout", limit=N).problems
    rows = [json.dumps({"question": problem.question, "answer": problem.answer}) for problem in problems]
    (tmp_path / "problems.jsonl").write_text("\n".join(rows))
    process = "\n\ndef process(doc, results):\n    return {'acc': float(right(results[0], doc['answer']))}\n"
    (tmp_path / "grading.py").write_text(GRADING.replace("\\\\", "\\") + process)
    (tmp_path / "task.py").write_text(INSPECT_TASK)
    (tmp_path / "world.yaml").write_text(LM_EVAL_TASK.format(data=tmp_path / "problems.jsonl", limit=LIMIT))
    return tmp_path


def own_accuracy(urls: tuple[str, str], program: str) -> float:
    with rr.connect(*urls) as pair:
        run = pair.run(program, problems="world:heldout", limit=N, **({"tau": TAU} if program == "guided" else {}))
        return sum(bool(sample.correct) for sample in run.samples) / N


def done(arguments: list[str], folder: Path, **variables: str) -> None:
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "hub"), "PYTHONPATH": str(folder)}
    environment = {**os.environ, **offline, **variables}
    finished = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=400)
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]


@pytest.mark.parametrize("program", ["base", "guided"])
def test_lm_eval_has_the_accuracy_of_a_run(served_pair: ServedPair, task: Path, program: str) -> None:
    command, urls = evaluator("lm_eval"), (served_pair.base.url, served_pair.reasoning.url)
    with served(urls, tau=TAU) as (url, _):
        model = f"model={program},base_url={url}/v1/completions,tokenizer_backend=None,tokenized_requests=False"
        arguments = [*("--model", "local-completions", "--model_args", f"{model},num_concurrent=8"), "--tasks", "world"]
        done([command, *arguments, "--include_path", str(task), "--output_path", "out"], task)
    [found] = (task / "out").rglob("results_*.json")
    results = json.loads(found.read_text())["results"]["world"]
    assert results["acc,none"] == pytest.approx(own_accuracy(urls, program))


def test_inspect_has_the_accuracy_of_a_run(served_pair: ServedPair, task: Path) -> None:
    command, urls = evaluator("inspect"), (served_pair.base.url, served_pair.reasoning.url)
    with served(urls, tau=TAU) as (url, _):
        model = ["--model", "openai-api/local/guided", "--temperature", "0", "--max-tokens", str(LIMIT)]
        logs = ["--log-dir", "logs", "--log-format", "json", "--display", "plain"]
        done([command, "eval", "task.py", *model, *logs], task, LOCAL_BASE_URL=f"{url}/v1", LOCAL_API_KEY="none")
    [log] = (task / "logs").glob("*.json")
    [score] = json.loads(log.read_text())["results"]["scores"]
    assert score["metrics"]["accuracy"]["value"] == pytest.approx(own_accuracy(urls, "guided"))
