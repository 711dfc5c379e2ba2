"""CPCV of LightGBM against the same splits one by one: ``python -m quant_assets_tests.benchmarks.cross_validation``.

45 splits (N=10, k=2) of 100 symbols over 19 years, 29 features, labels over 5 sessions. Ours: bins found once, two or
more splits at a time, one thread each. The peer: scikit-learn's interface, one split after the other, all threads
inside. Contestants take turns by groups of splits. Target: 2.5 times less wall time at equal rank IC.

Then what shared bins do to out-of-sample rank IC, exact bins beside them, over many draws of noise and of a planted
edge whose features drift, so that test rows lie in other bins than training rows.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import rankdata

from quant_assets.common.processes import run_tasks
from quant_assets.common.settings import LightGBMConfig, ModelsConfig, ValidationConfig, XGBoostConfig
from quant_assets.datasets.labels import forward_return_labels
from quant_assets.datasets.training_set import assemble_training_set
from quant_assets.features import compute
from quant_assets.models.cross_prediction import cross_predict
from quant_assets.models.learners import LearnerConfig, fit_learner
from quant_assets.models.training_arrays import TrainingArrays, training_arrays
from quant_assets.splits.cpcv import CombinatorialPurgedCV, PurgedKFold
from quant_assets_tests.benchmarks.contest import circumstances, show
from quant_assets_tests.benchmarks.features import stored, walks

Split = tuple[NDArray[np.int64], NDArray[np.int64]]
Scores = NDArray[np.float64]
HORIZON = 5
SEED = 7
GROUP = 6  # splits that a contestant fits before the next one's turn
BLOCK = 20  # sessions averaged before the standard error: daily ICs of overlapping labels are not independent


def training_set(bars: pl.DataFrame) -> pl.DataFrame:
    """Features and labels of bars, every day with bars a session."""
    features = compute(bars)
    names = features.columns[2:]
    midnight = pl.col("session").cast(pl.Datetime("us", "UTC"))
    times = bars.select("session").unique().sort("session")
    times = times.with_columns(
        open_at=midnight + pl.duration(hours=14, minutes=30), close_at=midnight + pl.duration(hours=21)
    )
    labels = forward_return_labels(bars, times, horizon_sessions=HORIZON)
    table = assemble_training_set(
        features, labels, names, known_by=datetime(9999, 1, 1, tzinfo=UTC), manifest={}
    )
    return table.frame


def feature_names(frame: pl.DataFrame) -> list[str]:
    """Columns that are neither keys, times nor target."""
    return [c for c in frame.columns if c not in ("symbol", "session", "t0", "t1", "known_at", "target")]


def fitted_scores(
    data: TrainingArrays, train: NDArray[np.int64], test: NDArray[np.int64], name: str, config: LearnerConfig
) -> Scores:
    """Scores of test rows by one learner; bins are shared where the data has them."""
    rows = data.take(train)
    names = [f"f{n}" for n in range(data.features.shape[1])]
    learner = fit_learner(
        name, config, rows.features, rows.target, seed=SEED, feature_names=names, binned=rows.binned
    )
    return learner.predict(data.features[test])


def through_scikit_learn(
    data: TrainingArrays, splits: Sequence[Split], config: LightGBMConfig
) -> list[Scores]:
    """The same splits one by one, all threads in each."""
    from lightgbm import LGBMRegressor

    found = []
    for train, test in splits:
        model = LGBMRegressor(
            n_estimators=config.n_estimators,
            learning_rate=config.learning_rate,
            num_leaves=config.num_leaves,
            min_child_samples=config.min_data_in_leaf,
            colsample_bytree=config.feature_fraction,
            subsample=config.bagging_fraction,
            subsample_freq=1,
            reg_lambda=config.lambda_l2,
            random_state=SEED,
            n_jobs=joblib.cpu_count(),
            verbose=-1,
        )
        model.fit(data.features[train], data.target[train])
        found.append(np.asarray(model.predict(data.features[test]), dtype=np.float64))
    return found


def session_ics(data: TrainingArrays, rows: NDArray[np.int64], scores: Scores) -> dict[int, float]:
    """Spearman correlation of scores and outcomes within each session; rows in order of time."""
    time_of = data.t0[rows].astype(np.int64)
    edges = np.flatnonzero(np.diff(time_of)) + 1
    found = {}
    for day, ours, outcome in zip(
        time_of[np.concatenate(([0], edges))],
        np.split(scores, edges),
        np.split(data.target[rows], edges),
        strict=True,
    ):
        one, other = rankdata(ours), rankdata(outcome)
        if one.std() > 0 and other.std() > 0:
            found[int(day)] = float(np.corrcoef(one, other)[0, 1])
    return found


def mean_ic(by_split: Sequence[dict[int, float]]) -> dict[int, float]:
    """IC of each session, averaged over the splits that test it."""
    together: dict[int, list[float]] = {}
    for ics in by_split:
        for day, ic in ics.items():
            together.setdefault(day, []).append(ic)
    return {day: float(np.mean(ics)) for day, ics in sorted(together.items())}


def with_error(values: Scores) -> str:
    """Mean and standard error from means of blocks of sessions."""
    blocks = [block.mean() for block in np.array_split(values, len(values) // BLOCK)]
    return f"{values.mean():+.5f} (se {np.std(blocks, ddof=1) / np.sqrt(len(blocks)):.5f})"


def lightgbm_contest(data: TrainingArrays, config: LightGBMConfig, n_splits: int) -> list[str]:
    """Wall and processor time of all splits, and rank IC, of each contestant."""
    splits = list(CombinatorialPurgedCV(10, 2, embargo=HORIZON).split(data.t0, data.t1))[:n_splits]
    binned = data.with_shared_bins()

    def ours(rows: TrainingArrays) -> Callable[[Sequence[Split]], list[Scores]]:
        return lambda group: list(
            run_tasks(fitted_scores, ((rows, *split, "lightgbm", config) for split in group))
        )

    contestants: dict[str, Callable[[Sequence[Split]], list[Scores]]] = {
        "shared bins": ours(binned),
        "exact bins": ours(data),
        "scikit-learn, one by one": lambda group: through_scikit_learn(data, group, config),
    }
    spent = {name: np.zeros(2) for name in contestants}
    ics: dict[str, list[dict[int, float]]] = {name: [] for name in contestants}
    ratios: dict[str, list[float]] = {"shared bins": [], "exact bins": []}
    for first in range(0, len(splits), GROUP):
        group = splits[first : first + GROUP]
        walls = {}
        for name, run in contestants.items():
            wall, cpu = time.perf_counter(), time.process_time()
            scores = run(group)  # the first group of shared bins pays for finding them
            taken = np.array([time.perf_counter() - wall, time.process_time() - cpu])
            spent[name] += taken
            walls[name] = taken[0]
            ics[name] += [session_ics(data, test, s) for (_, test), s in zip(group, scores, strict=True)]
        for name, found in ratios.items():
            found.append(walls["scikit-learn, one by one"] / walls[name])
    tracks = {name: mean_ic(found) for name, found in ics.items()}
    lines = [
        f"LightGBM, {len(splits)} splits of {len(data.target):,} rows, {config.n_estimators} trees of "
        f"{config.num_leaves} leaves"
    ]
    for name, (wall, cpu) in spent.items():
        track = np.array(list(tracks[name].values()))
        lines.append(f"  {name:26} wall {wall:7.1f} s  cpu {cpu:7.1f} s  rank IC {with_error(track)}")
    theirs = spent["scikit-learn, one by one"][0]
    for name, found in ratios.items():
        days = sorted(set(tracks[name]) & set(tracks["scikit-learn, one by one"]))
        apart = [tracks[name][d] - tracks["scikit-learn, one by one"][d] for d in days]
        lines.append(
            f"  ratio of wall time {theirs / spent[name][0]:.2f} ({min(found):.2f} to {max(found):.2f} by group): "
            f"{name}; IC less theirs {with_error(np.array(apart))}"
        )
    days = sorted(set(tracks["shared bins"]) & set(tracks["exact bins"]))
    apart = [tracks["shared bins"][d] - tracks["exact bins"][d] for d in days]
    return [*lines, f"  IC of shared less exact bins {with_error(np.array(apart))}"]


def whole_ensemble(frame: pl.DataFrame) -> list[str]:
    """The product's cross-prediction with both learners and the stacker, 15 splits."""
    lines = ["Cross-prediction of the ensemble (LightGBM, XGBoost, stacker of 3 folds), 15 splits"]
    validation = ValidationConfig(n_groups=6, n_test_groups=2, embargo_sessions=HORIZON)
    for binning in ("shared", "exact"):
        models = ModelsConfig(binning=binning)
        wall, cpu = time.perf_counter(), time.process_time()
        cross_predict(frame, feature_names(frame), models, validation, seed=SEED)
        lines.append(
            f"  {binning:26} wall {time.perf_counter() - wall:7.1f} s  cpu {time.process_time() - cpu:7.1f} s"
        )
    return lines


