"""The stacker: ridge or logistic regression over out-of-fold predictions from an inner purged split.

Out-of-fold, because a base learner's predictions of its own training rows are too good: a stacker fitted on
them trusts the learner that overfits most (Wolpert 1992; Breiman 1996). Purged, because labels overlap.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant_assets.common.errors import ModelError
from quant_assets.common.processes import run_tasks
from quant_assets.common.provenance import closure_of
from quant_assets.common.settings import ModelsConfig
from quant_assets.models.fitting import fit_base, inner_folds
from quant_assets.models.kept_fits import (
    NOTHING_KEPT,
    FitKeys,
    FitStore,
    NothingKept,
    floats_bytes,
    found_floats,
)
from quant_assets.models.training_arrays import TrainingArrays, check_classes

# ---------------------------------------------------------------------------------------- logistic regression


Floats = NDArray[np.float64]

_MOST_STEPS = 100
_TOLERANCE = 1e-12  # Newton decrement for each row: far below what a float32 score can show


def logistic_weights(
    standard: Floats, classes: Floats, alpha: float, sample_weights: Floats | None
) -> Floats:
    """Intercept, not penalised, and coefficients of the log-odds of class 1, by Newton's method.

    scikit-learn's solver gives the same numbers (a test compares them) but sums with BLAS, whose bits depend on the
    number of threads; limiting them is process-wide, and splits are fitted in threads of one process. With three or
    four coefficients the whole method is a few sums, made here by numpy's pairwise summation.

    They minimise ``sum_i s_i (log(1 + exp(m_i)) - y_i m_i) + alpha / 2 |w|^2`` with ``m = w_0 + X w``.

    Parameters
    ----------
    standard : ndarray of float64, shape (n, k)
        Standardised columns; one that is all zero gets coefficient 0.
    classes : ndarray of float64, shape (n,)
        0 or 1.
    alpha : float
    sample_weights : ndarray of float64, shape (n,), or None

    Returns
    -------
    ndarray of float64, shape (1 + k,)

    Raises
    ------
    ModelError
        When there is no finite minimum: one class, or without a penalty classes that a plane separates.
    """
    columns = [np.ones(len(classes)), *standard.T]
    weight = np.ones(len(classes)) if sample_weights is None else sample_weights
    penalty = np.append(0.0, np.full(len(columns) - 1, alpha))
    beta = np.zeros(len(columns))
    value = _objective(columns, classes, weight, penalty, beta)
    for _ in range(_MOST_STEPS):
        margins = _margins(columns, beta)
        if alpha == 0 and bool(np.all(margins * (2.0 * classes - 1.0) > 0)):
            break  # every row on its side: the likelihood grows without end in this direction
        share = 0.5 * (1.0 + np.tanh(0.5 * margins))  # the logistic function, which cannot overflow
        residual, curvature = weight * (share - classes), weight * share * (1.0 - share)
        gradient = np.array([float((c * residual).sum()) for c in columns]) + penalty * beta
        hessian = np.array([[float((a * b * curvature).sum()) for b in columns] for a in columns])
        # A column that is all zero leaves a row of zeros: least squares gives it the step 0.
        step = np.linalg.lstsq(hessian + np.diag(penalty), gradient, rcond=None)[0]
        if float(gradient @ step) <= _TOLERANCE * len(classes):
            solution: Floats = beta - step
            return solution
        length = 1.0
        while (found := _objective(columns, classes, weight, penalty, beta - length * step)) > value:
            length /= 2
            if length < 1e-10:  # rounding is all that is left
                return beta
        beta, value = beta - length * step, found
    raise ModelError(
        "logistic stacker",
        expected=f"a finite minimum within {_MOST_STEPS} Newton steps",
        found=f"none: coefficients of {float(np.abs(beta).max()):.3g} and growing, the predictions separate the "
        "classes",
        action="set models.stacker.ridge_alpha above 0",
    )


def _margins(columns: list[Floats], beta: Floats) -> Floats:
    # Column by column: a product with BLAS would give a row other bits in another batch.
    total = np.zeros(len(columns[0]))
    for column, coefficient in zip(columns, beta, strict=True):
        total += coefficient * column
    return total


def _objective(
    columns: list[Floats], classes: Floats, weight: Floats, penalty: Floats, beta: Floats
) -> float:
    margins = _margins(columns, beta)
    loss = weight * (np.logaddexp(0.0, margins) - classes * margins)
    return float(loss.sum()) + 0.5 * float((penalty * beta * beta).sum())


# ------------------------------------------------------------------------------------------------ the stacker


@dataclass(frozen=True)
class Stacker:
    """Linear combination of raw base predictions.

    ``score = intercept + sum_j coefficients[j] * prediction_j``: expected forward return, a fraction, or for a
    classification the log-odds of class 1. Either way the decision is at zero and ranks are those of the score.

    Attributes
    ----------
    learners : tuple of str
        Base learners, in coefficient order.
    coefficients : tuple of float
        Standardisation is folded in: they act on raw predictions.
    intercept : float
    spreads : tuple of float
        Standard deviation of each learner's out-of-fold predictions; ``coefficients * spreads`` compares the
        learners' weights on one scale.
    """

    learners: tuple[str, ...]
    coefficients: tuple[float, ...]
    intercept: float
    spreads: tuple[float, ...]

    def combine(self, base: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores from base predictions of shape (n, learners).

        Summed learner by learner, so that a row's score has the same bits in every batch.
        """
        score = np.full(len(base), self.intercept)
        for column, coefficient in enumerate(self.coefficients):
            score += coefficient * base[:, column]
        return score

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "learners": list(self.learners),
            "coefficients": list(self.coefficients),
            "intercept": self.intercept,
            "spreads": list(self.spreads),
        }


