"""What learners read and what they grow, in one form for every library: training arrays, and decision trees.

Everything is refused that a fit, or a reading, would hide.
"""

import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.common.errors import ModelError
from quant_assets.common.hashing import bytes_digest, json_digest
from quant_assets.common.model_settings import LabelKind, WeightsConfig
from quant_assets.datasets.labels import direction
from quant_assets.models.sample_weights import custom_weights, weight_rows

# --------------------------------------------------------------------------------- bins of one feature matrix

# Boosters bin every feature before they fit. Splits of one training set bin nearly the same rows again and again;
# with ``shared`` the whole matrix is binned once and each fit takes its rows of it. What a booster then knows of rows
# outside of its own is where the quantiles of their *features* lie: no outcome, and no row to learn from.
#
# Measured (``python -m quant_assets_tests.benchmarks.cross_validation``), out-of-sample rank IC with shared less that
# with exact bins, mean (standard error) over 30 draws of 8,000 rows with drifting features: on noise -.0024 (.0014)
# for LightGBM and +.0006 (.0014) for XGBoost, on a planted edge of IC .04 to .05 +.0003 (.0012) and -.0005 (.0010);
# on 100 US stocks, 45 splits, -.0005 (.0004). No lift is seen, but one below .003 would not be. Still tested features
# move training predictions, so the leakage prover refuses a strategy with shared bins: they are for trials, and
# ``exact`` bins, found from the training rows of the split, are the default and what evidence rests on.
#
# Exact bins are found once for each split, and the folds inside of it (the stacker's, those of early stopping) take
# their rows of them. So a learner of an inner fold knows where the features of the fold's held-out rows lie, as it
# does with ``shared`` in the split: no outcome, and of no row that the split tests, which is what the leakage prover
# holds it to. Finding bins was half of each fit (293,000 rows of 29 features: 1.7 of 3.7 s for LightGBM, 2.0 of 4.0 s
# for XGBoost); four fits of a split now find them once. Bins are those of the rows without their weights: XGBoost
# would weigh its quantiles, and a fold's weights are others than the split's.


class SharedBins:
    """One feature matrix and what the libraries made of it, each made at its first use.

    Safe to use from several threads. A copy in another process has the matrix and makes its own: binning is
    deterministic, handles of a library are not for transport.

    Parameters
    ----------
    features : ndarray of float32, shape (n, f)
    """

    def __init__(self, features: NDArray[np.float32]) -> None:
        self.features = features
        self._lock = threading.Lock()
        self._made: dict[Hashable, Any] = {}

    def of(self, key: Hashable, make: Callable[[NDArray[np.float32]], Any]) -> Any:
        """What ``make`` returns for the whole matrix; ``key`` names everything else that it depends on."""
        return self.made(key, make)[0]

    def made(self, key: Hashable, make: Callable[[NDArray[np.float32]], Any]) -> tuple[Any, bool]:
        """The same, and whether this very call made it: then nobody else has it yet."""
        with self._lock:
            first = key not in self._made
            if first:
                self._made[key] = make(self.features)
            return self._made[key], first

    def __reduce__(self) -> tuple[type["SharedBins"], tuple[NDArray[np.float32]]]:
        return SharedBins, (self.features,)


@dataclass(frozen=True)
class BinnedRows:
    """Rows of a matrix with shared bins.

    Attributes
    ----------
    bins : SharedBins
    rows : ndarray of int64, shape (n,)
        Positions in the whole matrix, ascending: LightGBM sorts them, and labels would no longer be theirs.
    """

    bins: SharedBins
    rows: NDArray[np.int64]

    def __post_init__(self) -> None:
        if np.any(np.diff(self.rows) <= 0):
            raise ModelError(
                "rows of a matrix with shared bins",
                expected="ascending positions, each once",
                found=f"{int((np.diff(self.rows) <= 0).sum())} of {len(self.rows)} out of order",
                action="take the rows in the order of the training set, or set models.binning: exact",
            )

    def take(self, rows: NDArray[np.int64]) -> "BinnedRows":
        """These of the rows."""
        return BinnedRows(self.bins, self.rows[rows])


