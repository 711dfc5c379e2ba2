"""The figures of a run: how each split did on its own test rows, and pictures of paths, IC and importance."""

import base64
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import polars as pl
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from numpy.typing import NDArray

from quant_assets.common.errors import EvidenceError
from quant_assets.common.model_settings import LabelKind
from quant_assets.common.pages import ACCENT, BAD, FAN, GRID, MUTED, figure_png, themed_figure
from quant_assets.common.settings import ValidationConfig
from quant_assets.datasets.labels import direction
from quant_assets.models.fitting import LearningCurves
from quant_assets.reports.tear_sheet_plots import WIDTH, equity_fan, importance_bars
from quant_assets.splits.cpcv import CombinatorialPurgedCV
from quant_assets.trading.paths import path_columns, rank_ic_by_session

# ------------------------------------------------------ how each split of the cross-validation did on its own


# Metrics of which the worst decile is the upper one, and one that is neither good nor bad.
LOSSES = frozenset({"rmse", "log_loss", "turnover_per_session", "annual_volatility_fraction", "kurtosis"})
NEUTRAL = frozenset({"autocorrelation"})


def split_metrics(
    predictions: pl.DataFrame, training_set: pl.DataFrame, validation: ValidationConfig, kind: LabelKind
) -> tuple[dict[str, float], ...]:
    """Metrics of every split on the rows that it tested.

    Parameters
    ----------
    predictions : polars.DataFrame
        ``symbol, session, path_*`` as made by `quant_assets.models.cross_prediction.cross_predict`.
    training_set : polars.DataFrame
        ``symbol, session, t0, t1, target`` (forward return, a fraction); its rows are among the predicted ones.
    validation : ValidationConfig
        The cross-validation that the predictions are of.
    kind : {"return", "direction"}

    Returns
    -------
    tuple of dict
        In the order of the splits: ``rows_trained`` (after purge and embargo), ``rows_tested``, ``rank_ic`` (mean
        over sessions of the rank correlation of scores and forward returns; absent where no session has a
        cross-section), and ``rmse`` (a fraction) of scores against returns, or ``log_loss`` (nats) against
        directions.

    Raises
    ------
    EvidenceError
        When the predictions are not of this training set and cross-validation.

    Notes
    -----
    A split's scores are read back from the paths: each (group, split) pair is in exactly one of them (Lopez de
    Prado 2018, ch. 12).
    """
    cv = CombinatorialPurgedCV(
        validation.n_groups, validation.n_test_groups, embargo=validation.embargo_sessions
    )
    names, keys = path_columns(predictions), ["symbol", "session"]
    # What was scored without an outcome has no metric.
    predicted = predictions.join(training_set.select(keys), on=keys, how="semi")
    predictions = training_set.select(keys).join(predictions, on=keys, maintain_order="left")
    if len(names) != cv.n_paths or predicted.height != training_set.height:
        raise EvidenceError(
            "cross-predictions",
            expected=f"{cv.n_paths} paths over the {training_set.height} rows of the training set",
            found=f"{len(names)} paths over {predicted.height} of them",
            action="materialise cpcv_predictions and everything after it again",
        )
    scores = predictions.select(names).to_numpy()
    t0, t1 = training_set["t0"].to_numpy(), training_set["t1"].to_numpy()
    target = training_set["target"].to_numpy()
    if kind == "direction":
        target = training_set.select(direction("target")).to_series().to_numpy()
    group_of = cv.groups(t0)
    path_of = {(group, split): path for path, steps in enumerate(cv.paths()) for group, split in steps}
    labels = training_set.select(*keys, forward_return="target")
    result = []
    for split, (train, test) in enumerate(cv.split(t0, t1)):
        path = np.array([path_of.get((group, split), -1) for group in range(cv.n_groups)])[group_of[test]]
        score = scores[test, path]
        tested = predictions[test].select(*keys, pl.Series("path_0", score))
        result.append(
            {"rows_trained": float(len(train)), "rows_tested": float(len(test))}
            | _rank_ic(tested, labels)
            | _loss(score, target[test], kind)
        )
    return tuple(result)


def _rank_ic(tested: pl.DataFrame, labels: pl.DataFrame) -> dict[str, float]:
    sessions = rank_ic_by_session(tested, labels)
    return {} if sessions.is_empty() else {"rank_ic": float(sessions["rank_ic"].to_numpy().mean())}


def _loss(score: NDArray[np.float64], target: NDArray[np.float64], kind: LabelKind) -> dict[str, float]:
    if kind == "return":
        return {"rmse": float(np.sqrt(np.mean((score - target) ** 2)))}
    # -log p of the class that came, from log-odds, without overflow
    return {"log_loss": float(np.mean(np.logaddexp(0.0, np.where(target > 0.5, -score, score))))}


