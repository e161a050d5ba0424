"""The token-level statistics in polars and in pandas, as their users would write them, on the exported Parquet.

Each function takes the folder of the export and a list of runs, and returns named numbers; `rows_of` gives the same names to
what `rrti stats` computes, so that a benchmark can refuse to time different answers. Definitions are those of
`db/queries/*.sql`, with their default parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Numbers = dict[tuple[Any, ...], float]
CARRIED, TOP = (0.5, 0.8, 0.9, 0.94), (0.01, 0.05, 0.08, 0.1, 0.2)
GRID = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
PREDICTORS = ("ce", "entropy_base", "length")
EDGES, BINS, POSITION_P, PLANNING_P, TOP_K = (0.05, 0.1, 0.2), 20, 0.01, 0.01, 100


def lowered(quantile: float) -> float:
    """A threshold of a top-p set as the queries use it: less a relative 1e-12."""
    return quantile - 1e-12 * abs(quantile)


# -- polars ---------------------------------------------------------------------------------------------------------


def _pl_tokens(folder: Path, run: str, columns: list[str]) -> Any:
    import polars as pl

    return pl.scan_parquet(folder / f"tokens-{run}.parquet").select(columns)


def polars_sparsity(folder: Path, runs: list[str]) -> Numbers:
    import polars as pl

    found: Numbers = {}
    for run in runs:
        frame = (
            _pl_tokens(folder, run, ["ce"]).drop_nulls().sort("ce", descending=True).with_columns(c=pl.col("ce").cum_sum())
        )
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


def polars_position(folder: Path, runs: list[str]) -> Numbers:
    import polars as pl

    found: Numbers = {}
    lengths = pl.scan_parquet(folder / "samples.parquet").select("run_id", "sample_id", "n_tokens")
    for run in runs:
        tokens = _pl_tokens(folder, run, ["sample_id", "position", "ce"]).filter(pl.col("ce").is_not_null())
        cut = lowered(tokens.select(pl.col("ce").quantile(1 - POSITION_P, "linear")).collect().item())
        tokens = tokens.join(lengths.filter(pl.col("run_id") == run), on="sample_id")
        u = pl.col("position") / pl.col("n_tokens")
        segment = sum(((u >= x).cast(pl.Int32) for x in EDGES), pl.lit(0))
        top = pl.col("ce") >= cut
        cells = (
            tokens.group_by(
                "sample_id",
                (pl.col("position").cast(pl.Int64) * BINS // pl.col("n_tokens")).alias("bin"),
                segment.alias("segment"),
            )
            .agg(n_all=pl.len(), n_top=top.sum(), first=pl.col("position").filter(top).min())
            .with_columns(is_first=pl.col("first") == pl.col("first").min().over("sample_id"))
            .group_by("bin", "segment")
            .agg(pl.col("n_all").sum(), pl.col("n_top").sum(), n_first=pl.col("is_first").sum())
            .collect()
        )
        found |= _position_numbers(run, cells.to_dict(as_series=False))
    return found


def _position_numbers(run: str, cells: Mapping[str, list[Any]]) -> Numbers:
    """What follows from the counted cells; some hundred rows, so it is the same for both libraries."""
    bins, segments = np.array(cells["bin"]), np.array(cells["segment"])
    counts = {name: np.array([value or 0 for value in cells[name]], dtype=float) for name in ("n_all", "n_top", "n_first")}
    found: Numbers = {}
    for b in range(BINS):
        here = bins == b
        for name in ("n_all", "n_top", "n_first"):
            found[run, "density", b / BINS, name] = counts[name][here].sum()
    for index, x in enumerate(EDGES):
        for part, here in (("within", segments < index + 1), ("beyond", segments >= index + 1)):
            for name in ("n_all", "n_top", "n_first"):
                found[run, part, x, name] = counts[name][here].sum()
    return found


def polars_uncertainty(folder: Path, runs: list[str]) -> Numbers:
    import polars as pl

    found: Numbers = {}
    for run in runs:
        data = _pl_tokens(folder, run, ["ce", "entropy_base"]).drop_nulls().collect()
        for p in TOP:
            top = data["ce"] >= lowered(data["ce"].quantile(1 - p, "linear"))
            sure = data["entropy_base"] >= lowered(data["entropy_base"].quantile(1 - p, "linear"))
            found[run, "n_metric", p], found[run, "n_entropy", p] = top.sum(), sure.sum()
            found[run, "iou", p] = (top & sure).sum() / (top | sure).sum()
        ranked = data.select(pl.corr(pl.col("ce").rank("average"), pl.col("entropy_base").rank("average")))
        found[run, "spearman", None] = ranked.item()
    return found


def polars_planning(folder: Path, runs: list[str]) -> Numbers:
    import polars as pl

    found: Numbers = {}
    for run in runs:
        tokens = _pl_tokens(folder, run, ["planning_tag", "token_text", "fired", "ce", "entropy_base"])
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
        found |= _planning_numbers(run, sizes, by_tag, words)
    return found


SETS = ("all", "top_metric", "top_entropy", "takeovers")


def _planning_numbers(run: str, sizes: Any, by_tag: Mapping[str, Any], words: list[dict[str, Any]]) -> Numbers:
    """Shares from the counts of some thousand words, and the keyness of the most over-represented."""
    found: Numbers = {}
    for name in SETS:
        found[run, "planning", None, name] = sum(row[name] for row in by_tag.values())
        for tag, row in by_tag.items():
            found[run, "category", tag, name] = row[name]
    keyness = sorted(
        (_dunning(row["top_metric"], sizes["top_metric"], row["all"], sizes["all"]), row["word"])
        for row in words
        if row["word"] and row["top_metric"] >= 5 and row["top_metric"] / sizes["top_metric"] > row["all"] / sizes["all"]
    )
    for value, word in keyness[-10:]:
        found[run, "word", word, "top_metric"] = value
    return found


def _dunning(k: int, n: int, k_all: int, n_all: int) -> float:
    observed = np.array([k, n - k, k_all - k, n_all - n - k_all + k], dtype=float)
    expected = np.array([n * k_all, n * (n_all - k_all), (n_all - n) * k_all, (n_all - n) * (n_all - k_all)]) / n_all
    some = observed > 0
    return float(2 * (observed[some] * np.log(observed[some] / expected[some])).sum())


def polars_failure(folder: Path, runs: list[str]) -> Numbers:
    import polars as pl

    found: Numbers = {}
    samples = pl.scan_parquet(folder / "samples.parquet").select("run_id", "sample_id", "correct")
    for run in runs:
        tokens = _pl_tokens(folder, run, ["sample_id", "ce", "entropy_base"])
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


def polars_takeovers(folder: Path, runs: list[str]) -> Numbers:
    import polars as pl

    found: Numbers = {}
    lengths = pl.scan_parquet(folder / "samples.parquet").select("run_id", "sample_id", "n_tokens")
    for run in runs:
        columns = ["sample_id", "position", "fired", "base_token_id", "token_id", "entropy_base"]
        tokens = _pl_tokens(folder, run, columns).sort("sample_id", "position")
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


# -- pandas ---------------------------------------------------------------------------------------------------------


def _pd_tokens(folder: Path, run: str, columns: list[str]) -> Any:
    import pandas as pd

    return pd.read_parquet(folder / f"tokens-{run}.parquet", columns=columns)


def _pd_samples(folder: Path, run: str, columns: list[str]) -> Any:
    import pandas as pd

    samples = pd.read_parquet(folder / "samples.parquet", columns=["run_id", *columns])
    return samples[samples["run_id"] == run]


def pandas_sparsity(folder: Path, runs: list[str]) -> Numbers:
    found: Numbers = {}
    for run in runs:
        x = _pd_tokens(folder, run, ["ce"])["ce"].dropna().sort_values(ascending=False, ignore_index=True)
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


def pandas_position(folder: Path, runs: list[str]) -> Numbers:
    found: Numbers = {}
    for run in runs:
        tokens = _pd_tokens(folder, run, ["sample_id", "position", "ce"]).dropna()
        tokens = tokens.merge(_pd_samples(folder, run, ["sample_id", "n_tokens"]), on="sample_id")
        tokens["bin"] = tokens["position"].astype("int64") * BINS // tokens["n_tokens"]
        u = tokens["position"] / tokens["n_tokens"]
        tokens["segment"] = sum((u >= x).astype(int) for x in EDGES)
        tokens["top"] = tokens["ce"] >= lowered(tokens["ce"].quantile(1 - POSITION_P))
        cells = tokens.groupby(["bin", "segment"]).agg(n_all=("top", "size"), n_top=("top", "sum")).reset_index()
        firsts = tokens[tokens["top"]].sort_values("position").groupby("sample_id").first()
        firsts = firsts.groupby(["bin", "segment"]).size().rename("n_first")
        cells = cells.join(firsts, on=["bin", "segment"]).fillna({"n_first": 0})
        found |= _position_numbers(run, cells.to_dict("list"))
    return found


def pandas_uncertainty(folder: Path, runs: list[str]) -> Numbers:
    found: Numbers = {}
    for run in runs:
        data = _pd_tokens(folder, run, ["ce", "entropy_base"]).dropna()
        cuts = data.quantile([1 - p for p in TOP])
        for p in TOP:
            top = data["ce"] >= lowered(cuts.loc[1 - p, "ce"])
            sure = data["entropy_base"] >= lowered(cuts.loc[1 - p, "entropy_base"])
            found[run, "n_metric", p], found[run, "n_entropy", p] = top.sum(), sure.sum()
            found[run, "iou", p] = (top & sure).sum() / (top | sure).sum()
        found[run, "spearman", None] = data["ce"].rank().corr(data["entropy_base"].rank())
    return found


def pandas_planning(folder: Path, runs: list[str]) -> Numbers:
    found: Numbers = {}
    for run in runs:
        tokens = _pd_tokens(folder, run, ["planning_tag", "token_text", "fired", "ce", "entropy_base"])
        tokens["all"] = True
        tokens["top_metric"] = tokens["ce"] >= lowered(tokens["ce"].quantile(1 - PLANNING_P))
        tokens["top_entropy"] = tokens["entropy_base"] >= lowered(tokens["entropy_base"].quantile(1 - PLANNING_P))
        tokens["takeovers"] = tokens["fired"]
        counts = tokens.groupby(["planning_tag", "token_text"], dropna=False)[list(SETS)].sum().reset_index()
        words = counts.groupby(counts["token_text"].str.strip().str.lower())[["all", "top_metric"]].sum()
        by_tag = counts.groupby("planning_tag")[list(SETS)].sum().to_dict("index")
        listed = words.rename_axis("word").reset_index().to_dict("records")
        found |= _planning_numbers(run, counts[list(SETS)].sum(), by_tag, listed)
    return found


def pandas_failure(folder: Path, runs: list[str]) -> Numbers:
    found: Numbers = {}
    for run in runs:
        tokens = _pd_tokens(folder, run, ["sample_id", "ce", "entropy_base"])
        samples = _pd_samples(folder, run, ["sample_id", "correct"]).dropna().set_index("sample_id")
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


def pandas_takeovers(folder: Path, runs: list[str]) -> Numbers:
    found: Numbers = {}
    for run in runs:
        columns = ["sample_id", "position", "fired", "base_token_id", "token_id", "entropy_base"]
        tokens = _pd_tokens(folder, run, columns).sort_values(["sample_id", "position"], ignore_index=True)
        fired = tokens.groupby("sample_id")["fired"]
        entropy = tokens["entropy_base"]
        found[run, "entropy", "before"] = entropy[fired.shift(-1, fill_value=False)].mean()
        found[run, "entropy", "at"] = entropy[tokens["fired"]].mean()
        found[run, "entropy", "after"] = entropy[fired.shift(1, fill_value=False)].mean()
        found[run, "entropy", "all tokens"] = entropy.mean()
        taken = tokens[tokens["fired"]].merge(_pd_samples(folder, run, ["sample_id", "n_tokens"]), on="sample_id")
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


# -- ours, under the same names -------------------------------------------------------------------------------------


def rows_of(name: str, rows: list[dict[str, Any]]) -> Numbers:
    """The numbers of a statistic's table under the names that the functions above give them."""
    return {key: float(value) for row in rows for key, value in _NAMED[name](row) if value is not None}


