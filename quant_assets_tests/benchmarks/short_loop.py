"""What a look at a configuration costs: ``python -m quant_assets_tests.benchmarks.short_loop [bars.parquet]``.

Three parts, each by processor time of this process. *Splits*: what a split of the cross-prediction takes, in turn:
with bins found for every fit, as once, with bins found once for the split, from kept fits, and as a draft. *Order*:
the median net Sharpe ratio over paths of six configurations by drafts and by whole ensembles, and Kendall's tau
between the two orders. *Whole* (``--whole``): `quant_assets.lineage.drafting.draft` and the plain lineage up to the
validation report, each from the bars' file to the verdicts.

Processor time on two cores at a load above 20, 100 US stocks from 2005 to 2024 (``bars.parquet --splits 2 --groups 0
0``), medians of two splits of 441,200 rows: bins for every fit 25.8 s, bins once for the split 18.5 s (1.4 times
less), kept fits under another penalty .04 s, draft 7.7 s (the first split finds bins for all, 2.5 times less; the
second has them, 5.3 times less).

Orders are an open question: on 20 of the stocks over the newest 1,250 sessions, 4 splits (``bars.parquet --splits 0
--symbols 20 --sessions 1250 --groups 4 1``), Kendall's tau was .07 (p 1.0) with every median Sharpe ratio between -.8
and +.2: nothing there to be ordered. Drafts took 15 s, whole ensembles 40 s. The goal is .6 on the 100 stocks.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
from scipy.stats import kendalltau

from quant_assets.common.home import Home
from quant_assets.common.settings import (
    CostConfig,
    LightGBMConfig,
    ModelsConfig,
    ParquetSource,
    PortfolioConfig,
    StrategyConfig,
    UniverseConfig,
    ValidationConfig,
    XGBoostConfig,
)
from quant_assets.lineage.drafting import draft
from quant_assets.lineage.notebook import run
from quant_assets.lineage.pipeline import settings_of
from quant_assets.models.cross_prediction import Columns, cross_predict, outer_splitter, stacked_split
from quant_assets.models.draft_prediction import draft_predict, draft_split
from quant_assets.models.fitting import fit_base, inner_folds
from quant_assets.models.kept_fits import Floats
from quant_assets.models.training_arrays import TrainingArrays, training_arrays
from quant_assets.statistics.sharpe import annualised_sharpe, sharpe_ratio
from quant_assets.trading.paths import path_returns
from quant_assets_tests.benchmarks.contest import circumstances, medians, ratios, show, timed
from quant_assets_tests.benchmarks.cross_validation import HORIZON, SEED, feature_names, training_set
from quant_assets_tests.benchmarks.features import stored, walks

SIX: dict[str, ModelsConfig] = {
    "as shipped": ModelsConfig(),
    "LightGBM alone": ModelsConfig(xgboost=None),
    "XGBoost alone": ModelsConfig(lightgbm=None),
    "larger trees": ModelsConfig(lightgbm=LightGBMConfig(num_leaves=63), xgboost=XGBoostConfig(max_depth=6)),
    "slow, few trees": ModelsConfig(
        lightgbm=LightGBMConfig(learning_rate=0.01, n_estimators=40),
        xgboost=XGBoostConfig(learning_rate=0.01, n_estimators=40),
    ),
    "fast, small leaves": ModelsConfig(
        lightgbm=LightGBMConfig(learning_rate=0.2, min_data_in_leaf=20),
        xgboost=XGBoostConfig(learning_rate=0.2, min_child_weight=20),
    ),
}


def with_bins_for_every_fit(
    train: TrainingArrays, unseen: np.ndarray, models: ModelsConfig, names: Sequence[str]
) -> None:
    """The fits of one split as they were: each finds the bins of its own rows."""
    options = {"seed": SEED, "feature_names": names, "embargo_sessions": HORIZON}
    for name in models.learners:
        fit_base(name, train, models, **options).predict(unseen)  # type: ignore[arg-type]
        for rows, held_out in inner_folds(train, models.stacker.inner_folds, HORIZON, setting="inner_folds"):
            fit_base(name, train.take(rows), models, **options).predict(  # type: ignore[arg-type]
                train.features[held_out]
            )


def splits_contest(frame: pl.DataFrame, n_splits: int) -> list[str]:
    """Processor time of the first splits, contestants in turn."""
    names, models = feature_names(frame), ModelsConfig()
    data = training_arrays(frame, names)
    options = {"seed": SEED, "feature_names": names, "embargo_sessions": HORIZON}
    cv = outer_splitter(ValidationConfig(embargo_sessions=HORIZON))
    whole = data.with_shared_bins()  # of drafts: the first of them pays for finding them
    known: dict[int, Columns] = {}
    taken: dict[str, list[tuple[float, float]]] = {}
    for number, (train, test) in enumerate(cv.split(data.t0, data.t1)):
        if number == n_splits:
            break
        rows, unseen = data.take(train), data.features[test]

        def stacked(number: int, rows: TrainingArrays, unseen: np.ndarray) -> Floats:
            scores, known[number] = stacked_split(rows, unseen, models, known.get(number, {}), **options)  # type: ignore[arg-type]
            return scores

        turns: dict[str, Callable[[], object]] = {
            "bins for every fit": lambda r=rows, u=unseen: with_bins_for_every_fit(r, u, models, names),  # type: ignore[misc]
            "bins once for the split": lambda n=number, r=rows, u=unseen: stacked(n, r, u),  # type: ignore[misc]
            "kept fits, another penalty": lambda n=number, r=rows, u=unseen: stacked(n, r, u),  # type: ignore[misc]
            "draft": lambda t=train, u=unseen: draft_split(whole.take(t), u, models, {}, **options),  # type: ignore[misc, arg-type]
        }
        for name, turn in turns.items():
            taken.setdefault(name, []).append(timed(turn))
    lines = [
        f"A split of {len(data.target):,} rows, LightGBM, XGBoost and a stacker of 3 folds; {n_splits} of them"
    ]
    lines += [medians(name, times) for name, times in taken.items()]
    before = "bins for every fit"
    return lines + [
        ratios(name, times, before, taken[before]) for name, times in taken.items() if name != before
    ]


def median_sharpe(predictions: pl.DataFrame, bars: pl.DataFrame) -> float:
    """Median over paths of the annual net Sharpe ratio."""
    paths = path_returns(predictions, bars, PortfolioConfig(), CostConfig())
    found = [
        annualised_sharpe(sharpe_ratio(p["net_return"].to_numpy()), 252.0) for p in paths.partition_by("path")
    ]
    return float(np.median(found))


def orders(frame: pl.DataFrame, bars: pl.DataFrame, validation: ValidationConfig) -> list[str]:
    """Six configurations by drafts and by whole ensembles."""
    names = feature_names(frame)
    lines = [f"Six configurations on {frame.height:,} rows, {outer_splitter(validation).n_splits} splits"]
    found, spent = [], np.zeros(2)
    for title, models in SIX.items():
        ratio = []
        for column, predict in enumerate((draft_predict, cross_predict)):
            began = time.process_time()
            ratio.append(median_sharpe(predict(frame, names, models, validation, seed=SEED), bars))
            spent[column] += time.process_time() - began
        found.append(ratio)
        lines.append(f"  {title:22} draft {ratio[0]:+.3f}  whole {ratio[1]:+.3f}")
    tau = kendalltau(*np.array(found).T)
    lines.append(
        f"  Kendall's tau {tau.statistic:.2f} (p {tau.pvalue:.3f}); "
        f"cpu drafts {spent[0]:.0f} s, whole {spent[1]:.0f} s"
    )
    return lines


def whole_loop(parquet: Path) -> list[str]:
    """From the file to the verdicts, as a draft, as a draft with other costs, and as the plain lineage."""
    universe = UniverseConfig(
        name="bars",
        source=ParquetSource(kind="parquet", path=str(parquet)),
        start=date(2005, 1, 3),
        end=date(2024, 3, 8),
    )
    settings = settings_of(universe, StrategyConfig(name="loop", universe="bars"))
    dearer = settings_of(
        universe, StrategyConfig(name="loop", universe="bars", costs=CostConfig(commission_bps=3))
    )
    with tempfile.TemporaryDirectory(prefix="short-loop-") as folder:
        home = Home(folder)
        turns: dict[str, Callable[[], object]] = {
            "try": lambda: draft("loop", settings, home=home),
            "try with other costs": lambda: draft("loop", dearer, home=home),
            "plain lineage to the validation report": lambda: run(
                "loop", settings, "validation_report", home=home
            ),
        }
        return [
            "From the bars to the verdicts",
            *(medians(name, [timed(turn)]) for name, turn in turns.items()),
        ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print times, ratios and the order of configurations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parquet", nargs="?", type=Path, help="bars to take instead of random walks")
    parser.add_argument("--splits", type=int, default=3, help="splits of the contest; 0 leaves it out")
    parser.add_argument("--symbols", type=int, default=100, help="of the orders")
    parser.add_argument("--sessions", type=int, default=4828, help="of the orders, the newest")
    parser.add_argument(
        "--groups", type=int, nargs=2, default=(6, 2), help="N and k of the orders; 0 0: none"
    )
    parser.add_argument(
        "--whole", action="store_true", help="also from the file to the verdicts: about 10 minutes"
    )
    asked = parser.parse_args(arguments)
    show([circumstances("lightgbm", "xgboost", "numpy")])
    bars = stored(asked.parquet) if asked.parquet else walks(100, 4828)
    if asked.splits:
        show(splits_contest(training_set(bars), asked.splits))
    if all(asked.groups):
        few = bars["symbol"].unique().sort().head(asked.symbols).to_list()
        since = bars["session"].unique().sort().tail(asked.sessions)[0]
        part = bars.filter(pl.col("symbol").is_in(few), pl.col("session") >= since)
        n_groups, n_test_groups = asked.groups
        validation = ValidationConfig(
            n_groups=n_groups, n_test_groups=n_test_groups, embargo_sessions=HORIZON
        )
        show(orders(training_set(part), part, validation))
    if asked.whole and asked.parquet:
        show(whole_loop(asked.parquet))


if __name__ == "__main__":
    main()
