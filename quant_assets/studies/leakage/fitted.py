"""What is fitted inside a split may read its training rows and no others, and nothing can be learned from noise.

On trial are the strategy's own learners with few trees on a small training set: what flows where does not depend on
how many trees there are.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.common.settings import (
    ModelsConfig,
    PortfolioConfig,
    StackerConfig,
    StrategyConfig,
    ValidationConfig,
)
from quant_assets.common.store import Table
from quant_assets.datasets.training_set import TARGET, feature_names_of
from quant_assets.splits.cpcv import CombinatorialPurgedCV
from quant_assets.studies.leakage.future import Original
from quant_assets.studies.leakage.leakage_report import (
    CrossPredict,
    Evidence,
    Pipeline,
    Splits,
    Stage,
    evidence_of,
)

# ---------------------------------------------------------------------- a small training set and small models


ROWS = 4000
MOST_SYMBOLS = 20
FEWEST_SYMBOLS = 4
FEWEST_SESSIONS = 200
TREES = 8
LEARNING_RATE = 0.3  # so that eight trees say something
# A leaf needs this share of the rows at the most, or small samples would never split.
LEAF_SHARE = 60


@dataclass(frozen=True)
class Probe:
    """How the fitted stages are put on trial.

    Attributes
    ----------
    models : ModelsConfig
        The strategy's learners with few trees.
    validation : ValidationConfig
        At most five groups, two of them tested.
    seed : int
    """

    models: ModelsConfig
    validation: ValidationConfig
    seed: int


def probe_rows(frame: pl.DataFrame, strategy: StrategyConfig) -> pl.DataFrame:
    """The newest sessions of some symbols, evenly chosen: about 4000 rows.

    Enough sessions for every test group to be longer than the label and the embargo together.
    """
    reach = strategy.label.horizon_sessions + 1 + strategy.validation.embargo_sessions
    sessions = frame["session"].unique().sort().tail(max(FEWEST_SESSIONS, 10 * reach))
    wanted = min(MOST_SYMBOLS, max(FEWEST_SYMBOLS, ROWS // len(sessions)))
    newest = frame.filter(pl.col("session") >= sessions[0])
    symbols = newest["symbol"].unique().sort()
    chosen = symbols.gather_every(-(-len(symbols) // wanted))
    if len(chosen) < wanted:
        # Few symbols have room for more sessions.
        sessions = frame["session"].unique().sort().tail(max(len(sessions), ROWS // len(chosen)))
        newest = frame.filter(pl.col("session") >= sessions[0])
    return newest.filter(pl.col("symbol").is_in(chosen.to_list()))


def probe_of(strategy: StrategyConfig, n_rows: int) -> Probe:
    """The strategy's own learners, small, and its own splits, few."""
    leaf = max(5, n_rows // LEAF_SHARE)
    m, v = strategy.models, strategy.validation
    small = {"n_estimators": TREES, "learning_rate": LEARNING_RATE}
    lightgbm = m.lightgbm and m.lightgbm.model_copy(
        update={**small, "min_data_in_leaf": min(m.lightgbm.min_data_in_leaf, leaf)}
    )
    xgboost = m.xgboost and m.xgboost.model_copy(
        update={**small, "min_child_weight": min(m.xgboost.min_child_weight, float(leaf))}
    )
    catboost = m.catboost and m.catboost.model_copy(update=small)
    stopping = m.early_stopping and m.early_stopping.model_copy(
        update={"inner_folds": 2, "rounds": min(m.early_stopping.rounds, TREES), "max_estimators": TREES}
    )
    # A copy, so that no setting is left out of the proof: weights, bins and device are the strategy's own.
    models = m.model_copy(
        update={
            "lightgbm": lightgbm,
            "xgboost": xgboost,
            "catboost": catboost,
            "stacker": StackerConfig(ridge_alpha=m.stacker.ridge_alpha, inner_folds=2),
            "early_stopping": stopping,
        }
    )
    validation = ValidationConfig(
        n_groups=min(v.n_groups, 5),
        n_test_groups=min(v.n_test_groups, 2),
        embargo_sessions=v.embargo_sessions,
    )
    return Probe(models, validation, strategy.seed)


# ----------------------------------------------------------------------------------------------------- splits


# C(16, 8) is 12,870 splits; the first so many show a missing purge as well as all of them.
MOST_SPLITS = 60

Times = NDArray[np.int64]


def checked_splits(frame: pl.DataFrame, strategy: StrategyConfig, pipeline: Pipeline) -> tuple[Evidence, ...]:
    """Check the outer splits of a training set, and the stacker's inner ones.

    No training row's label interval meets a test run, none lies in its embargo. Written from the definitions (Lopez
    de Prado 2018, ch. 7) over plain intervals, without anything that the splitters use, so that an error there is not
    repeated here.
    """
    named: tuple[tuple[str, Splits], ...] = (
        ("outer splits", pipeline.splits),
        ("inner splits of the stacker", pipeline.inner_splits),
    )
    return tuple(_checked(name, splits, frame, strategy) for name, splits in named)


def _checked(name: str, splits: Splits, frame: pl.DataFrame, strategy: StrategyConfig) -> Evidence:
    t0, t1 = (frame[c].to_physical().to_numpy() for c in ("t0", "t1"))
    checked = violations = 0
    offenders: list[str] = []
    for number, (train, test) in enumerate(islice(splits(frame["t0"], frame["t1"], strategy), MOST_SPLITS)):
        counts = {
            "tested rows": int(np.isin(train, test).sum()),
            "rows whose label overlaps the test run": 0,
            "rows inside the embargo": 0,
        }
        for start, end, embargo_end in tested_runs(t0, t1, test, strategy.validation.embargo_sessions):
            overlaps = (t0[train] <= end) & (t1[train] >= start)
            counts["rows whose label overlaps the test run"] += int(overlaps.sum())
            embargoed = (t0[train] > end) & (t0[train] <= embargo_end)
            counts["rows inside the embargo"] += int(embargoed.sum())
        checked += len(train)
        violations += sum(counts.values())
        offenders += [f"split {number} trains on {n} {what}" for what, n in counts.items() if n]
    return evidence_of(
        "folds", name, checked=checked, violations=violations, moved=None, offenders=offenders,
        question="training rows touch what is tested",
    )  # fmt: skip


def tested_runs(t0: Times, t1: Times, test: Times, embargo_sessions: int) -> list[tuple[int, int, int]]:
    """Contiguous runs of tested sessions: first decision, last outcome, last decision time under embargo."""
    sessions = np.unique(t0)
    tested = np.isin(sessions, t0[test])
    edges = np.flatnonzero(np.diff(np.concatenate(([False], tested, [False])).astype(np.int8)))
    runs = []
    for first, stop in zip(edges[::2], edges[1::2], strict=True):
        inside = test[(t0[test] >= sessions[first]) & (t0[test] <= sessions[stop - 1])]
        end = int(t1[inside].max())
        following = sessions[sessions > end][:embargo_sessions]
        runs.append((int(sessions[first]), end, int(following[-1]) if len(following) else end))
    return runs


# --------------------------------------------------------------------------------- rows around a tested group


# Far outside of what features take, with both signs, so that a scaler that sees them crushes everything else.
OUTLIERS = (1e4, -1e4, 3e4, -2e4)
OUTLIER_TARGETS = (-0.9, 0.7, 1.3, -0.4)

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class _Tracks:
    """Scores by path, the split that each came from, and which splits test the group on trial."""

    scores: NDArray[np.float64]  # (paths, rows)
    in_trial: Mask  # (paths, rows): from a split that tests the group
    own: Mask  # (rows,): in the group


def fitted_inside_splits(
    frame: pl.DataFrame, names: Sequence[str], probe: Probe, predict: CrossPredict
) -> tuple[Evidence, ...]:
    """Evidence about the stage "models", and about the folds as the models really get them.

    Seen from outside: a group of rows is altered where it is tested, and no score of that split may move, except of
    the rows whose own inputs were altered. Then the outcomes of the rows around the group are altered, which purge
    and embargo keep out of training, and again no score of the group may move.

    Parameters
    ----------
    frame : polars.DataFrame
        A training set: ``symbol, session, t0, t1``, the features, ``target``.
    names : sequence of str
        Feature columns.
    probe : Probe
    predict : CrossPredict
        The function on trial.
    """
    v = probe.validation
    cv = CombinatorialPurgedCV(v.n_groups, v.n_test_groups, embargo=v.embargo_sessions)
    group_of = cv.groups(frame["t0"])
    trial = v.n_groups // 2
    own = group_of == trial

    def scores(rows: pl.DataFrame) -> NDArray[np.float64]:
        made = predict(rows, names, probe.models, v, seed=probe.seed)
        return made.select(pl.col("^path_.*$")).to_numpy().T

    tested = [trial in groups for groups in cv.test_groups()]
    in_trial = np.zeros((cv.n_paths, frame.height), dtype=np.bool_)
    for path, steps in enumerate(cv.paths()):
        for group, split in steps:
            in_trial[path, group_of == group] = tested[split]
    tracks = _Tracks(scores(frame), in_trial, own)
    found = [_group_altered(frame, names, tracks, scores)]
    if not found[0].violations:
        # Models that read tested outcomes would move here too, and the folds would be blamed for it.
        found.append(_surroundings_altered(frame, tracks, scores, v.embargo_sessions))
    return tuple(found)


def _group_altered(frame: pl.DataFrame, names: Sequence[str], tracks: _Tracks, scores: Any) -> Evidence:
    """All outcomes of the tested group, and the inputs of every second of its rows."""
    inputs = tracks.own & (np.arange(frame.height) % 2 == 0)
    altered = _with(frame, TARGET, tracks.own, OUTLIER_TARGETS)
    for name in names:
        altered = _with(altered, name, inputs, OUTLIERS)
    changed = tracks.scores != scores(altered)
    held = tracks.in_trial & ~inputs
    return evidence_of(
        "models",
        "a tested group altered",
        checked=int(held.sum()),
        violations=int((changed & held).sum()),
        moved=int((changed & ~tracks.in_trial).sum()),
        question="scores moved when rows that their split tests were altered",
    )


def _surroundings_altered(
    frame: pl.DataFrame, tracks: _Tracks, scores: Any, embargo_sessions: int
) -> Evidence:
    """The outcomes of rows that overlap the tested group or lie in its embargo."""
    t0, t1 = (frame[c].to_physical().to_numpy() for c in ("t0", "t1"))
    around = np.zeros(frame.height, dtype=np.bool_)
    for start, _, embargo_end in tested_runs(t0, t1, np.flatnonzero(tracks.own), embargo_sessions):
        around |= (t0 <= embargo_end) & (t1 >= start)
    around &= ~tracks.own
    changed = tracks.scores != scores(_with(frame, TARGET, around, OUTLIER_TARGETS))
    held = np.broadcast_to(tracks.own, changed.shape)
    return evidence_of(
        "folds",
        "labels around a tested group altered",
        checked=int(held.sum()) if around.any() else 0,
        violations=int((changed & held).sum()),
        moved=int((changed & ~held).sum()),
        question="scores moved when labels that purge and embargo exclude were altered",
    )


def _with(frame: pl.DataFrame, name: str, rows: Mask, values: Sequence[float]) -> pl.DataFrame:
    replacement = np.resize(np.asarray(values), frame.height)
    column = np.where(rows, replacement, frame[name].to_numpy())
    return frame.with_columns(pl.Series(name, column, dtype=frame.schema[name]))


# -------------------------------------------------------------------------------------------- labels shuffled


# Once in a thousand clean strategies this experiment raises a false alarm.
ALPHA = 0.001
GROUPS = 4


@dataclass(frozen=True)
class CentreTest:
    """Whether a sample is centred on 0.

    Attributes
    ----------
    quantity : str
    mean, standard_error : float
    p_value : float
        Two-sided; NaN with fewer than two finite values.
    n : int
        Finite values.
    """

    quantity: str
    mean: float
    standard_error: float
    p_value: float
    n: int

    @property
    def off_centre(self) -> bool:
        """Whether the mean is not 0 at half of `ALPHA`."""
        return bool(self.p_value < ALPHA / 2.0)

    def __str__(self) -> str:
        return f"{self.quantity} {self.mean:+.4f} (standard error {self.standard_error:.4f}, p {self.p_value:.2g})"


def centre_test(values: Sequence[float], quantity: str) -> CentreTest:
    """Two-sided t-test of mean 0."""
    from scipy.special import stdtr

    sample = np.array([v for v in values if math.isfinite(v)])
    if len(sample) < 2:
        return CentreTest(quantity, math.nan, math.nan, math.nan, len(sample))
    mean, error = float(sample.mean()), float(sample.std(ddof=1)) / math.sqrt(len(sample))
    if error == 0.0:  # every shuffle the same: 0 says nothing, anything else cannot be chance
        return CentreTest(quantity, mean, 0.0, math.nan if mean == 0.0 else 0.0, len(sample))
    p = 2.0 * float(stdtr(len(sample) - 1, -abs(mean) / error))
    return CentreTest(quantity, mean, error, p, len(sample))


def shuffled_labels(
    original: Original,
    strategy: StrategyConfig,
    pipeline: Pipeline,
    probe: Probe,
    *,
    n_shuffles: int,
    seed: int,
) -> Evidence:
    """Shuffle the labels before the training set is assembled; where that finds something, also after it.

    Nothing can be learned from shuffled labels, so whatever still predicts them has seen them. Every shuffle gives
    one rank correlation and one Sharpe ratio; over shuffles they are independent given the features, and without a
    leak their mean is 0. A two-sided t-test for each of the two at half of `ALPHA` each.
    """
    labels = original.labels

    def assembled(rng: np.random.Generator) -> Table:
        column = TARGET if TARGET in labels.columns else "forward_return"
        mixed = pl.Series(column, rng.permutation(labels[column].to_numpy()), dtype=labels.schema[column])
        return pipeline.training_set(
            original.features, labels.with_columns(mixed), strategy, original.known_by
        )

    def targets(rng: np.random.Generator) -> Table:
        table = original.training_set
        mixed = rng.permutation(table.frame[TARGET].to_numpy())
        return Table(table.frame.with_columns(pl.Series(TARGET, mixed)), table.metadata)

    def tests(make: Callable[[np.random.Generator], Table]) -> tuple[CentreTest, CentreTest]:
        found = [
            _predictability(make(np.random.default_rng([seed, number])), strategy, pipeline, probe)
            for number in range(n_shuffles)
        ]
        return (
            centre_test([ic for ic, _ in found], "mean rank IC"),
            centre_test([ratio for _, ratio in found], "mean Sharpe ratio per session"),
        )

    first = tests(assembled)
    stage: Stage = "models"
    if any(t.off_centre for t in first) and not any(t.off_centre for t in tests(targets)):
        # Shuffled after assembly they cannot be predicted: so the assembly had put them into the inputs.
        stage = "training_set"
    off = [t for t in first if t.off_centre]
    shown = " and ".join(str(t) for t in off or first)
    return Evidence(
        stage=stage,
        experiment="labels shuffled",
        checked=min(t.n for t in first)
        if all(math.isnan(t.p_value) for t in first)
        else max(t.n for t in first),
        violations=len(off),
        moved=sum(not math.isnan(t.p_value) for t in first),
        finding=f"{n_shuffles} shuffles, t-test at {ALPHA:g}: {shown} {'is not' if off else 'is'} centred on 0",
    )


def _predictability(
    table: Table, strategy: StrategyConfig, pipeline: Pipeline, probe: Probe
) -> tuple[float, float]:
    """Rank IC within each test group, and the Sharpe ratio of positions held against the labels."""
    from quant_assets.splits.cpcv import CombinatorialPurgedCV

    frame = probe_rows(table.frame, strategy)
    validation = ValidationConfig(
        n_groups=min(GROUPS, probe.validation.n_groups),
        n_test_groups=1,
        embargo_sessions=probe.validation.embargo_sessions,
    )
    scores = pipeline.cross_predict(
        frame, feature_names_of(table), probe.models, validation, seed=probe.seed
    )["path_0"].to_numpy()
    outcome = frame[TARGET].to_numpy()
    cv = CombinatorialPurgedCV(validation.n_groups, 1, embargo=validation.embargo_sessions)
    # Within one test group all scores come from one model. Between groups their levels differ against the outcome's:
    # the mean of what is left to train on falls when that of the test group rises.
    groups = cv.groups(frame["t0"])
    within = [_spearman(scores[groups == g], outcome[groups == g]) for g in range(validation.n_groups)]
    known = [ic for ic in within if math.isfinite(ic)]
    ic = float(np.mean(known)) if known else math.nan
    return ic, _label_sharpe(frame, scores, outcome, strategy.portfolio)


def _spearman(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    from scipy.stats import rankdata

    a, b = rankdata(x) - (len(x) + 1) / 2, rankdata(y) - (len(y) + 1) / 2
    scale = math.sqrt(float((a * a).sum()) * float((b * b).sum()))
    return float((a * b).sum()) / scale if scale > 0 else math.nan


def _label_sharpe(
    frame: pl.DataFrame, scores: NDArray[np.float64], outcome: NDArray[np.float64], portfolio: PortfolioConfig
) -> float:
    """Per session: the positions that scores ask for, times the labels they would earn. No costs."""
    from quant_assets.statistics.sharpe import sharpe_ratio
    from quant_assets.trading.sizing import target_weights

    # Market neutral whatever the strategy holds: shuffled labels keep the drift of the market.
    neutral = PortfolioConfig(gross_leverage=portfolio.gross_leverage)
    rows: Any = frame["session"].rank("dense").to_numpy().astype(np.int64) - 1
    columns: Any = frame["symbol"].rank("dense").to_numpy().astype(np.int64) - 1
    grid = np.full((rows.max() + 1, columns.max() + 1), np.nan)
    earned = np.zeros_like(grid)
    grid[rows, columns], earned[rows, columns] = scores, outcome
    returns = (target_weights(grid, neutral) * earned).sum(axis=1)
    return float(sharpe_ratio(returns))
