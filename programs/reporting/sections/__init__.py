"""The sections of the report, in the order of the paper: one for each statistic."""

from __future__ import annotations

from rrti_sgl.programs.reporting.sections import decisions, diagnosis, failure, outcome, planning

SECTIONS = (*diagnosis.SECTIONS, *planning.SECTIONS, *failure.SECTIONS, *outcome.SECTIONS, *decisions.SECTIONS)