def spread(rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Mean, median, standard deviation and worst decile of each metric over splits or paths.

    Parameters
    ----------
    rows : iterable of mapping of str to float or None
        One mapping per split or path; what is missing or not finite in one is left out.

    Returns
    -------
    dict of str to float
        ``<metric>.mean``, ``.median``, ``.sd`` (n - 1; absent for a single value) and ``.worst_decile``: the
        observed value that one in ten is no better than, never interpolated. Worse is lower, and higher for
        `LOSSES`; `NEUTRAL` metrics have none. They describe a distribution: paths overlap, so that none of them is
        a standard error.
    """
    columns: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            if value is not None and math.isfinite(value):
                columns.setdefault(name, []).append(float(value))
    found = {}
    for name, column in columns.items():
        values = np.array(column)
        worst = (
            np.quantile(values, 0.9, method="higher")
            if name in LOSSES
            else np.quantile(values, 0.1, method="lower")
        )
        found[f"{name}.mean"] = float(values.mean())
        found[f"{name}.median"] = float(np.quantile(values, 0.5, method="lower"))
        if name not in NEUTRAL:
            found[f"{name}.worst_decile"] = float(worst)
        if len(values) > 1:
            found[f"{name}.sd"] = float(values.std(ddof=1))
    return found


# -------------------------------------------------------------------------------------- the pictures of a run


FOLDER = "plots"
_LOSS_NAMES = {
    "l2": "mean squared error",
    "rmse": "root mean squared error",
    "huber": "Huber loss",
    "log_loss": "log loss",
    "one_minus_ndcg": "1 less mean NDCG",
}


def run_plots(
    path_returns: pl.DataFrame,
    rank_ic: pl.DataFrame,
    curves: Mapping[str, LearningCurves],
    importance: Mapping[str, float],
    *,
    median_path: int,
    trees: Mapping[str, int],
) -> dict[str, bytes]:
    """Pictures by file name below ``plots/``.

    Parameters
    ----------
    path_returns : polars.DataFrame
        As made by `quant_assets.trading.paths.path_returns`.
    rank_ic : polars.DataFrame
        As made by `quant_assets.trading.paths.rank_ic_by_session`; where it is empty (one name, no
        cross-section) there is no picture of it.
    curves : mapping of str to LearningCurves
        By base learner.
    importance : mapping of str to float
        Share of importance by feature.
    median_path : int
        The path in front.
    trees : mapping of str to int
        Trees of each fitted base learner, marked on its curves.
    """
    drawn = {
        "equity": _png(equity_fan(path_returns, median_path)),
        "feature_importance": _png(importance_bars(importance)),
        **{
            f"learning_curve_{name}": _curves(c, trees[name])
            for name, c in sorted(curves.items())
            if trees[name]
        },
    }
    of_path = rank_ic.filter(pl.col("path") == median_path)
    if not of_path.is_empty():
        drawn["rank_ic_by_month"] = _rank_ic_by_month(of_path)
    return {f"{FOLDER}/{name}.png": data for name, data in sorted(drawn.items())}


def _png(data_uri: str) -> bytes:
    return base64.b64decode(data_uri.partition(",")[2])


def _curves(curves: LearningCurves, trees: int) -> bytes:
    with themed_figure(WIDTH, 2.9) as (figure, axes):
        counts = np.arange(1, len(curves.train) + 1)
        axes.plot(counts, curves.train, color=FAN, label=f"fit, {curves.rows_trained:,} rows")
        axes.plot(counts, curves.valid, color=ACCENT, label=f"unseen, {curves.rows_validated:,} rows")
        axes.axvline(trees, color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)), label=f"{trees} trees kept")
        axes.set_xlabel("trees")
        axes.set_ylabel(_LOSS_NAMES[curves.loss])
        axes.margins(x=0.02)
        axes.legend(
            loc="lower left", bbox_to_anchor=(-0.12, 1.0), ncols=3, columnspacing=1.0, handlelength=1.2
        )
        return figure_png(figure)


def _rank_ic_by_month(rank_ic: pl.DataFrame) -> bytes:
    months = (
        rank_ic.group_by(pl.col("session").dt.truncate("1mo").alias("month"))
        .agg(pl.col("rank_ic").mean())
        .sort("month")
    )
    values = months["rank_ic"].to_numpy()
    mean = float(rank_ic["rank_ic"].to_numpy().mean())
    with themed_figure(WIDTH, 2.6) as (figure, axes):
        colours = np.where(values >= 0, ACCENT, BAD).tolist()
        days = months["month"].to_numpy().astype("datetime64[D]")
        axes.bar(days, values, width=24, color=colours, align="edge")
        axes.axhline(0.0, color=GRID, linewidth=1.4, zorder=1)
        axes.axhline(mean, color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)), label=f"mean {mean:.3f}")
        locator = AutoDateLocator(minticks=3, maxticks=8)  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
        axes.set_ylabel("mean rank IC of the month")
        axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0))
        return figure_png(figure)
