"""A training set as the arrays that learners read, with everything refused that a fit would hide."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.common.errors import ModelError


@dataclass(frozen=True)
class TrainingArrays:
    """Columns of a training set, row for row.

    Attributes
    ----------
    features : ndarray of float32, shape (n, f)
        C-contiguous and finite.
    target : ndarray of float64, shape (n,)
        Forward return of the label, a fraction.
    t0, t1 : ndarray of datetime64[us], shape (n,)
        Decision time and the time at which the outcome is known (UTC).
    """

    features: NDArray[np.float32]
    target: NDArray[np.float64]
    t0: NDArray[Any]
    t1: NDArray[Any]

    def take(self, rows: NDArray[np.int64]) -> "TrainingArrays":
        """These rows, in that order."""
        return TrainingArrays(self.features[rows], self.target[rows], self.t0[rows], self.t1[rows])


def training_arrays(frame: pl.DataFrame, feature_names: Sequence[str]) -> TrainingArrays:
    """Arrays of a training set.

    Parameters
    ----------
    frame : polars.DataFrame
        Columns ``t0``, ``t1``, ``target`` (Float64) and the features (Float32), without nulls.
    feature_names : sequence of str
        Feature columns in model order.

    Raises
    ------
    ModelError
        When a column is missing or of another type, or holds a null, NaN or infinity.
    """
    missing = [n for n in ("t0", "t1", "target", *feature_names) if n not in frame.columns]
    if missing:
        raise ModelError(
            "training set",
            expected="columns t0, t1, target and every feature",
            found=f"none named {', '.join(missing)}",
            action="materialise the training set again with the model's feature pack",
        )
    for name in feature_names:
        if frame.schema[name] != pl.Float32:
            raise ModelError(
                f"feature {name!r} of the training set",
                expected="Float32, the type that every model and graph reads",
                found=str(frame.schema[name]),
                action="cast it where the features are made, so that training and serving see the same bits",
            )
    features = np.ascontiguousarray(frame.select(feature_names).to_numpy())
    target = frame["target"].cast(pl.Float64).to_numpy()
    check_matrix(features, feature_names)
    check_target(target, len(features))
    return TrainingArrays(features, target, frame["t0"].to_numpy(), frame["t1"].to_numpy())


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
