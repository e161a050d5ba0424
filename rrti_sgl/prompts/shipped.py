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
    examples = [(example["question"], example["solution"]) for example in entry.get("examples", ())]
    return PromptTemplate.from_dict({**entry, "examples": examples, "name": name})


def _read() -> dict[str, PromptTemplate]:
    text = files("rrti_sgl.prompts").joinpath("templates.toml").read_text(encoding="utf-8")
    return {name: _template(name, entry, "templates.toml") for name, entry in tomllib.loads(text).items()}


TEMPLATES = _read()
