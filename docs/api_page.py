"""The page of everything public, from signatures and docstrings: `python docs/api_page.py > docs/api.md`."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import rrti_sgl as rr

HEAD = """# Python interface

Generated from the code by `make docs`. What stands here is public; everything else of the package may change without
notice. `import rrti_sgl as rr` takes no time: names are loaded when they are first used.

```text
{names}
```

What waits for models or for the store, `x`, has a twin `ax` with the same arguments, to be awaited in any event loop:
`run = await pair.arun("guided", tau=0.5)`, `pair = await rr.aserve("bundled")`, `async for event in pair.astream(...)`.
Without the twins no event loop is needed, and in a notebook, where one is running, `pair.run` works as well.
"""
SECTIONS = {
    "Open a pair or a store": ["serve", "connect", "open"],
    "A pair of models": ["ModelPair", "Counterfactual"],
    "Runs and samples": ["Run", "Samples", "Sample"],
    "The trace store": ["TraceStore", "Table"],
    "Events of a stream": ["TokensAccepted", "Takeover", "TextSettled", "Finished"],
    "Errors": [],
}
_PART = re.compile(r"^(Args|Returns|Raises|Example|Attributes):\n((?:(?: .*)?\n)*)", re.MULTILINE)


def api_markdown() -> str:
    """The page."""
    parts = [HEAD.format(names=_wrapped(sorted(rr.__all__)))]
    for title, names in SECTIONS.items():
        parts.append(f"## {title}\n")
        parts += [_entry(name, getattr(rr, name)) for name in names]
    parts.append(_errors())
    return "\n".join(parts)


def _entry(name: str, member: Any) -> str:
    if not inspect.isclass(member):
        return f"### `rr.{name}`\n\n{_described(member, f'{name}{_signature(member)}')}"
    text = [f"### `rr.{name}`\n\n{_described(member)}"]
    for attribute, found in _members(member):
        if isinstance(found, property) or not callable(found):
            text.append(f"#### `{name}.{attribute}`\n\n{_described(found)}")
        elif inspect.isclass(member) and not _is_twin(member, attribute):
            text.append(f"#### `{name}.{attribute}()`\n\n{_described(found, f'{attribute}{_signature(found)}')}")
    return "\n".join(text)


def _members(member: type) -> Iterator[tuple[str, Any]]:
    """What a class itself has of its own, without what a field of a record is: that is in its docstring."""
    for attribute, found in vars(member).items():
        documented = isinstance(found, classmethod | property) or callable(found) or hasattr(found, "attrname")
        if not attribute.startswith("_") and documented and inspect.getdoc(found):
            yield attribute, found.__func__ if isinstance(found, classmethod) else found


def _is_twin(member: type, attribute: str) -> bool:
    return attribute.startswith("a") and hasattr(member, attribute[1:])


def _signature(function: Callable[..., Any]) -> str:
    signature = inspect.signature(function)
    kinds = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    parts = []
    for parameter in signature.parameters.values():
        if parameter.name in ("self", "cls"):
            continue
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and "*" not in parts:
            parts.append("*")
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        parts.append(f"{kinds.get(parameter.kind, '')}{parameter.name}: {parameter.annotation}{default}")
    result = "" if signature.return_annotation in (signature.empty, "None") else f" -> {signature.return_annotation}"
    short = f"({', '.join(parts)}){result}"
    return short if len(short) <= 90 else "(\n" + "".join(f"    {part},\n" for part in parts) + f"){result}"


def _described(found: Any, signature: str = "") -> str:
    doc = (inspect.getdoc(found) or "") + "\n"
    text = [f"```text\n{signature}\n```\n"] if signature else []
    text.append(_PART.sub("", doc).strip() + "\n")
    for title, body in _PART.findall(doc):
        title = "Fields" if inspect.isclass(found) and title == "Args" else title
        text.append(_example(body) if title == "Example" else _listed(title, body))
    return "\n".join(text)


def _example(body: str) -> str:
    lines = [re.sub(r"^(>>>|\.\.\.) ?", "", line.strip()) for line in body.strip().splitlines()]
    return "```py\n" + "\n".join(lines) + "\n```\n"


def _listed(title: str, body: str) -> str:
    entries = re.findall(r"^    (\S.*?)(?=^    \S|\Z)", body, re.MULTILINE | re.DOTALL)
    if title == "Returns":
        return f"Returns: {' '.join(body.split())}\n"
    rows = []
    for entry in entries:
        name, _, meaning = " ".join(entry.split()).partition(": ")
        rows.append(f"- `{name}`: {meaning}" if meaning else f"- {name}")
    return f"{title}:\n\n" + "\n".join(rows) + "\n"


def _errors() -> str:
    import rrti_sgl.errors

    tree = inspect.getdoc(rrti_sgl.errors) or ""
    [picture] = re.findall(r"::\n\n(.*?)\n\n(?=\S)", tree, re.DOTALL)
    return (
        "Each has a `message`, a `remedy` that says what to do about it, and the exit code of the command line.\n\n"
        f"```text\n{inspect.cleandoc(picture)}\n```\n"
    )


def _wrapped(names: list[str]) -> str:
    import textwrap

    return textwrap.fill(", ".join(names), 110)


if __name__ == "__main__":
    sys.stdout.write(api_markdown())