# ---------------------------------------------------------------------------------------- what a fit is given


@dataclass(frozen=True)
class Samples:
    """Checked rows of a fit.

    Attributes
    ----------
    features : ndarray of float32, shape (n, f)
    target : ndarray of float64, shape (n,)
    weights : ndarray of float64, shape (n,), or None
    binned : BinnedRows or None
        The same rows in a matrix whose bins are shared; CatBoost, which cannot, bins ``features``.
    session : ndarray of datetime64[us], shape (n,), or None
        Decision times: the groups of a ranking.
    """

    features: NDArray[np.float32]
    target: NDArray[np.float64]
    weights: NDArray[np.float64] | None = None
    binned: BinnedRows | None = None
    session: NDArray[Any] | None = None


def cuda_refused(learner: str, found: str) -> ModelError:
    """The error of a library that was asked for CUDA and has none, to be raised."""
    return ModelError(
        f"device of learner {learner!r}",
        expected="a CUDA device, and a build of the library that uses it",
        found=" ".join(found.split()),
        action="set models.device: cpu in the strategy, or fit on a machine with CUDA",
    )


# --------------------------------------------------------------------------------------------- a training set


@dataclass(frozen=True)
class RowNames:
    """What rows are called.

    Attributes
    ----------
    symbols : tuple of str
        By the numbers in `TrainingArrays.symbol`.
    session : ndarray of datetime64[D], shape (n,)
    features : tuple of str
    """

    symbols: tuple[str, ...]
    session: NDArray[Any]
    features: tuple[str, ...]


@dataclass(frozen=True)
class TrainingArrays:
    """Columns of a training set, row for row.

    Attributes
    ----------
    features : ndarray of float32, shape (n, f)
        C-contiguous and finite.
    target : ndarray of float64, shape (n,)
        What is learnt: the forward return, a fraction, or its direction, 1 or 0.
    t0, t1 : ndarray of datetime64[us], shape (n,)
        Decision time and the time at which the outcome is known (UTC).
    symbol : ndarray of int64, shape (n,)
        A number for each symbol.
    binned : BinnedRows or None
        The same rows in a matrix whose bins are shared by the fits.
    names : RowNames or None
        For weights by a function of the desk's own.
    """

    features: NDArray[np.float32]
    target: NDArray[np.float64]
    t0: NDArray[Any]
    t1: NDArray[Any]
    symbol: NDArray[np.int64]
    binned: BinnedRows | None = None
    names: RowNames | None = None

    def take(self, rows: NDArray[np.int64]) -> "TrainingArrays":
        """These rows, in that order."""
        return TrainingArrays(
            self.features[rows],
            self.target[rows],
            self.t0[rows],
            self.t1[rows],
            self.symbol[rows],
            self.binned and self.binned.take(rows),
            self.names and replace(self.names, session=self.names.session[rows]),
        )

    def with_shared_bins(self) -> "TrainingArrays":
        """The same rows, whose bins every fit on some of them shares; bins that they share already stay."""
        if self.binned is not None:
            return self
        whole = BinnedRows(SharedBins(self.features), np.arange(len(self.features)))
        return replace(self, binned=whole)

    @property
    def digest(self) -> str:
        """Digest of every row, bins aside."""
        rows = _digest(self.features, self.target, self.t0, self.t1, self.symbol)
        if self.names is None:
            return rows
        return json_digest(
            [rows, list(self.names.symbols), _digest(self.names.session), list(self.names.features)]
        )

    def __sizeof__(self) -> int:
        # Asked by schedulers that send large objects once instead of with every task.
        return self.features.nbytes

    def weights(self, config: WeightsConfig) -> NDArray[np.float64] | None:
        """Sample weights of mean 1, from these rows alone; None when the configuration asks for none.

        Raises
        ------
        ModelError
            When a function of the desk's own gives no such weights, or these arrays do not know what it is told.
        """
        from quant_assets.datasets.labels import sample_weights

        if not config.in_use:
            return None
        weights = sample_weights(
            self.symbol, self.t0, self.t1, uniqueness=config.uniqueness, time_decay=config.time_decay
        )
        if config.custom is None:
            return weights
        weights = weights * custom_weights(config.custom, self._weight_rows())
        if not weights.any():
            raise ModelError(
                "sample weights",
                expected="a row whose weight is above 0",
                found="none: those of models.weights.custom and the built-in ones are nowhere both above 0",
                action="correct the function that models.weights.custom names",
            )
        scaled: NDArray[np.float64] = weights / weights.mean()
        return scaled

    def _weight_rows(self) -> pl.DataFrame:
        if self.names is None:
            raise ModelError(
                "rows of a fit",
                expected="their symbols and sessions, which models.weights.custom is given",
                found="arrays without them",
                action="make them by training_arrays",
            )
        columns = self.features[:, : len(self.names.features)]
        return weight_rows(
            np.array(self.names.symbols)[self.symbol], self.names.session, self.t0, self.t1,
            pl.DataFrame(columns, schema=list(self.names.features)),
        )  # fmt: skip


