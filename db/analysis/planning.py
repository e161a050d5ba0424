"""Planning: whether the tokens of large disagreement are planning words; the estimate decides which words are listed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rrti_sgl.db.analysis.intervals import bootstrap_of, named, table_of
from rrti_sgl.db.analysis.notes import top_note
from rrti_sgl.db.analysis.parameters import count, metrics, share
from rrti_sgl.db.analysis.query import Query, Values
from rrti_sgl.db.analysis.token_values import Block, TokenReader, TokenValues
from rrti_sgl.db.store import Store
from rrti_sgl.records import BoolArray, FloatArray, IntArray
from rrti_sgl.statistics.blocks import Blocks, problem_sums
from rrti_sgl.statistics.resampling import Bounds, ProblemBootstrap

ABOUT = """\
Are the tokens of large disagreement planning words?
Definitions: sets of tokens: all; top_metric and top_entropy: every token with value >= Q(1 - p), Q the linearly
  interpolated quantile less a relative 1e-12 over the run's tokens that have the value, ties at the threshold all in;
  within: Q is that of the whole run, or that of the token's sample. takeovers: tokens where the gate fired. n_tokens:
  tokens of the set; n_matching of them match: they carry a planning tag (part planning), the tag `label` (part category),
  or are the word `label` (part word: the text of one token without white space around it, in lower case).
  share = n_matching / n_tokens. enrichment = share / share among all tokens of the
  run; it cannot exceed 1 / share among all. odds_ratio: odds of a match in the set over those in the rest of the run, NULL
  where a cell of that table is 0. odds_over_all: odds in the set over those among all tokens of the run, which is what
  two published shares tell; unlike enrichment neither has a largest value. All of an empty set are NULL.
  note: what ties made of a top set.
  Words: for top_metric, the $words words of the largest keyness that are more frequent in the set than in the run, at
  least $least times; keyness is Dunning's log-likelihood ratio (2 sum O ln(O / E) over the four cells), in nats.
Paper: share of planning tokens overall, among top-divergence, top-entropy (diagnosis) and takeover tokens.
Parameters: $runs run ids; $metric columns of tokens; $p share of tokens; $words number of words; $least occurrences of a
  word in the set
