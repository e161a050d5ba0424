"""Writes logs of inspect_ai with its mock model: `python write_inspect.py FOLDER`, in an environment that has inspect_ai.

Seven samples: a plain answer, one with a reasoning part, one that was cut off, one that was filtered, one that failed, one
after worked examples in a chat, and one with a reasoning part that is redacted.
"""

from __future__ import annotations

import sys

from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import (
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    ContentReasoning,
    ContentText,
    ModelOutput,
    ModelUsage,
    get_model,
)
from inspect_ai.scorer import match
from inspect_ai.solver import Generate, Solver, TaskState, generate, solver


def output(content: object, stop_reason: str = "stop") -> ModelOutput:
    made = ModelOutput.from_message(ChatMessageAssistant(content=content), stop_reason=stop_reason)
    made.usage = ModelUsage(input_tokens=9, output_tokens=9, total_tokens=18)  # or it would be counted with a download
    return made


OUTPUTS = {
    "2 and 2?": output("ANSWER: 4"),
    "2 and 3?": output([ContentReasoning(reasoning="2 and 3 make 5."), ContentText(text="ANSWER: 5")]),
    "7 and 8?": output("7 and 8 make", "max_tokens"),
    "8 and 8?": output("I cannot", "content_filter"),
    "5 and 5?": output("ANSWER: 10"),
    "6 and 6?": output([ContentReasoning(reasoning="gAAAAB", redacted=True), ContentText(text="ANSWER: 12")]),
}
EXAMPLE = [
    ChatMessageSystem(content="Add."),
    ChatMessageUser(content="1 and 1?"),
    ChatMessageAssistant(content="ANSWER: 2"),
    ChatMessageUser(content="5 and 5?"),
]
SAMPLES = [
    Sample(id="plain", input="2 and 2?", target="4"),
    Sample(id="thought", input="2 and 3?", target="5"),
    Sample(id="cut", input="7 and 8?", target="15"),
    Sample(id="filtered", input="8 and 8?", target="16"),
    Sample(id="failed", input="9 and 9?", target="18"),
    Sample(id="chat", input=EXAMPLE, target="10"),
    Sample(id="redacted", input="6 and 6?", target="12"),
]


@solver
def refuse_nines() -> Solver:
    async def solve(state: TaskState, generate: Generate) -> TaskState:
        if "9" in state.input_text:
            raise ValueError("no nines")
        return state

    return solve


def answer(messages: list[object], *_: object) -> ModelOutput:
    return OUTPUTS[messages[-1].text]  # type: ignore[attr-defined]


if __name__ == "__main__":
    for log_format in ("eval", "json"):
        [log] = eval(
            Task(name="sums", dataset=SAMPLES, solver=[refuse_nines(), generate()], scorer=match()),
            model=get_model("mockllm/model", custom_outputs=answer),
            log_dir=sys.argv[1],
            log_format=log_format,
            fail_on_error=False,
            display="none",
        )
        assert log.status == "success", log.error