def out_of_fold_predictions(
    data: TrainingArrays,
    models: ModelsConfig,
    *,
    seed: int,
    feature_names: Sequence[str],
    embargo_sessions: int,
    n_jobs: int = 1,
    known: Mapping[str, NDArray[np.float64]] | None = None,
) -> NDArray[np.float64]:
    """Predictions of every row by learners that were fitted without it, its overlaps and its embargo.

    Weights and early stopping of these learners come from the rows that they are fitted to, too. Bins are those of
    all rows given, found once (see `quant_assets.models.training_arrays`).

    Parameters
    ----------
    known : mapping of str to ndarray of float64, shape (n,), optional
        Columns that were made before, by learner: these are not fitted.

    Returns
    -------
    ndarray of float64, shape (n, learners)
        Columns in the order of ``models.learners``; log-odds for classifications.
    """
    before = dict(known or {})
    wanted = tuple(name for name in models.learners if name not in before)
    if not wanted:
        return np.column_stack([before[name] for name in models.learners])
    data = data.with_shared_bins()
    folds = inner_folds(
        data, models.stacker.inner_folds, embargo_sessions, setting="models.stacker.inner_folds"
    )
    tasks = [(*fold, data, models, wanted, seed, tuple(feature_names), embargo_sessions) for fold in folds]
    # With one job this is a part of another task: not to be sent elsewhere once more.
    parts = starmap(_held_out, tasks) if n_jobs == 1 else run_tasks(_held_out, tasks, workers=n_jobs)
    predictions = np.full((len(data.target), len(wanted)), np.nan)
    for (_, test), part in zip(folds, parts, strict=True):
        predictions[test] = part
    made = {**before, **{name: predictions[:, column] for column, name in enumerate(wanted)}}
    return np.column_stack([made[name] for name in models.learners])


def _held_out(
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    data: TrainingArrays,
    models: ModelsConfig,
    learners: Sequence[str],
    seed: int,
    feature_names: Sequence[str],
    embargo_sessions: int,
) -> NDArray[np.float64]:
    rows, unseen = data.take(train), data.features[test]
    columns = [
        fit_base(
            name, rows, models, seed=seed, feature_names=feature_names, embargo_sessions=embargo_sessions
        ).predict(unseen)
        for name in learners
    ]
    return np.column_stack(columns)


def fit_stacker(
    data: TrainingArrays,
    models: ModelsConfig,
    *,
    seed: int,
    feature_names: Sequence[str],
    embargo_sessions: int,
    n_jobs: int = 1,
    fits: FitStore = NOTHING_KEPT,
) -> Stacker:
    """Fit the stacker of an ensemble: ridge on returns, logistic regression on directions.

    Parameters
    ----------
    data : TrainingArrays
        Training rows; the inner split purges by their label intervals.
    models : ModelsConfig
    seed : int
        The same as that of the base learners.
    feature_names : sequence of str
    embargo_sessions : int
        Of the inner split.
    n_jobs : int, default 1
        Folds fitted at the same time, on the cluster if one is configured; 1 stays in this thread. The result does
        not depend on it.
    fits : FitStore, optional
        Where each learner's out-of-fold predictions are found when they were made before, and kept when not.

    Raises
    ------
    ModelError
        When an inner fold has nothing to train on.
    """
    names: dict[str, str] = {}
    if not isinstance(fits, NothingKept):
        code, nobody = closure_of(out_of_fold_predictions).digest, np.empty(0, dtype=np.int64)
        keys = FitKeys(data.digest, "", models, seed, embargo_sessions, tuple(feature_names), code)
        names = {name: keys.key("folds", name, None, nobody) for name in models.learners}
    found = {name: found_floats(fits, key, data.target.shape) for name, key in names.items()}
    known = {name: column for name, column in found.items() if column is not None}
    predictions = out_of_fold_predictions(
        data, models,
        seed=seed, feature_names=feature_names, embargo_sessions=embargo_sessions, n_jobs=n_jobs, known=known,
    )  # fmt: skip
    for column, name in enumerate(models.learners):
        if name in names and name not in known:
            fits.keep(names[name], floats_bytes(predictions[:, column]))
    return stacked_on(predictions, data, models)