@dataclass(frozen=True)
class Unseen:
    """Rows that are predicted: those of a training set, or every decidable one.

    Attributes
    ----------
    features : ndarray of float32, shape (n, f)
    t0 : ndarray of datetime64[us], shape (n,)
        Decision times (UTC).
    """

    features: NDArray[np.float32]
    t0: NDArray[Any]

    @property
    def digest(self) -> str:
        """Digest of every row."""
        return _digest(self.features, self.t0)

    def groups(self, begins: NDArray[Any]) -> NDArray[np.int64]:
        """The last group that begins by each row's decision; the first for rows before all of them."""
        return np.maximum(np.searchsorted(begins, self.t0, side="right") - 1, 0)


def _digest(*arrays: NDArray[Any]) -> str:
    return json_digest([[str(a.dtype), list(a.shape), bytes_digest(a.tobytes())] for a in arrays])


def unseen_rows(frame: pl.DataFrame, feature_names: Sequence[str]) -> Unseen:
    """Rows of `quant_assets.datasets.training_set.decidable_rows` as arrays.

    Raises
    ------
    ModelError
        As `feature_matrix`.
    """
    return Unseen(feature_matrix(frame, feature_names), frame["t0"].to_numpy())


def training_arrays(
    frame: pl.DataFrame, feature_names: Sequence[str], kind: LabelKind = "return"
) -> TrainingArrays:
    """Arrays of a training set.

    Parameters
    ----------
    frame : polars.DataFrame
        Columns ``symbol``, ``t0``, ``t1``, ``target`` (a float; an integer where it is a class already) and the
        features (Float32), without nulls.
    feature_names : sequence of str
        Feature columns in model order.
    kind : {"return", "direction"}
        What of the target is learnt. A direction is the class that the target is, or of a number whether it is above
        the median of its decision time; no split separates rows of one time.

    Raises
    ------
    ModelError
        When a column is missing or of another type, or holds a null, NaN or infinity.
    """
    missing = [n for n in ("symbol", "t0", "t1", "target", *feature_names) if n not in frame.columns]
    if missing:
        raise ModelError(
            "training set",
            expected="columns symbol, t0, t1, target and every feature",
            found=f"none named {', '.join(missing)}",
            action="materialise the training set again with the model's feature pack",
        )
    features = feature_matrix(frame, feature_names)
    target = frame["target"].cast(pl.Float64).to_numpy()
    check_target(target, len(features))
    if kind == "direction" and frame.schema["target"].is_float():
        target = frame.select(direction("target")).to_series().to_numpy()
    symbol = frame["symbol"].rank("dense").cast(pl.Int64).to_numpy() - 1
    names = None
    if "session" in frame.columns:
        symbols = frame["symbol"].unique().sort().to_list()
        names = RowNames(tuple(symbols), frame["session"].to_numpy(), tuple(feature_names))
    t0, t1 = frame["t0"].to_numpy(), frame["t1"].to_numpy()
    return TrainingArrays(features, target, t0, t1, symbol, names=names)


