"""Turns a finished trace into the records of the store: text, grading, planning tags, planted positions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rrti_sgl.decoding.job import SampleJob
from rrti_sgl.decoding.trace import TraceBuilder
from rrti_sgl.grading import Grader, PlantedDecisions, grade_solution
from rrti_sgl.records import IntArray, SampleRecord, SampleTrace, TokenColumns
from rrti_sgl.science.planning import PlanningTagger
from rrti_sgl.tokens.vocabulary import Vocabulary


@dataclass(frozen=True)
class Finisher:
    """Everything that is added to a sample after its last token.

    Args:
        vocabulary: turns tokens into text.
        grader: finds and judges the answer.
        tagger: tags planning tokens.
        planted: knows the planted decisions, where the problem set plants any.
        stops: what begins the next problem in the writing model's prompt; a solution is graded up to there.
        whole: whether the reasoning model writes whole solutions, beginning with what its prompt opens.
        top_k_mass: lists end where they hold this share of all probability; what is computed from them is of whole lists.
    """

    vocabulary: Vocabulary
    grader: Grader
    tagger: PlanningTagger
    planted: PlantedDecisions | None = None
    stops: tuple[str, ...] = ()
    whole: bool = False
    top_k_mass: float = 1.0

    def finish(self, job: SampleJob, trace: TraceBuilder) -> SampleTrace:
        """Return the sample as it is stored."""
        text = self.vocabulary.decode(trace.token_ids)
        written = self.vocabulary.decode([*job.prefix_ids, *trace.token_ids])
        grade = grade_solution(self.grader, job.problem, written, self.stops, job.reasoning_prompt if self.whole else None)
        base_prompt, reasoning_prompt = job.full_prompts
        pieces = self.vocabulary.pieces(trace.token_ids)
        return SampleTrace(
            sample=SampleRecord(
                run_id=job.run_id,
                sample_id=job.sample_id,
                problem_id=job.problem.problem_id,
                sample_index=job.sample_index,
                base_prompt=base_prompt if trace.base_calls.calls else None,
                reasoning_prompt=reasoning_prompt if trace.reasoning_calls.calls else None,
                text=text,
                n_tokens=len(trace),
                n_takeovers=trace.sources.count("reasoning"),
                n_changed=sum(
                    source == "reasoning" and drawn not in (-1, token)
                    for source, token, drawn in zip(trace.sources, trace.token_ids, trace.base_token_ids, strict=True)
                ),
                finish_reason=trace.finish_reason,
                answer=grade.answer,
                correct=grade.correct,
                started_at=trace.started_at,
                wall_ms=trace.wall_ms,
                base_calls=trace.base_calls.calls,
                reasoning_calls=trace.reasoning_calls.calls,
                base_ms=trace.base_calls.elapsed_ms,
                reasoning_ms=trace.reasoning_calls.elapsed_ms,
                base_prompt_tokens=trace.base_calls.prompt_tokens,
                base_cached_tokens=trace.base_calls.cached_tokens,
                reasoning_prompt_tokens=trace.reasoning_calls.prompt_tokens,
                reasoning_cached_tokens=trace.reasoning_calls.cached_tokens,
                tokens_drafted=trace.drafted,
                tokens_discarded=trace.discarded,
                tokens_scored=trace.scored,
                parent_sample_id=job.prefix.parent_sample_id if job.prefix else None,
                parent_position=len(job.prefix_ids) - 1 if job.prefix else None,
                arm=job.prefix.arm if job.prefix else None,
                answer_method=grade.method,
            ),
            tokens=self._columns(job, trace, pieces),
            score_metric=None if trace.gate is None else trace.gate.metric,
        )

    def _columns(self, job: SampleJob, trace: TraceBuilder, pieces: list[str]) -> TokenColumns:
        n = len(trace)
        base_ids, base_logprobs = trace.base.padded(n, trace.k, self.top_k_mass)
        reasoning_ids, reasoning_logprobs = trace.reasoning.padded(n, trace.k, self.top_k_mass)
        return TokenColumns(
            token_id=np.asarray(trace.token_ids, dtype=np.int32),
            token_text=pieces,
            source=list(trace.sources),
            base_token_id=np.asarray(trace.base_token_ids, dtype=np.int32),
            base_token_text=[None if i < 0 else self.vocabulary.token_text(i) for i in trace.base_token_ids],
            reasoning_token_id=np.asarray(trace.reasoning_token_ids, dtype=np.int32),
            base_logprob=np.asarray(trace.base_logprobs),
            reasoning_logprob=np.asarray(trace.reasoning_logprobs),
            score=np.asarray([decision.score for decision in trace.decisions]),
            local_mean=np.asarray(
                [math.nan if d.local_mean is None else d.local_mean for d in trace.decisions], dtype=np.float64
            ),
            fired=np.asarray([decision.fired for decision in trace.decisions]),
            metrics=trace.metrics(),
            base_tail_mass=trace.base.tail_mass(n),
            reasoning_tail_mass=trace.reasoning.tail_mass(n),
            planning_tag=self.tagger.tag(pieces),
            planted=self._planted(job, trace, pieces),
            base_topk_ids=base_ids,
            base_topk_logprobs=base_logprobs,
            reasoning_topk_ids=reasoning_ids,
            reasoning_topk_logprobs=reasoning_logprobs,
        )

    def _planted(self, job: SampleJob, trace: TraceBuilder, pieces: list[str]) -> IntArray:
        if self.planted is None:
            return np.full(len(trace), -1, dtype=np.int32)
        n_text = len(trace) - (not self.vocabulary.stop_token_ids.isdisjoint(trace.token_ids[-1:]))
        words = [piece.strip() for piece in (*self.vocabulary.pieces(job.prefix_ids), *pieces[:n_text])]
        found = self.planted.positions(job.problem, words)
        positions = [position - len(job.prefix_ids) for position in found if position >= len(job.prefix_ids)]
        planted = np.zeros(len(trace), dtype=np.int32)
        planted[positions] = 1
        return planted