"""
_ESTIMATES = ("odds_ratio", "enrichment", "share")
_PARTS = ("planning", "category", "word")
_SETS = ("all", "top_metric", "top_entropy", "takeovers")
_ROUNDING = 1e-9
_KIND = "kind"
_SCHEMA = pa.schema(
    {
        **dict.fromkeys(("run_id", "part", "label", "tokens", "within"), pa.string()),
        **dict.fromkeys(("n_tokens", "n_matching"), pa.int64()),
        **dict.fromkeys(("share", "enrichment", "odds_ratio", "odds_over_all", "keyness"), pa.float64()),
        "note": pa.string(),
    }
)


def _compute(store: Store, values: Values) -> pa.Table:
    rows: list[dict[str, Any]] = []
    for run in values["runs"]:
        tokens = values["reader"].read(run, [values["metric"], "entropy_base", "fired"])
        kinds = tokens.once(("kinds",), partial(_Kinds.read, values["reader"], run, tokens))
        rows += [{"run_id": run, **row} for row in _rows(_sets(tokens, values), kinds, values)]
    return table_of(rows, _SCHEMA, _ESTIMATES, values)


@dataclass(frozen=True, eq=False)
class _Kinds:
    """The K kinds of tokens of a run, which differ in text or planning tag.

    Attributes:
        words, tags: (K,) the word of each, "" for white space, and the tag, None where there is none.
    """

    words: NDArray[np.object_]
    tags: NDArray[np.object_]

    @classmethod
    def read(cls, reader: TokenReader, run: str, tokens: TokenValues) -> _Kinds:
        """From the text and the tag of each token; their numbers become a column `_KIND` of the tokens."""
        numbers: dict[tuple[str, str], int] = {}
        column = Blocks()
        for rows in reader.rows(run, "_planning_kinds", tokens):
            text, tag = (pc.fill_null(rows[each], "").combine_chunks().dictionary_encode() for each in ("token_text", "tag"))
            texts, tags = text.dictionary.to_pylist(), tag.dictionary.to_pylist()
            codes = text.indices.to_numpy().astype(np.int64) * len(tags) + tag.indices.to_numpy()
            there = np.flatnonzero(np.bincount(codes))
            pairs = ((texts[at // len(tags)], tags[at % len(tags)]) for at in there.tolist())
            number = np.zeros(len(texts) * len(tags), dtype=np.int32)
            number[there] = [numbers.setdefault(pair, len(numbers)) for pair in pairs]
            column.append(number[codes])
        tokens.columns[_KIND] = column
        # As DuckDB spells lower(trim(text)), which is not what Python does with some capitals.
        words = pc.utf8_lower(pc.utf8_trim(pa.array([text for text, _ in numbers], pa.string()), " \t\n\r"))
        tags = np.array([tag or None for _, tag in numbers], dtype=np.object_)
        return cls(words.to_numpy(zero_copy_only=False), tags)


@dataclass(frozen=True, eq=False)
class _Set:
    """A set of tokens of a run.

    Attributes:
        name, within: what it is called.
        tokens: those of the run that may be in it.
        inside: which tokens (n,) of a block are.
        column: that this needs.
        is_top: of the run, in the order of that column, to be found again in every resample.
    """

    name: str
    within: str | None
    tokens: TokenValues
    inside: Callable[[Block], BoolArray]
    column: str = "fired"
    is_top: bool = False

    def kinds(self, n: int) -> NDArray[np.int64]:
        """(n,) tokens of the set by kind."""
        found = np.zeros(n, dtype=np.int64)
        for block in self.tokens.blocks(self.column, _KIND):
            found += np.bincount(block[_KIND][self.inside(block)], minlength=n)
        return found


def _sets(tokens: TokenValues, values: Values) -> list[_Set]:
    found = [
        _Set("all", None, tokens, lambda block: np.ones(len(block), dtype=np.bool_)),
        _Set("takeovers", None, tokens, lambda block: block["fired"] > 0),
    ]
    for name, score in (("top_metric", values["metric"]), ("top_entropy", "entropy_base")):
        scored = tokens.complete(score)
        above, first = (
            partial(_above, score, scored.ranking(score).threshold(values["p"])),
            partial(_first, score, values["p"]),
        )
        found.append(_Set(name, "run", scored, above, score, is_top=True))
        found.append(_Set(name, "sample", scored, first, score))
    return sorted(found, key=lambda each: (each.within == "sample", _SETS.index(each.name)))


def _above(score: str, threshold: float, block: Block) -> BoolArray:
    found: BoolArray = block[score] >= threshold
    return found


def _first(score: str, p: float, block: Block) -> BoolArray:
    return block.in_samples(score).in_top(p)


def _rows(sets: Sequence[_Set], kinds: _Kinds, values: Values) -> list[dict[str, Any]]:
    """The rows of a run: each label of each part, in each set."""
    counts = {(each.name, each.within): each.kinds(len(kinds.words)) for each in sets}
    every, top = counts["all", None], counts["top_metric", "run"]
    labels: list[tuple[str, str | None]] = [("planning", None)]
    labels += [("category", tag) for tag in sorted({tag for tag in kinds.tags if tag is not None})]
    words, number = np.unique(kinds.words.astype(str), return_inverse=True)
    of_top, of_all = (np.bincount(number, each, len(words)) for each in (top, every))
    often = (words != "") & (of_top >= values["least"]) & (of_top / top.sum() > of_all / every.sum())
    keyness = {
        str(words[at]): _keyness(int(of_top[at]), int(top.sum()), int(of_all[at]), int(every.sum()))
        for at in np.flatnonzero(often)
    }
    labels += [("word", word) for word in sorted(keyness, key=lambda word: (-keyness[word], word))[: values["words"]]]
    matches = np.stack([_matching(kinds, *label) for label in labels])
    bounds = _Bounds(sets[0], kinds, labels, values) if values["resamples"] else None
    rows = []
    ends = {(each.name, each.within): bounds.of(each) for each in sets} if bounds is not None else {}
    for at, (part, label) in enumerate(labels):
        for each in sets if part != "word" else [one for one in sets if (one.name, one.within) == ("top_metric", "run")]:
            key = (each.name, each.within)
            row: dict[str, Any] = {"part": part, "label": label, "tokens": each.name, "within": each.within}
            row |= _estimates(*(int(x) for n in (counts[key], every) for x in (n.sum(), n[matches[at]].sum())))
            row["keyness"] = keyness[str(label)] if part == "word" else None
            score = {"top_metric": values["metric"], "top_entropy": "entropy_base"}.get(each.name)
            row["note"] = score and top_note(row["n_tokens"], len(each.tokens), values["p"], score, each.within or "")
            for name, found in ends.get(key, {}).items():
                row |= named(name, found, at)
            rows.append(row)
    return rows


def _matching(kinds: _Kinds, part: str, label: str | None) -> BoolArray:
    """(K,) which kinds match a label of a part."""
    if part == "word":
        return np.asarray(kinds.words == label)
    return np.array([tag is not None and label in (None, tag) for tag in kinds.tags], dtype=np.bool_)


def _estimates(n: int, matching: int, n_all: int, matching_all: int) -> dict[str, Any]:
    """What is said of a set of n tokens."""
    others, outside = n - matching, matching_all - matching
    rest = n_all - n - outside
    share = matching / n if n else None
    whole = matching_all / (n_all - matching_all) if n_all > matching_all else 0.0
    return {
        **{"n_tokens": n, "n_matching": matching, "share": share},
        "enrichment": None if share is None else share / (matching_all / n_all),
        "odds_ratio": matching / others / (outside / rest) if matching and others and outside and rest else None,
        "odds_over_all": matching / others / whole if matching and others and whole else None,
    }


def _keyness(matching: int, n: int, matching_all: int, n_all: int) -> float:
    """Dunning's log-likelihood ratio of a word in a set."""
    observed = np.array([matching, n - matching, matching_all - matching, n_all - n - matching_all + matching])
    expected = np.array([size * of / n_all for size in (n, n_all - n) for of in (matching_all, n_all - matching_all)])
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(observed > 0, observed * np.log(observed / expected), 0.0)
    return float(2 * terms.sum())