def feature_matrix(frame: pl.DataFrame, feature_names: Sequence[str]) -> NDArray[np.float32]:
    """The features of a frame, shape (rows, features), C-contiguous.

    Raises
    ------
    ModelError
        When a column is not Float32, or holds a null, NaN or infinity.
    """
    for name in feature_names:
        if frame.schema[name] != pl.Float32:
            raise ModelError(
                f"feature {name!r} of the training set",
                expected="Float32, the type that every model and graph reads",
                found=str(frame.schema[name]),
                action="cast it where the features are made, so that training and serving see the same bits",
            )
    features: NDArray[np.float32] = np.ascontiguousarray(frame.select(feature_names).to_numpy())
    check_matrix(features, feature_names)
    return features


def check_matrix(features: NDArray[Any], feature_names: Sequence[str]) -> None:
    """Refuse a feature matrix that is not float32, two-dimensional, as wide as its names, and finite.

    Raises
    ------
    ModelError
        Naming the first offending row and column.
    """
    expected = f"a float32 matrix with {len(feature_names)} columns, every value finite"
    if features.ndim != 2 or features.dtype != np.float32 or features.shape[1] != len(feature_names):
        raise ModelError(
            "feature matrix",
            expected=expected,
            found=f"{features.dtype} of shape {features.shape}",
            action="select the model's features in order and cast them to float32",
        )
    for column, name in enumerate(feature_names):
        finite = np.isfinite(features[:, column])
        if not finite.all():
            row = int(np.argmin(finite))
            raise ModelError(
                f"feature {name!r}, row {row}",
                expected=expected,
                found=f"{features[row, column]} ({int((~finite).sum())} such rows)",
                action="drop masked rows before the fit; they are never filled",
            )


def check_target(target: NDArray[Any], n_rows: int) -> None:
    """Refuse a target that is not one finite number per row.

    Raises
    ------
    ModelError
        Naming the first offending row.
    """
    if target.shape != (n_rows,):
        raise ModelError(
            "target",
            expected=f"shape ({n_rows},), one value per feature row",
            found=f"shape {target.shape}",
            action="pass the target column of the same training set",
        )
    finite = np.isfinite(target)
    if not finite.all():
        row = int(np.argmin(finite))
        raise ModelError(
            f"target, row {row}",
            expected="a finite forward return",
            found=f"{target[row]} ({int((~finite).sum())} such rows)",
            action="drop rows whose label is not known yet",
        )


def check_classes(target: NDArray[Any]) -> None:
    """Refuse a target that is not made of the classes 0 and 1, both present.

    Raises
    ------
    ModelError
        Naming the first offending row, or the only class. The likelihood of one class has no finite maximum.
    """
    strange = ~np.isin(target, (0.0, 1.0))
    if strange.any():
        row = int(np.argmax(strange))
        raise ModelError(
            f"target, row {row}",
            expected="class 0 or 1, as a classification objective needs",
            found=f"{target[row]} ({int(strange.sum())} such rows)",
            action="read the training set with kind 'direction'",
        )
    classes = np.unique(target)
    if len(classes) < 2:
        raise ModelError(
            "target of a classification",
            expected="rows of both classes among the training rows",
            found=f"only class {classes.tolist()} in {len(target)} rows",
            action="use label.kind: return where sessions have too few names to have an upper half",
        )
