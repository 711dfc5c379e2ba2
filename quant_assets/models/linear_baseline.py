"""The linear baseline: ridge on the same features in the same splits, in closed form. What does a candidate add?

Ridge with a penalty of a tenth of the rows on standardised features, as a fixed rule: nothing of it is chosen or
tuned, and it becomes no model, so nobody can pick it. A split's fit comes from the sums of products of its groups of
rows, less those of the rows that it purges.

Hoerl and Kennard (1970), "Ridge regression", Technometrics 12:55-67.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.common.settings import ModelsConfig, ValidationConfig
from quant_assets.models.cross_prediction import outer_splitter
from quant_assets.models.custom_learner import one_thread
from quant_assets.models.fitting import purged_splits
from quant_assets.models.training_arrays import TrainingArrays, training_arrays, unseen_rows

Floats = NDArray[np.float64]

# Of the rows: coefficients are shrunk as if each standardised feature had a prior of so much.
PENALTY_SHARE = 0.1


@dataclass(frozen=True)
class _Moments:
    """Sums over rows of ``z z'`` with ``z = (1, features, target)``."""

    sums: Floats

    def ridge(self) -> tuple[float, Floats]:
        """Intercept and coefficients on raw features, penalised as standardised ones."""
        n = self.sums[0, 0]
        mean = self.sums[0, 1:] / n
        centred = self.sums[1:, 1:] / n - np.outer(mean, mean)
        spread = np.sqrt(np.maximum(np.diag(centred)[:-1], 0.0))
        varies = spread > 1e-9 * np.maximum(np.abs(mean[:-1]), 1e-300)
        scale = np.where(varies, spread, 1.0)
        gram = np.where(np.outer(varies, varies), centred[:-1, :-1] / np.outer(scale, scale), 0.0)
        moment = np.where(varies, centred[:-1, -1] / scale, 0.0)
        solved = np.linalg.solve(gram + PENALTY_SHARE * np.eye(len(gram)), moment)
        weights: Floats = solved / scale
        return float(mean[-1] - weights @ mean[:-1]), weights


def linear_predict(
    frame: pl.DataFrame,
    feature_names: Sequence[str],
    models: ModelsConfig,
    validation: ValidationConfig,
    *,
    scored: pl.DataFrame,
) -> pl.DataFrame:
    """Out-of-sample scores of the linear baseline, on the paths of the candidate's cross-predictions.

    Parameters
    ----------
    frame : polars.DataFrame
        Training set.
    feature_names : sequence of str
    models : ModelsConfig
        Whose target it is fitted to; of a direction the class as a number.
    validation : ValidationConfig
    scored : polars.DataFrame
        Decidable rows, which are predicted.

    Returns
    -------
    polars.DataFrame
        ``symbol, session, path_0 ... path_{P-1}``.
    """
    with one_thread():  # sums of several have no fixed order
        return _predicted(frame, feature_names, models, validation, scored)


def _predicted(
    frame: pl.DataFrame,
    feature_names: Sequence[str],
    models: ModelsConfig,
    validation: ValidationConfig,
    scored: pl.DataFrame,
) -> pl.DataFrame:
    data = training_arrays(frame, feature_names, models.label_kind)
    cv = outer_splitter(validation)
    unseen, trained = unseen_rows(scored, feature_names), cv.groups(data.t0)
    group_of = unseen.groups(np.array([data.t0[trained == group].min() for group in range(cv.n_groups)]))
    level = data.features.mean(axis=0, dtype=np.float64)
    rows = _augmented(data, level)
    of_group = [_sums(rows[trained == group]) for group in range(cv.n_groups)]
    inputs = unseen.features - level
    path_of = {(split, group): path for path, steps in enumerate(cv.paths()) for group, split in steps}
    tracks = np.full((cv.n_paths, scored.height), np.nan)
    splits = purged_splits(cv, data, "lower validation.n_test_groups or embargo_sessions")
    for split, ((train, _), tested) in enumerate(zip(splits, cv.test_groups(), strict=True)):
        kept = np.zeros(len(rows), dtype=np.bool_)
        kept[train] = True
        purged = ~kept & ~np.isin(trained, tested)
        untested = [of_group[group] for group in range(cv.n_groups) if group not in tested]
        sums = np.sum(untested, axis=0) - _sums(rows[purged])
        intercept, weights = _Moments(sums).ridge()
        for group in tested:
            inside = group_of == group
            tracks[path_of[split, int(group)], inside] = intercept + inputs[inside] @ weights
    return scored.select("symbol", "session").with_columns(
        pl.Series(f"path_{path}", track) for path, track in enumerate(tracks)
    )


def _augmented(data: TrainingArrays, level: Floats) -> Floats:
    """One, the features less their level (sums of squares of large ones would cancel), the target."""
    return np.column_stack([np.ones(len(data.target)), data.features - level, data.target])


def _sums(rows: Floats) -> Floats:
    total: Floats = rows.T @ rows
    return total
