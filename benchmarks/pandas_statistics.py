"""The token-level statistics in pandas, as its users would write them, on the exported Parquet (`compared_numbers.py`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from compared_numbers import (
    BINS,
    CARRIED,
    EDGES,
    GRID,
    PLANNING_P,
    POSITION_P,
    SETS,
    TOP,
    TOP_K,
    Numbers,
    lowered,
    planning_numbers,
    position_numbers,
)


def _tokens(folder: Path, run: str, columns: list[str]) -> Any:
    return pd.read_parquet(folder / f"tokens-{run}.parquet", columns=columns)


def _samples(folder: Path, run: str, columns: list[str]) -> Any:
    samples = pd.read_parquet(folder / "samples.parquet", columns=["run_id", *columns])
    return samples[samples["run_id"] == run]


def sparsity(folder: Path, runs: list[str]) -> Numbers:
    found: Numbers = {}
    for run in runs:
        x = _tokens(folder, run, ["ce"])["ce"].dropna().sort_values(ascending=False, ignore_index=True)
        c, n = x.cumsum(), len(x)
        total = c.iloc[-1]
        found[run, "gini", None] = (2 * c.sum() / total - (n + 1)) / n
        for level in CARRIED:
            found[run, "tokens_carrying", level] = (c.searchsorted(level * total * (1 - 1e-12)) + 1) / n
        for p in TOP:
            found[run, "carried_by_top", p] = x[x >= lowered(x.quantile(1 - p))].sum() / total
        for g in GRID:
            j = int(np.floor(g * n))
            found[run, "lorenz", g] = (c.iloc[j] - (j + 1 - g * n) * x.iloc[j]) / total
    return found


def position(folder: Path, runs: list[str]) -> Numbers:
    found: Numbers = {}
    for run in runs:
        tokens = _tokens(folder, run, ["sample_id", "position", "ce"]).dropna()
        tokens = tokens.merge(_samples(folder, run, ["sample_id", "n_tokens"]), on="sample_id")
        tokens["bin"] = (2 * tokens["position"].astype("int64") + 1) * BINS // (2 * tokens["n_tokens"])
        u = (tokens["position"] + 0.5) / tokens["n_tokens"]
        tokens["segment"] = sum((u >= x).astype(int) for x in EDGES)
        tokens["top"] = tokens["ce"] >= lowered(tokens["ce"].quantile(1 - POSITION_P))
        cells = tokens.groupby(["bin", "segment"]).agg(n_all=("top", "size"), n_top=("top", "sum")).reset_index()
        firsts = tokens[tokens["top"]].sort_values("position").groupby("sample_id").first()
        firsts = firsts.groupby(["bin", "segment"]).size().rename("n_first")
        cells = cells.join(firsts, on=["bin", "segment"]).fillna({"n_first": 0})
        found |= position_numbers(run, cells.to_dict("list"))
    return found


def uncertainty(folder: Path, runs: list[str]) -> Numbers:
    found: Numbers = {}
    for run in runs:
        data = _tokens(folder, run, ["ce", "entropy_base"]).dropna()
        cuts = data.quantile([1 - p for p in TOP])
        for p in TOP:
            top = data["ce"] >= lowered(cuts.loc[1 - p, "ce"])
            sure = data["entropy_base"] >= lowered(cuts.loc[1 - p, "entropy_base"])
            found[run, "n_metric", p], found[run, "n_entropy", p] = top.sum(), sure.sum()
            found[run, "iou", p] = (top & sure).sum() / (top | sure).sum()
        found[run, "spearman", None] = data["ce"].rank().corr(data["entropy_base"].rank())
    return found


def planning(folder: Path, runs: list[str]) -> Numbers:
    found: Numbers = {}
    for run in runs:
        tokens = _tokens(folder, run, ["planning_tag", "token_text", "fired", "ce", "entropy_base"])
        tokens["all"] = True
        tokens["top_metric"] = tokens["ce"] >= lowered(tokens["ce"].quantile(1 - PLANNING_P))
        tokens["top_entropy"] = tokens["entropy_base"] >= lowered(tokens["entropy_base"].quantile(1 - PLANNING_P))
        tokens["takeovers"] = tokens["fired"]
        counts = tokens.groupby(["planning_tag", "token_text"], dropna=False)[list(SETS)].sum().reset_index()
        words = counts.groupby(counts["token_text"].str.strip().str.lower())[["all", "top_metric"]].sum()
        by_tag = counts.groupby("planning_tag")[list(SETS)].sum().to_dict("index")
        listed = words.rename_axis("word").reset_index().to_dict("records")
        found |= planning_numbers(run, counts[list(SETS)].sum(), by_tag, listed)
    return found


def failure(folder: Path, runs: list[str]) -> Numbers:
    found: Numbers = {}
    for run in runs:
        tokens = _tokens(folder, run, ["sample_id", "ce", "entropy_base"])
        samples = _samples(folder, run, ["sample_id", "correct"]).dropna().set_index("sample_id")
        wrong = ~samples["correct"].astype(bool)
        for name in ("ce", "entropy_base"):
            ordered = tokens[["sample_id", name]].dropna().sort_values(name, ascending=False)
            means = ordered.groupby("sample_id")[name].head(TOP_K).groupby(ordered["sample_id"]).mean()
            found |= _pandas_prediction(run, name, means, wrong)
        found |= _pandas_prediction(run, "length", tokens.groupby("sample_id").size(), wrong)
    return found


def _pandas_prediction(run: str, name: str, predictor: Any, wrong: Any) -> Numbers:
    n, n_wrong = len(wrong), int(wrong.sum())
    predictor = predictor.reindex(wrong.index)
    groups = wrong.groupby(predictor).agg(["size", "sum"]).sort_index(ascending=False)
    precision = groups["sum"].cumsum() / groups["size"].cumsum()
    rank_sum = predictor.rank()[wrong].sum()
    return {
        (run, "auroc", name): (rank_sum - n_wrong * (n_wrong + 1) / 2) / (n_wrong * (n - n_wrong)),
        (run, "average_precision", name): (groups["sum"] * precision).sum() / n_wrong,
    }


def takeovers(folder: Path, runs: list[str]) -> Numbers:
    found: Numbers = {}
    for run in runs:
        columns = ["sample_id", "position", "fired", "base_token_id", "token_id", "entropy_base"]
        tokens = _tokens(folder, run, columns).sort_values(["sample_id", "position"], ignore_index=True)
        fired = tokens.groupby("sample_id")["fired"]
        entropy = tokens["entropy_base"]
        found[run, "entropy", "before"] = entropy[fired.shift(-1, fill_value=False)].mean()
        found[run, "entropy", "at"] = entropy[tokens["fired"]].mean()
        found[run, "entropy", "after"] = entropy[fired.shift(1, fill_value=False)].mean()
        found[run, "entropy", "all tokens"] = entropy.mean()
        taken = tokens[tokens["fired"]].merge(_samples(folder, run, ["sample_id", "n_tokens"]), on="sample_id")
        bins = (taken["position"].astype("int64") * 10 // taken["n_tokens"]).value_counts()
        found |= {(run, "position", index): count for index, count in bins.items()}
        found[run, "pair", 0] = taken.groupby(["base_token_id", "token_id"]).size().max()
        taken["island"] = taken["position"] - taken.groupby("sample_id").cumcount()
        islands = taken.groupby(["sample_id", "island"])["position"].agg(["min", "size"]).reset_index()
        islands = islands.sort_values(["sample_id", "min"])
        ends = (islands["min"] + islands["size"]).groupby(islands["sample_id"]).shift(1)
        gaps = (islands["min"] - ends).dropna()
        found[run, "runs"], found[run, "gaps"] = len(islands), len(gaps)
        found[run, "singles"], found[run, "short gaps"] = (islands["size"] == 1).sum(), (gaps == 1).sum()
    return found
