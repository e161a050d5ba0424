"""Writes samples of lm-eval with its dummy model: `python write_lm_eval.py FOLDER`, in an environment that has lm_eval.

Two documents, two filters and two answers each: once with the context as text, as `--model dummy --log_samples` logs it,
once as models behind an API of chats are shown it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from lm_eval.evaluator import simple_evaluate
from lm_eval.loggers import EvaluationTracker
from lm_eval.models.api_models import JsonChatStr
from lm_eval.models.dummy import DummyLM
from lm_eval.tasks import TaskManager

DOCUMENTS = [{"question": "2 and 2?", "answer": "4"}, {"question": "2 and 3?", "answer": "5"}]
TASK = """
task: sums
dataset_path: json
dataset_kwargs: {{data_files: {{train: {train}, test: {test}}}}}
output_type: generate_until
fewshot_split: train
test_split: test
doc_to_text: "Question: {{{{question}}}}\\nAnswer:"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["Question:"], do_sample: false}}
repeats: 2
filter_list:
  - {{name: strict-match, filter: [{{function: regex, regex_pattern: "#### ([0-9]+)"}}, {{function: take_first}}]}}
  - {{name: flexible-extract, filter: [{{function: regex, regex_pattern: "([0-9]+)"}}, {{function: take_first}}]}}
metric_list: [{{metric: exact_match}}]
"""


class ChatDummy(DummyLM):
    """Is shown chats as `local-chat-completions` is, and answers as the dummy does."""

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> JsonChatStr:
        return JsonChatStr(json.dumps(chat_history, ensure_ascii=False))

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        return ["lol" for _ in requests]

    @property
    def tokenizer_name(self) -> str:
        return "chat-dummy"

    def chat_template(self, chat_template: bool | str = False) -> str:
        return ""


def write(folder: Path, model: DummyLM, *, chat: bool) -> None:
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    options = {"apply_chat_template": True, "fewshot_as_multiturn": True} if chat else {}
    found = simple_evaluate(model=model, tasks=["sums"], num_fewshot=1, task_manager=manager, log_samples=True, **options)
    tracker = EvaluationTracker(output_path=str(folder / ("chat" if chat else "text")))
    samples = found.pop("samples")
    tracker.save_results_aggregated(results=found, samples=samples)
    tracker.save_results_samples(task_name="sums", samples=samples["sums"])


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train", [{"question": "1 and 1?", "answer": "2"}]), ("test", DOCUMENTS)):
        (target / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (target / "sums.yaml").write_text(TASK.format(train=target / "train.jsonl", test=target / "test.jsonl"))
    write(target, DummyLM(), chat=False)
    write(target, ChatDummy(), chat=True)