# ------------------------------------------------------------------------------------- what shared bins know

SMALL: dict[str, Any] = {
    "lightgbm": LightGBMConfig(n_estimators=40, min_data_in_leaf=50),
    "xgboost": XGBoostConfig(n_estimators=40, min_child_weight=50),
}


def drifting(seed: int, edge: float, sessions: int = 400, symbols: int = 20) -> TrainingArrays:
    """Heavy-tailed features, half of them on a random walk over time; every second draw of a session is a tie."""
    rng = np.random.default_rng(seed)
    n, width = sessions * symbols, 8
    features = rng.standard_t(3, (n, width))
    features[:, ::2] += np.repeat(
        np.cumsum(rng.normal(0, 0.3, (sessions, width // 2)), axis=0), symbols, axis=0
    )
    own = features[:, 0].reshape(sessions, symbols)
    signal = np.tanh(own - np.median(own, axis=1, keepdims=True)).ravel() + np.tanh(features[:, 1])
    target = edge * signal + rng.standard_normal(n)
    t0 = np.repeat(np.arange(sessions), symbols)
    return TrainingArrays(
        features.astype(np.float32), target, t0, t0 + HORIZON + 1, np.tile(np.arange(symbols), sessions)
    )


def ic_apart(seed: int, edge: float, name: str) -> tuple[float, float]:
    """Out-of-sample rank IC with shared and with exact bins, over five purged folds."""
    data = drifting(seed, edge)
    binned = data.with_shared_bins()
    found = []
    for rows in (binned, data):
        ics = [
            session_ics(data, test, fitted_scores(rows, train, test, name, SMALL[name]))
            for train, test in PurgedKFold(5, embargo=HORIZON).split(data.t0, data.t1)
        ]
        found.append(float(np.mean([ic for split in ics for ic in split.values()])))
    return found[0], found[1]


def knowledge(seeds: int) -> list[str]:
    """Mean IC and mean paired difference over draws, with standard errors over draws."""
    lines = [
        f"Rank IC with shared and with exact bins, {seeds} draws of 8,000 rows, 5 purged folds (mean, se)"
    ]
    for title, edge in (("noise", 0.0), ("planted edge", 0.1)):
        for name in SMALL:
            pairs = np.array(list(run_tasks(ic_apart, ((seed, edge, name) for seed in range(seeds)))))
            columns = {"shared": pairs[:, 0], "exact": pairs[:, 1], "difference": pairs[:, 0] - pairs[:, 1]}
            lines.append(f"  {title:14} {name:9}" + "".join(f"  {c} {_mean(v)}" for c, v in columns.items()))
    return lines


def _mean(values: Scores) -> str:
    return f"{values.mean():+.5f} ({values.std(ddof=1) / np.sqrt(len(values)):.5f})"


def sections(asked: argparse.Namespace) -> Iterator[list[str]]:
    """Lines of each part, as soon as they are known."""
    bars = stored(asked.parquet) if asked.parquet else walks(100, 4828)
    yield [f"Bars: {Path(asked.parquet).stem if asked.parquet else 'random walks'}, {bars.height:,} rows"]
    frame = training_set(bars)
    data = training_arrays(frame, feature_names(frame))
    config = LightGBMConfig(n_estimators=asked.trees, num_leaves=asked.leaves)
    yield lightgbm_contest(data, config, asked.splits)
    if not asked.contest_only:
        yield whole_ensemble(frame)
        yield knowledge(asked.seeds)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print times, ratios and rank ICs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parquet", nargs="?", help="bars to take instead of random walks")
    parser.add_argument("--splits", type=int, default=45)
    parser.add_argument("--trees", type=int, default=LightGBMConfig().n_estimators)
    parser.add_argument("--leaves", type=int, default=LightGBMConfig().num_leaves)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--contest-only", action="store_true", help="only the contest of LightGBM")
    asked = parser.parse_args(arguments)
    show([circumstances("lightgbm", "xgboost", "scikit-learn", "numpy")])
    for lines in sections(asked):
        show(lines)


if __name__ == "__main__":
    main()
