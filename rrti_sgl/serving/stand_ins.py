"""Inert stand-ins for the GPU-only modules that SGLang imports at module level and never calls on a CPU.

SGLang's published wheel imports `triton`, `torchvision` and `sgl_kernel` unconditionally. None has a CPU build that it
needs here, and on the CPU path (`--device cpu --attention-backend torch_native`) nothing of them is ever called. A stand-in
answers attribute look-ups, so that imports and decorators succeed, and raises as soon as something calls into it.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

STAND_IN_ROOTS = ("triton", "torchvision", "sgl_kernel")


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


class _InertClass(type):
    """A class whose class attributes are their own names (an enum member such as `InterpolationMode.BICUBIC`)."""

    def __getattr__(cls, name: str) -> str:
        if _is_dunder(name):
            raise AttributeError(name)
        return name


class _InertModule(types.ModuleType):
    """A module that has every attribute: classes for capitalised names, further inert modules for the rest."""

    def __getattr__(self, name: str) -> Any:
        if _is_dunder(name):
            raise AttributeError(name)
        value: Any
        if name[:1].isupper():
            value = _InertClass(name, (), {"__module__": self.__name__, "__init__": lambda self, *a, **k: None})
        else:
            value = _InertModule(f"{self.__name__}.{name}")
        setattr(self, name, value)
        return value

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.__name__.partition(".")[0] != "triton":
            raise RuntimeError(f"{self.__name__} was called, but this is a CPU-only installation of SGLang")
        # `@triton.jit` and `@triton.autotune(...)`: leave the kernel source as it is, it is never launched.
        if len(args) == 1 and callable(args[0]) and not kwargs:
            return args[0]
        return _return_unchanged

    def __bool__(self) -> bool:
        return False

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        return ()


def _return_unchanged(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


# What SGLang computes with at import time, and so needs a real value.
_REAL_ATTRIBUTES: dict[str, dict[str, Any]] = {
    "triton": {
        "__version__": "3.0.0",
        "cdiv": lambda a, b: -(a // -b),
        "next_power_of_2": lambda n: 1 << (n - 1).bit_length() if n > 0 else 1,
    },
    "torchvision": {"__version__": "0.0.0"},
    "sgl_kernel": {"__version__": "0.0.0"},
}


class _StandInFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] not in STAND_IN_ROOTS:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _InertModule(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        module.__path__ = []
        module.__dict__.update(_REAL_ATTRIBUTES.get(module.__name__, {}))


def install() -> None:
    """Put the stand-ins in front of the import system of this process; a second call changes nothing."""
    if not any(isinstance(finder, _StandInFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _StandInFinder())
