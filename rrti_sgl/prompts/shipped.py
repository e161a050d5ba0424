"""Templates by name: those of `templates.toml`, and template files of the user's."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from rrti_sgl.errors import UsageError
from rrti_sgl.prompts.template import PromptTemplate

_PARTS = ("question", "solution")
# Fields of a file that may be left out.
_KINDS = {"chat": bool, "system": str, "example": str, "stops": list[str], "examples": list}
_CALLED = {bool: "true or false", str: "text", list[str]: "list of texts", list: "list of examples"}


def load_template(spec: str) -> PromptTemplate:
    """A template by `name@version`, by name (the newest version), or from a TOML file of the same fields.

    A file's template is named after it, with a hash of its content for a version.

    Raises:
        UsageError: no such template or file, or a file with other fields; says which there are.
    """
    if spec.endswith(".toml"):
        return _from_file(Path(spec))
    if spec in TEMPLATES:
        return TEMPLATES[spec]
    versions = sorted((int(key.partition("@")[2]), key) for key in TEMPLATES if key.partition("@")[0] == spec)
    if not versions:
        raise UsageError(
            f"Prompt template {spec!r} is unknown.", f"Use {', '.join(TEMPLATES)}, or a file that ends in .toml."
        )
    return TEMPLATES[versions[-1][1]]


def _from_file(path: Path) -> PromptTemplate:
    try:
        content = path.read_bytes()
        entry = tomllib.loads(content.decode())
    except OSError as error:
        raise UsageError(f"The template file {path} cannot be read ({error.strerror}).", "Name another file.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"The template file {path} is no TOML ({error}).", "Correct the file.") from error
    return _template(f"{path.stem}@{hashlib.sha256(content).hexdigest()[:8]}", entry, str(path))


def _template(name: str, entry: dict[str, Any], place: str) -> PromptTemplate:
    known = {field.name for field in fields(PromptTemplate)} - {"name", "thinking"}
    if unknown := sorted(set(entry) - known):
        raise UsageError(f"{place}: unknown fields {', '.join(unknown)}.", f"Known are {', '.join(sorted(known))}.")
    if not isinstance(entry.get("text"), str):
        raise UsageError(f"{place}: the field 'text' is missing or no text.", 'Write text = "... {question} ...".')
    for field, kind in _KINDS.items():
        if field in entry and not _is(kind, entry[field]):
            raise UsageError(f"{place}: the field {field!r} is no {_CALLED[kind]}.", "Correct it, or leave it out.")
    if "" in entry.get("stops", ()):
        raise UsageError(
            f"{place}: the field 'stops' holds an empty text, at which every solution would end.", "Leave it out."
        )
    examples = entry.get("examples", ())
    if not all(isinstance(example, dict) and _is(list[str], [example.get(key) for key in _PARTS]) for example in examples):
        raise UsageError(f"{place}: an example lacks the text {' or '.join(_PARTS)}.", "Give each example both.")
    examples = [tuple(example[key] for key in _PARTS) for example in examples]
    return PromptTemplate.from_dict({**entry, "examples": examples, "name": name})


def _is(kind: Any, value: Any) -> bool:
    if kind == list[str]:
        return isinstance(value, list) and all(isinstance(text, str) for text in value)
    return isinstance(value, kind)


def _read() -> dict[str, PromptTemplate]:
    text = files("rrti_sgl.prompts").joinpath("templates.toml").read_text(encoding="utf-8")
    return {name: _template(name, entry, "templates.toml") for name, entry in tomllib.loads(text).items()}


TEMPLATES = _read()
