"""The sections of the report, in the order of the paper: one for each statistic."""

from __future__ import annotations

from rrti_sgl.reporting.sections import diagnosis, failure, outcome, planning, process

SECTIONS = (*diagnosis.SECTIONS, *planning.SECTIONS, *failure.SECTIONS, *outcome.SECTIONS, *process.SECTIONS)
