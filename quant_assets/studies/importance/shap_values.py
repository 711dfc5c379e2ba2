"""Exact SHAP values of the ensemble by the libraries' own TreeSHAP, and what shadow features and noise earn."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quant_assets.common.settings import ModelsConfig
from quant_assets.models import catboost_learner, lightgbm_learner, xgboost_learner
from quant_assets.models.fitting import fit_base
from quant_assets.models.learners import FittedLearner
from quant_assets.models.stacking import Stacker
from quant_assets.models.training_arrays import TrainingArrays
from quant_assets.studies.importance.out_of_sample import Fold, Rows
from quant_assets.studies.importance.sampling import CrossSections

# --------------------------------------------------------------------------------------------------
# Exact SHAP values of the ensemble, by the libraries' own TreeSHAP, and what noise earns of them.
#
# Lundberg, Erion and Lee (2018), *Consistent Individualized Feature Attribution for Tree Ensembles*, algorithm 2
# (path-dependent). A linear stacker of trees has the same linear combination of their SHAP values.


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


# --------------------------------------------------------------------------------------------------
# Shadow features: a copy of each feature that belongs to another time and name, so that it knows nothing.
#
# Kursa and Rudnicki (2010), *Feature Selection with the Boruta Package*. Theirs are shuffled row by row; a feature
# that lasts for months then competes with noise that does not, and earns more in training for its persistence
# alone. Here the whole history is moved, so a shadow lasts as long as its feature.


def shadow_rows(sessions: CrossSections, generator: np.random.Generator) -> NDArray[np.int64]:
    """For each row, the row that its shadow is read from: a quarter to three quarters of the sessions away.

    Rows are in time order, and within a session in the order of their names. The name is another one too, where
    a session has several: the k-th takes the value of the (k + r)-th of the other session.
    """
    n = sessions.n_sessions
    starts = np.concatenate(([0], np.cumsum(sessions.sizes)))
    shift = int(generator.integers(n // 4, max(3 * n // 4, n // 4 + 1)))
    other = (sessions.number + shift) % n
    place = np.arange(len(sessions.number)) - starts[sessions.number]
    turn = int(generator.integers(1, max(int(sessions.sizes.max()), 2)))
    rows: NDArray[np.int64] = starts[other] + (place + turn) % sessions.sizes[other]
    return rows


def shadow_shap(
    rows: Rows,
    folds: Sequence[Fold],
    explained: Sequence[NDArray[np.int64]],
    models: ModelsConfig,
    *,
    seed: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean absolute SHAP value of each feature and each shadow, in members refitted with both side by side.

    Parameters
    ----------
    rows : Rows
    folds : sequence of Fold
        Stackers are theirs.
    explained : sequence of ndarray
        By fold, the test rows to explain.
    models : ModelsConfig
    seed : int

    Returns
    -------
    features, shadows : ndarray of float64, shape (f,)
        From one fit: in the ensemble itself noise has half as many rivals, and would look better than a shadow.
    """
    sessions = CrossSections(rows.sessions)
    generator = np.random.default_rng([seed, 1])
    data, width = rows.arrays, len(rows.feature_names)
    shadows = np.column_stack(
        [data.features[shadow_rows(sessions, generator), column] for column in range(width)]
    )
    both = np.ascontiguousarray(np.hstack([data.features, shadows]))
    names = [*rows.feature_names, *(f"shadow_{column}" for column in range(width))]
    wide = TrainingArrays(both, data.target, data.t0, data.t1, data.symbol)
    total, count = np.zeros(2 * width), 0
    for fold, unseen in zip(folds, explained, strict=True):
        train = wide.take(fold.train)
        members = [
            fit_base(name, train, models, seed=seed, feature_names=names, embargo_sessions=rows.embargo)
            for name in models.learners
        ]
        values = ensemble_contributions(members, fold.stacker, both[unseen]).values
        total += np.abs(values).sum(axis=0)
        count += len(unseen)
    return total[:width] / count, total[width:] / count
