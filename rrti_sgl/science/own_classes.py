"""Classes of one's own, named `package.module:Class`: gates, graders, taggers."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from rrti_sgl.errors import UsageError
from rrti_sgl.records import Json


def load_class(spec: str, option: str) -> type:
    """The class named `package.module:Class` by the option `option`.

    Raises:
        UsageError: whatever is wrong.
    """
    module_name, colon, class_name = spec.partition(":")
    if not (colon and module_name and class_name):
        raise UsageError(f"{option} = {spec!r} names no class.", "Write it as package.module:Class.")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise UsageError(
            f"{option} = {spec!r}: importing {module_name} failed: {error}.",
            "Install the package, or put its folder on PYTHONPATH.",
        ) from error
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        raise UsageError(f"{option} = {spec!r}: {module_name} has no class {class_name}.", "Check the class's name.")
    return found


def load_own(spec: str, option: str, method: str) -> Any:
    """An object of a class of one's own, named by an option, called without arguments; it has a `name` and a method.

    Raises:
        UsageError: no such class, it cannot be made, or it lacks one of these.
    """
    made = make(load_class(spec, option), spec, option, {}, "Give its arguments defaults.")
    if not (callable(getattr(made, method, None)) and isinstance(getattr(made, "name", None), str)):
        raise UsageError(f"{option} = {spec!r} is no {option}.", f"Give the class a `name` and a method `{method}`.")
    return made


def make(found: type, spec: str, option: str, params: Mapping[str, Json], remedy: str) -> Any:
    """An object of somebody's class, whose constructor may raise anything.

    Raises:
        UsageError: it does; says what, and the remedy.
    """
    try:
        return found(**params)
    except UsageError:
        raise
    except Exception as error:
        given = f" from {dict(params)}" if params else ""
        raise UsageError(f"{option} = {spec!r} cannot be made{given}: {error}.", remedy) from error
