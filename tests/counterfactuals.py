"""A stored sample continued with and without what is asked for, as the command and the public call do."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from rrti_sgl.db.store import Store
from rrti_sgl.programs.running.arms import plan_arms
from rrti_sgl.programs.running.counterfactual import Effect, run_counterfactual
from rrti_sgl.programs.running.runner import OnProgress
from rrti_sgl.programs.running.session import PairSession
from rrti_sgl.records import RunRecord


async def try_arms(
    session: PairSession,
    store: Store,
    sample: str | None = None,
    *,
    resume: str | None = None,
    trust: Collection[str] = (),
    on_progress: OnProgress | None = None,
    **asked: Any,
) -> tuple[RunRecord, list[Effect]]:
    arms = plan_arms(store, sample, resume=resume, trust=trust, **asked)
    return await run_counterfactual(session, store, arms, resume=resume, trust=trust, on_progress=on_progress)