@dataclass(frozen=True, eq=False)
class _Counts:
    """A set of tokens: of each problem (P, K) and each resample (B, K) its tokens, and those that match each of K labels."""

    tokens: FloatArray
    matching: FloatArray
    tokens_of: FloatArray
    matching_of: FloatArray


class _Bounds:
    """The intervals of the sets of tokens of one run, for its L labels: planning words, then categories, then words."""

    def __init__(self, whole: _Set, kinds: _Kinds, labels: Sequence[tuple[str, str | None]], values: Values) -> None:
        bootstrap = bootstrap_of(whole.tokens.n_problems, values)
        assert bootstrap is not None  # intervals are asked for
        self.bootstrap, self.p, self.n_labels = bootstrap, values["p"], len(labels)
        # For each part (K,) place of each kind's label, -1 for none.
        self.codes: list[IntArray] = []
        for part in _PARTS:
            codes = np.full(len(kinds.words), -1, dtype=np.int32)
            for place, label in enumerate(labels):
                if label[0] == part:
                    codes[_matching(kinds, *label)] = place
            self.codes.append(codes)
        self.whole, self.all = whole, self._counts(whole)

    def of(self, chosen: _Set) -> dict[str, Bounds]:
        """The ends (L,) of share, enrichment and odds of a set."""
        return _bounds(self.bootstrap, self.all if chosen is self.whole else self._counts(chosen), self.all)

    def _counts(self, chosen: _Set) -> _Counts:
        blocks = (block.take(chosen.inside(block)) for block in chosen.tokens.blocks(chosen.column, _KIND))
        # Beside the labels one place for all tokens.
        every = [*self.codes, np.full(len(self.codes[0]), self.n_labels)]
        parts = ((block.problem, codes[block[_KIND]], None) for block in blocks for codes in every)
        counts = problem_sums(parts, self.bootstrap.n_problems, self.n_labels + 1)
        if chosen.is_top:
            top = chosen.tokens.resampled(chosen.column, self.bootstrap).top(self.p)
            scored = chosen.tokens.blocks(chosen.column, _KIND)
            of_top = (
                (block.problem, block[chosen.column], codes[block[_KIND]], None) for block in scored for codes in every
            )
            counts_of = top.having(of_top, self.n_labels + 1)
        else:
            counts_of = self.bootstrap.sums(counts)
        return _Counts(*_beside(counts), *_beside(counts_of))


def _beside(counts: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(..., L) tokens of a set, the same for each label, and (..., L) those that match, of counts (..., L + 1)."""
    matching = counts[:, :-1]
    return np.broadcast_to(counts[:, -1:], matching.shape), matching


def _bounds(bootstrap: ProblemBootstrap, chosen: _Counts, whole: _Counts) -> dict[str, Bounds]:
    """The ends (K,) of share, enrichment, odds ratio.

    The imaginary trial of a high end is a matching token of the set; of a low end, one of the set that does not match, and
    for what compares with the rest a matching one of the rest as well.
    """
    share = bootstrap.shares(chosen.matching, chosen.tokens, resampled=(chosen.matching_of, chosen.tokens_of))
    nothing = (np.full(len(share[0]), np.nan), np.full(len(share[0]), np.nan))
    if chosen is whole:
        return {"share": share} | dict.fromkeys(("enrichment", "odds_ratio"), nothing)
    one = bootstrap.imaginary(chosen.tokens)
    inside, others = chosen.matching_of, chosen.tokens_of - chosen.matching_of
    outside = whole.matching_of - inside
    outside = np.where(outside > _ROUNDING * whole.matching_of, outside, 0.0)
    rest = whole.tokens_of - chosen.tokens_of - outside
    with np.errstate(divide="ignore", invalid="ignore"):
        replicates = {
            "enrichment": (
                _enrichment(inside, others + one, outside + one, rest),
                _enrichment(inside + one, others, outside, rest),
            ),
            "odds_ratio": (
                inside * rest / ((others + one) * (outside + one)),
                (inside + one) * rest / (others * outside),
            ),
        }
        found = {name: bootstrap.percentiles(*ends) for name, ends in replicates.items()}
    unknown = np.isnan(share[0])
    return {"share": share} | {
        name: (np.where(unknown, np.nan, low), np.where(unknown, np.nan, high)) for name, (low, high) in found.items()
    }


def _enrichment(inside: FloatArray, others: FloatArray, outside: FloatArray, rest: FloatArray) -> FloatArray:
    """Share of matching tokens in a set over their share in all, from the four cells."""
    found: FloatArray = inside / (inside + others) / ((inside + outside) / (inside + others + outside + rest))
    return found


QUERY = Query(
    "planning",
    {"metric": metrics("ce", "reverse_kl", "js"), "p": share(0.01), "words": count(10), "least": count(5)},
    needs=("metric", "entropy_base", "planning_tag"),
    about=ABOUT,
    compute=_compute,
)
