"""Shadow features: a copy of each feature that belongs to another time and name, so that it knows nothing.

Kursa and Rudnicki (2010), *Feature Selection with the Boruta Package*. Theirs are shuffled row by row; a feature that
lasts for months then competes with noise that does not, and earns more in training for its persistence alone. Here
the whole history is moved, so a shadow lasts as long as its feature.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from quant_assets.common.settings import ModelsConfig
from quant_assets.models.fitting import fit_base
from quant_assets.models.training_arrays import TrainingArrays
from quant_assets.validation.importance.out_of_sample import Fold, Rows
from quant_assets.validation.importance.sessions import CrossSections
from quant_assets.validation.importance.shap_values import ensemble_contributions


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
