"""Exact SHAP values of the ensemble, by the libraries' own TreeSHAP, and what noise earns of them.

Lundberg, Erion and Lee (2018), *Consistent Individualized Feature Attribution for Tree Ensembles*, algorithm 2
(path-dependent). A linear stacker of trees has the same linear combination of their SHAP values.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quant_assets.models import catboost_learner, lightgbm_learner, xgboost_learner
from quant_assets.models.learners import FittedLearner
from quant_assets.models.stacking import Stacker


@dataclass(frozen=True, eq=False)
class ShapValues:
    """SHAP values of some rows.

    Attributes
    ----------
    values : ndarray of float64, shape (n, f)
        In the unit of the scores; ``base + values.sum(axis=1)`` is the score.
    base : ndarray of float64, shape (n,)
        What a row scores before anything is known about it; one number per fitted ensemble.
    features : ndarray of float32, shape (n, f)
    """

    values: NDArray[np.float64]
    base: NDArray[np.float64]
    features: NDArray[np.float32]

    @property
    def mean_absolute(self) -> NDArray[np.float64]:
        """Mean absolute SHAP value of each feature, shape (f,)."""
        return np.asarray(np.abs(self.values).mean(axis=0))


def learner_contributions(
    learner: FittedLearner, features: NDArray[np.float32]
) -> tuple[NDArray[np.float64], float]:
    """SHAP values of one learner and their base value, by the library that grew it.

    Parameters
    ----------
    learner : FittedLearner
    features : ndarray of float32, shape (n, f), n > 0

    Returns
    -------
    values : ndarray of float64, shape (n, f)
        Expected return, or log-odds for a classification.
    base : float
    """
    explained = {"lightgbm": _lightgbm, "xgboost": _xgboost, "catboost": _catboost}[learner.name]
    contributions = np.asarray(explained(learner.text, np.ascontiguousarray(features)), dtype=np.float64)
    return contributions[:, :-1], float(contributions[0, -1])


def ensemble_contributions(
    members: Sequence[FittedLearner], stacker: Stacker, features: NDArray[np.float32]
) -> ShapValues:
    """SHAP values of a stacked ensemble: those of its members, weighted by the stacker's coefficients."""
    values = np.zeros(features.shape)
    base = stacker.intercept
    for member, coefficient in zip(members, stacker.coefficients, strict=True):
        part, level = learner_contributions(member, features)
        values += coefficient * part
        base += coefficient * level
    return ShapValues(values, np.full(len(features), base), features)


def joined(parts: Sequence[ShapValues]) -> ShapValues:
    """SHAP values of several folds as one table."""
    return ShapValues(
        np.concatenate([p.values for p in parts]),
        np.concatenate([p.base for p in parts]),
        np.concatenate([p.features for p in parts]),
    )


def _lightgbm(text: str, features: NDArray[np.float32]) -> NDArray[np.float64]:
    booster = lightgbm_learner.load(text)
    values: NDArray[np.float64] = booster.predict(features, pred_contrib=True, num_threads=1)
    return values


def _xgboost(text: str, features: NDArray[np.float32]) -> NDArray[np.float64]:
    import xgboost

    booster = xgboost_learner.load(text)
    names = [f"f{column}" for column in range(features.shape[1])]
    rows = xgboost.DMatrix(features, feature_names=names, nthread=1)
    values: NDArray[np.float64] = booster.predict(rows, pred_contribs=True, validate_features=False)
    return values


def _catboost(text: str, features: NDArray[np.float32]) -> NDArray[np.float64]:
    import catboost

    values: NDArray[np.float64] = catboost_learner.load(text).get_feature_importance(
        catboost.Pool(features, thread_count=1), type="ShapValues", thread_count=1
    )
    return values
