"""Restore a base model's reasoning by correcting a few decision tokens, on SGLang servers.

What is public is in `__all__` and described in `docs/api.md`; everything else may change without notice. Names are loaded
when they are first used, so that the import itself takes no time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rrti_sgl.decoding.events import Finished as Finished
    from rrti_sgl.decoding.events import Takeover as Takeover
    from rrti_sgl.decoding.events import TextSettled as TextSettled
    from rrti_sgl.decoding.events import TokensAccepted as TokensAccepted
    from rrti_sgl.errors import CalibrationMismatchError as CalibrationMismatchError
    from rrti_sgl.errors import EndpointError as EndpointError
    from rrti_sgl.errors import ExperimentFileError as ExperimentFileError
    from rrti_sgl.errors import PairMismatchError as PairMismatchError
    from rrti_sgl.errors import ProblemFileError as ProblemFileError
    from rrti_sgl.errors import RRTIError as RRTIError
    from rrti_sgl.errors import ServerLaunchError as ServerLaunchError
    from rrti_sgl.errors import StoreError as StoreError
    from rrti_sgl.errors import StoreLockedError as StoreLockedError
    from rrti_sgl.errors import StoreVersionError as StoreVersionError
    from rrti_sgl.errors import UsageError as UsageError
    from rrti_sgl.programs.public.counterfactual import Counterfactual as Counterfactual
    from rrti_sgl.programs.public.opening import aconnect as aconnect
    from rrti_sgl.programs.public.opening import aopen as aopen
    from rrti_sgl.programs.public.opening import aserve as aserve
    from rrti_sgl.programs.public.opening import connect as connect
    from rrti_sgl.programs.public.opening import open as open
    from rrti_sgl.programs.public.opening import serve as serve
    from rrti_sgl.programs.public.pair import ModelPair as ModelPair
    from rrti_sgl.programs.public.samples import Sample as Sample
    from rrti_sgl.programs.public.samples import Samples as Samples
    from rrti_sgl.programs.public.store import Run as Run
    from rrti_sgl.programs.public.store import TraceStore as TraceStore
    from rrti_sgl.programs.tables.table import Table as Table

__version__ = "0.2.0"

_PUBLIC = {
    "serve": "rrti_sgl.programs.public.opening:serve",
    "connect": "rrti_sgl.programs.public.opening:connect",
    "open": "rrti_sgl.programs.public.opening:open",
    "aserve": "rrti_sgl.programs.public.opening:aserve",
    "aconnect": "rrti_sgl.programs.public.opening:aconnect",
    "aopen": "rrti_sgl.programs.public.opening:aopen",
    "ModelPair": "rrti_sgl.programs.public.pair:ModelPair",
    "Counterfactual": "rrti_sgl.programs.public.counterfactual:Counterfactual",
    "TraceStore": "rrti_sgl.programs.public.store:TraceStore",
    "Run": "rrti_sgl.programs.public.store:Run",
    "Sample": "rrti_sgl.programs.public.samples:Sample",
    "Samples": "rrti_sgl.programs.public.samples:Samples",
    "Table": "rrti_sgl.programs.tables.table:Table",
    "TokensAccepted": "rrti_sgl.decoding.events:TokensAccepted",
    "Takeover": "rrti_sgl.decoding.events:Takeover",
    "TextSettled": "rrti_sgl.decoding.events:TextSettled",
    "Finished": "rrti_sgl.decoding.events:Finished",
    "RRTIError": "rrti_sgl.errors:RRTIError",
    "UsageError": "rrti_sgl.errors:UsageError",
    "ProblemFileError": "rrti_sgl.errors:ProblemFileError",
    "ExperimentFileError": "rrti_sgl.errors:ExperimentFileError",
    "EndpointError": "rrti_sgl.errors:EndpointError",
    "ServerLaunchError": "rrti_sgl.errors:ServerLaunchError",
    "PairMismatchError": "rrti_sgl.errors:PairMismatchError",
    "CalibrationMismatchError": "rrti_sgl.errors:CalibrationMismatchError",
    "StoreError": "rrti_sgl.errors:StoreError",
    "StoreLockedError": "rrti_sgl.errors:StoreLockedError",
    "StoreVersionError": "rrti_sgl.errors:StoreVersionError",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, member = _PUBLIC[name].partition(":")
    found = getattr(import_module(module), member)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
