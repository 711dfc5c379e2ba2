"""The stacker: ridge over out-of-fold predictions of the base learners from an inner purged split.

Out-of-fold, because a base learner's predictions of its own training rows are too good: a stacker fitted on
them trusts the learner that overfits most (Wolpert 1992; Breiman 1996). Purged, because labels overlap.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant_assets.common.errors import ModelError
from quant_assets.common.settings import ModelsConfig
from quant_assets.models.learners import fit_learner


@dataclass(frozen=True)
class Stacker:
    """Linear combination of raw base predictions.

    ``score = intercept + sum_j coefficients[j] * prediction_j``, in target units (forward return, fraction).

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
    features: NDArray[np.float32],
    target: NDArray[np.float64],
    t0: NDArray[Any],
    t1: NDArray[Any],
    models: ModelsConfig,
    *,
    seed: int,
    feature_names: Sequence[str],
    embargo_sessions: int,
    n_jobs: int = 1,
) -> NDArray[np.float64]:
    """Predictions of every row by learners that were fitted without it, its overlaps and its embargo.

    Returns
    -------
    ndarray of float64, shape (n, learners)
        Columns in the order of ``models.learners``.
    """
    from joblib import Parallel, delayed

    from quant_assets.validation.cpcv import PurgedKFold

    folds = list(PurgedKFold(models.stacker.inner_folds, embargo=embargo_sessions).split(t0, t1))
    for number, (train, _) in enumerate(folds):
        if not len(train):
            raise ModelError(
                f"inner fold {number + 1} of {len(folds)} of the stacker",
                expected="rows to train on after purge and embargo",
                found=f"none of {len(target)}",
                action="lower models.stacker.inner_folds or validation.embargo_sessions, or train on more sessions",
            )

    def held_out(train: NDArray[np.int64], test: NDArray[np.int64]) -> NDArray[np.float64]:
        rows, outcome, unseen = features[train], target[train], features[test]
        columns = [
            fit_learner(
                name, getattr(models, name), rows, outcome, seed=seed, feature_names=feature_names
            ).predict(unseen)
            for name in models.learners
        ]
        return np.column_stack(columns)

    # Threads: LightGBM and XGBoost release the interpreter while they fit. Results come in fold order.
    parts = Parallel(n_jobs=n_jobs, backend="threading")(delayed(held_out)(*fold) for fold in folds)
    predictions = np.full((len(target), len(models.learners)), np.nan)
    for (_, test), part in zip(folds, parts, strict=True):
        predictions[test] = part
    return predictions


def fit_stacker(
    features: NDArray[np.float32],
    target: NDArray[np.float64],
    t0: NDArray[Any],
    t1: NDArray[Any],
    models: ModelsConfig,
    *,
    seed: int,
    feature_names: Sequence[str],
    embargo_sessions: int,
    n_jobs: int = 1,
) -> Stacker:
    """Fit the stacker of an ensemble.

    Parameters
    ----------
    features : ndarray of float32, shape (n, f)
    target : ndarray of float64, shape (n,)
    t0, t1 : ndarray of datetime64, shape (n,)
        Label intervals: the inner split purges by them.
    models : ModelsConfig
    seed : int
        The same as that of the base learners.
    feature_names : sequence of str
    embargo_sessions : int
        Of the inner split.
    n_jobs : int, default 1
        Folds fitted at the same time; the result does not depend on it.

    Raises
    ------
    ModelError
        When an inner fold has nothing to train on.
    """
    predictions = out_of_fold_predictions(
        features, target, t0, t1, models,
        seed=seed, feature_names=feature_names, embargo_sessions=embargo_sessions, n_jobs=n_jobs,
    )  # fmt: skip
    return ridge_stacker(predictions, target, models.learners, models.stacker.ridge_alpha)


def ridge_stacker(
    predictions: NDArray[np.float64], target: NDArray[np.float64], learners: Sequence[str], alpha: float
) -> Stacker:
    """Ridge of the target on standardised predictions, in closed form: ``(Z'Z + alpha I) w = Z'(y - mean y)``.

    A learner whose predictions do not vary gets coefficient 0. Sums are numpy's pairwise sums instead of BLAS
    products, whose bits depend on the number of threads.
    """
    centre = predictions.mean(axis=0)
    spread = predictions.std(axis=0)
    # A constant column's computed deviation is rounding noise, not zero.
    varies = spread > 1e-12 * np.maximum(np.abs(centre), np.finfo(np.float64).tiny)
    scale = np.where(varies, spread, 1.0)
    standard = np.where(varies, (predictions - centre) / scale, 0.0)
    outcome = target - target.mean()
    n = predictions.shape[1]
    gram = np.array([[float((standard[:, i] * standard[:, j]).sum()) for j in range(n)] for i in range(n)])
    moment = np.array([float((standard[:, i] * outcome).sum()) for i in range(n)])
    # alpha may be 0 and two learners may agree everywhere: least squares has an answer then too.
    weight = np.linalg.lstsq(gram + alpha * np.eye(n), moment, rcond=None)[0]
    coefficients = np.where(varies, weight / scale, 0.0)
    intercept = float(target.mean() - (coefficients * centre).sum())
    return Stacker(
        tuple(learners),
        tuple(float(c) for c in coefficients),
        intercept,
        tuple(float(s) for s in np.where(varies, spread, 0.0)),
    )


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
