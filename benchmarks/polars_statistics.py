"""The token-level statistics in polars, as its users would write them, on the exported Parquet (`compared_numbers.py`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from compared_numbers import (
    BINS,
    CARRIED,
    EDGES,
    GRID,
    PLANNING_P,
    POSITION_P,
    PREDICTORS,
    SETS,
    TOP,
    TOP_K,
    Numbers,
    lowered,
    planning_numbers,
    position_numbers,
)


def _tokens(folder: Path, run: str, columns: list[str]) -> Any:
    return pl.scan_parquet(folder / f"tokens-{run}.parquet").select(columns)


def sparsity(folder: Path, runs: list[str]) -> Numbers:
    found: Numbers = {}
    for run in runs:
        frame = _tokens(folder, run, ["ce"]).drop_nulls().sort("ce", descending=True).with_columns(c=pl.col("ce").cum_sum())
        data = frame.collect()
        x, c, n = data["ce"], data["c"], data.height
        total = c[-1]
        found[run, "gini", None] = (2 * c.sum() / total - (n + 1)) / n
        for level in CARRIED:
            found[run, "tokens_carrying", level] = (c.search_sorted(level * total * (1 - 1e-12)) + 1) / n
        for p in TOP:
            cut = lowered(x.quantile(1 - p, "linear"))
            found[run, "carried_by_top", p] = x.filter(x >= cut).sum() / total
        for g in GRID:
            j = int(np.floor(g * n))
            found[run, "lorenz", g] = (c[j] - (j + 1 - g * n) * x[j]) / total
    return found


def position(folder: Path, runs: list[str]) -> Numbers:
    found: Numbers = {}
    lengths = pl.scan_parquet(folder / "samples.parquet").select("run_id", "sample_id", "n_tokens")
    for run in runs:
        tokens = _tokens(folder, run, ["sample_id", "position", "ce"]).filter(pl.col("ce").is_not_null())
        cut = lowered(tokens.select(pl.col("ce").quantile(1 - POSITION_P, "linear")).collect().item())
        tokens = tokens.join(lengths.filter(pl.col("run_id") == run), on="sample_id")
        u = (pl.col("position") + 0.5) / pl.col("n_tokens")
        segment = sum(((u >= x).cast(pl.Int32) for x in EDGES), pl.lit(0))
        top = pl.col("ce") >= cut
        cells = (
            tokens.group_by(
                "sample_id",
                ((2 * pl.col("position").cast(pl.Int64) + 1) * BINS // (2 * pl.col("n_tokens"))).alias("bin"),
                segment.alias("segment"),
            )
            .agg(n_all=pl.len(), n_top=top.sum(), first=pl.col("position").filter(top).min())
            .with_columns(is_first=pl.col("first") == pl.col("first").min().over("sample_id"))
            .group_by("bin", "segment")
            .agg(pl.col("n_all").sum(), pl.col("n_top").sum(), n_first=pl.col("is_first").sum())
            .collect()
        )
        found |= position_numbers(run, cells.to_dict(as_series=False))
    return found


def uncertainty(folder: Path, runs: list[str]) -> Numbers:
    found: Numbers = {}
    for run in runs:
        data = _tokens(folder, run, ["ce", "entropy_base"]).drop_nulls().collect()
        for p in TOP:
            top = data["ce"] >= lowered(data["ce"].quantile(1 - p, "linear"))
            sure = data["entropy_base"] >= lowered(data["entropy_base"].quantile(1 - p, "linear"))
            found[run, "n_metric", p], found[run, "n_entropy", p] = top.sum(), sure.sum()
            found[run, "iou", p] = (top & sure).sum() / (top | sure).sum()
        ranked = data.select(pl.corr(pl.col("ce").rank("average"), pl.col("entropy_base").rank("average")))
        found[run, "spearman", None] = ranked.item()
    return found


def planning(folder: Path, runs: list[str]) -> Numbers:
    found: Numbers = {}
    for run in runs:
        tokens = _tokens(folder, run, ["planning_tag", "token_text", "fired", "ce", "entropy_base"])
        cuts = tokens.select(pl.col("ce", "entropy_base").quantile(1 - PLANNING_P, "linear")).collect()
        counts = (
            tokens.group_by("planning_tag", "token_text")
            .agg(
                all=pl.len(),
                top_metric=(pl.col("ce") >= lowered(cuts["ce"][0])).sum(),
                top_entropy=(pl.col("entropy_base") >= lowered(cuts["entropy_base"][0])).sum(),
                takeovers=pl.col("fired").sum(),
            )
            .collect()
        )
        words = (
            counts.group_by(pl.col("token_text").str.strip_chars().str.to_lowercase().alias("word"))
            .agg(pl.col("all", "top_metric").sum())
            .to_dicts()
        )
        tags = counts.filter(pl.col("planning_tag").is_not_null()).group_by("planning_tag")
        by_tag = {row["planning_tag"]: row for row in tags.agg(pl.col("all", *SETS[1:]).sum()).to_dicts()}
        sizes = counts.select(pl.col("all", *SETS[1:]).sum()).to_dicts()[0]
        found |= planning_numbers(run, sizes, by_tag, words)
    return found


def failure(folder: Path, runs: list[str]) -> Numbers:
    found: Numbers = {}
    samples = pl.scan_parquet(folder / "samples.parquet").select("run_id", "sample_id", "correct")
    for run in runs:
        tokens = _tokens(folder, run, ["sample_id", "ce", "entropy_base"])
        means = tokens.group_by("sample_id").agg(pl.col("ce", "entropy_base").top_k(TOP_K).mean(), length=pl.len())
        graded = means.join(samples.filter(pl.col("run_id") == run), on="sample_id").filter(pl.col("correct").is_not_null())
        data = graded.with_columns(wrong=~pl.col("correct")).collect()
        ranked = data.with_columns(pl.col(PREDICTORS).rank("average"))
        n, n_wrong = data.height, int(data["wrong"].sum())
        for name in PREDICTORS:
            rank_sum = ranked[name].filter(ranked["wrong"]).sum()
            found[run, "auroc", name] = (rank_sum - n_wrong * (n_wrong + 1) / 2) / (n_wrong * (n - n_wrong))
            groups = data.group_by(name).agg(pl.len(), wrong=pl.col("wrong").sum()).sort(name, descending=True)
            precision = groups["wrong"].cum_sum() / groups["len"].cum_sum()
            found[run, "average_precision", name] = (groups["wrong"] * precision).sum() / n_wrong
    return found


def takeovers(folder: Path, runs: list[str]) -> Numbers:
    found: Numbers = {}
    lengths = pl.scan_parquet(folder / "samples.parquet").select("run_id", "sample_id", "n_tokens")
    for run in runs:
        columns = ["sample_id", "position", "fired", "base_token_id", "token_id", "entropy_base"]
        tokens = _tokens(folder, run, columns).sort("sample_id", "position")
        entropy = pl.col("entropy_base")
        # A token is the one before a takeover if the next one fired.
        means = tokens.select(
            before=entropy.filter(pl.col("fired").shift(-1).over("sample_id")).mean(),
            at=entropy.filter("fired").mean(),
            after=entropy.filter(pl.col("fired").shift(1).over("sample_id")).mean(),
            all_tokens=entropy.mean(),
        ).collect()
        for name in ("before", "at", "after", "all_tokens"):
            found[run, "entropy", name.replace("_", " ")] = means[name][0]
        taken = tokens.filter("fired").join(lengths.filter(pl.col("run_id") == run), on="sample_id")
        bins = taken.group_by((pl.col("position").cast(pl.Int64) * 10 // pl.col("n_tokens")).alias("bin")).len().collect()
        found |= {(run, "position", row["bin"]): row["len"] for row in bins.to_dicts()}
        pairs = taken.group_by("base_token_id", "token_id").len().sort("len", descending=True).head(1).collect()
        found[run, "pair", 0] = pairs["len"][0]
        islands = (
            taken.sort("sample_id", "position")
            .with_columns(island=pl.col("position") - pl.int_range(pl.len()).over("sample_id"))
            .group_by("sample_id", "island")
            .agg(start=pl.col("position").min(), length=pl.len())
            .sort("sample_id", "start")
            .with_columns(gap=pl.col("start") - (pl.col("start") + pl.col("length")).shift(1).over("sample_id"))
            .collect()
        )
        found[run, "runs"], found[run, "gaps"] = islands.height, islands["gap"].drop_nulls().len()
        found[run, "singles"], found[run, "short gaps"] = (islands["length"] == 1).sum(), (islands["gap"] == 1).sum()
    return found