def _of_sparsity(row: dict[str, Any]) -> list[Any]:
    return [((row["run_id"], row["statistic"], row["level"]), row["value"])]


def _of_position(row: dict[str, Any]) -> list[Any]:
    if row["part"] == "peak":
        return []
    u = row["u_high"] if row["part"] == "within" else row["u_low"]
    return [((row["run_id"], row["part"], u, name), row[name]) for name in ("n_all", "n_top", "n_first")]


def _of_uncertainty(row: dict[str, Any]) -> list[Any]:
    names = ("n_metric", "n_entropy", "iou", "spearman")
    return [((row["run_id"], name, row["p"]), row[name]) for name in names]


def _of_planning(row: dict[str, Any]) -> list[Any]:
    value = row["keyness"] if row["part"] == "word" else row["n_matching"]
    return [((row["run_id"], row["part"], row["label"], row["tokens"]), value)]


def _of_failure(row: dict[str, Any]) -> list[Any]:
    return [((row["run_id"], name, row["predictor"]), row[name]) for name in ("auroc", "average_precision")]


def _of_takeovers(row: dict[str, Any]) -> list[Any]:
    run, part, label = row["run_id"], row["part"], row["label"]
    if part == "entropy":
        return [((run, "entropy", label), row["mean"])]
    if part == "position":
        return [((run, "position", round(float(label[2:6]) * 10)), row["n"])]
    if part in ("run", "gap") and label == "1":
        return [((run, "singles" if part == "run" else "short gaps"), row["n"])]
    return []


_NAMED: Mapping[str, Callable[[dict[str, Any]], list[Any]]] = {
    "sparsity": _of_sparsity,
    "position": _of_position,
    "uncertainty": _of_uncertainty,
    "planning": _of_planning,
    "failure": _of_failure,
    "takeovers": _of_takeovers,
}
COMPARED = tuple(_NAMED)
ENGINES: Mapping[str, Mapping[str, Callable[[Path, list[str]], Numbers]]] = {
    engine: {name: globals()[f"{engine}_{name}"] for name in COMPARED} for engine in ("polars", "pandas")
}