def stacked_on(predictions: NDArray[np.float64], data: TrainingArrays, models: ModelsConfig) -> Stacker:
    """The stacker on out-of-fold predictions of the training rows, columns in the order of ``models.learners``."""
    stacker = {"return": ridge_stacker, "direction": logistic_stacker}[models.label_kind]
    return stacker(
        predictions,
        data.target,
        models.learners,
        models.stacker.ridge_alpha,
        sample_weights=data.weights(models.weights),
    )


def ridge_stacker(
    predictions: NDArray[np.float64],
    target: NDArray[np.float64],
    learners: Sequence[str],
    alpha: float,
    *,
    sample_weights: NDArray[np.float64] | None = None,
) -> Stacker:
    """Ridge of the target on standardised predictions, in closed form: ``(Z'SZ + alpha I) w = Z'S(y - mean y)``.

    S holds the sample weights, and means and deviations are weighted by them. A learner whose predictions do not
    vary gets coefficient 0. Sums are numpy's pairwise sums instead of BLAS products, whose bits depend on the
    number of threads.
    """
    scaled = _standardised(predictions, sample_weights)
    standard = scaled.values
    centre = float(_mean(target, sample_weights))
    outcome = target - centre
    if sample_weights is not None:
        outcome = sample_weights * outcome
    n = predictions.shape[1]
    columns = standard if sample_weights is None else sample_weights[:, None] * standard
    gram = np.array([[float((columns[:, i] * standard[:, j]).sum()) for j in range(n)] for i in range(n)])
    moment = np.array([float((standard[:, i] * outcome).sum()) for i in range(n)])
    # alpha may be 0 and two learners may agree everywhere: least squares has an answer then too.
    weight = np.linalg.lstsq(gram + alpha * np.eye(n), moment, rcond=None)[0]
    return scaled.stacker(learners, weight, centre)


def logistic_stacker(
    predictions: NDArray[np.float64],
    target: NDArray[np.float64],
    learners: Sequence[str],
    alpha: float,
    *,
    sample_weights: NDArray[np.float64] | None = None,
) -> Stacker:
    """Logistic regression of the class on standardised log-odds; see `quant_assets.models.stacking`.

    The score is linear in the base log-odds and is itself the log-odds of class 1: its sign is the more likely
    class, its order that of the probabilities. A learner whose predictions do not vary gets coefficient 0.
    """
    check_classes(target)
    scaled = _standardised(predictions, sample_weights)
    intercept, *weight = logistic_weights(scaled.values, target, alpha, sample_weights)
    return scaled.stacker(learners, np.array(weight), float(intercept))


@dataclass(frozen=True)
class _Standardised:
    values: NDArray[np.float64]
    centre: NDArray[np.float64]
    spread: NDArray[np.float64]
    varies: NDArray[np.bool_]

    def stacker(self, learners: Sequence[str], weight: NDArray[np.float64], level: float) -> Stacker:
        """The stacker on raw predictions of weights and level on standardised ones."""
        coefficients = np.where(self.varies, weight / np.where(self.varies, self.spread, 1.0), 0.0)
        return Stacker(
            tuple(learners),
            tuple(float(c) for c in coefficients),
            float(level - (coefficients * self.centre).sum()),
            tuple(float(s) for s in np.where(self.varies, self.spread, 0.0)),
        )


def _standardised(
    predictions: NDArray[np.float64], sample_weights: NDArray[np.float64] | None
) -> _Standardised:
    centre = _mean(predictions, sample_weights)
    spread = np.sqrt(_mean((predictions - centre) ** 2, sample_weights))
    # A constant column's computed deviation is rounding noise, not zero.
    varies = spread > 1e-12 * np.maximum(np.abs(centre), np.finfo(np.float64).tiny)
    values = np.where(varies, (predictions - centre) / np.where(varies, spread, 1.0), 0.0)
    return _Standardised(values, centre, spread, varies)


def _mean(values: NDArray[np.float64], weights: NDArray[np.float64] | None) -> Any:
    """Mean over rows, weighted when there are weights."""
    if weights is None:
        return values.mean(axis=0)
    return (weights.reshape(-1, *[1] * (values.ndim - 1)) * values).sum(axis=0) / weights.sum()


def weighted_importance(stacker: Stacker, shares: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Gain shares of several learners as one, each counted by ``|coefficient * spread|``.

    The shares sum to 1, or are all 0 when no learner that counts has split at all.
    """
    weights = {
        name: abs(c * s)
        for name, c, s in zip(stacker.learners, stacker.coefficients, stacker.spreads, strict=True)
        if any(shares[name].values())
    }
    total = sum(weights.values())
    names = next(iter(shares.values()))
    if not total > 0:
        return dict.fromkeys(names, 0.0)
    return {f: sum(w / total * shares[name][f] for name, w in weights.items()) for f in names}
