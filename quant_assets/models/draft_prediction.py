"""Draft predictions: the paths of the base learners alone, for a first look at a configuration.

No stacker, so nothing is fitted in inner folds: that is two thirds of a split's fits. Bins are found once for all
splits. Scores are of the same rows on the same paths as those of `quant_assets.models.cross_prediction.cross_predict`
and no evidence about a candidate: it has a stacker, and other bins.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.common.settings import ModelsConfig, ValidationConfig
from quant_assets.models.cross_prediction import Columns, Progress, predicted_paths
from quant_assets.models.fitting import fit_base
from quant_assets.models.kept_fits import NOTHING_KEPT, FitStore, Floats
from quant_assets.models.training_arrays import TrainingArrays

DRAFT = "draft"
# Of this many training rows, evenly chosen, the level and the spread of a learner's predictions are taken.
SCALE_ROWS = 20_000


def draft_predict(
    frame: pl.DataFrame,
    feature_names: Sequence[str],
    models: ModelsConfig,
    validation: ValidationConfig,
    *,
    seed: int,
    scored: pl.DataFrame | None = None,
    n_jobs: int | None = None,
    progress: Progress | None = None,
    fits: FitStore = NOTHING_KEPT,
) -> pl.DataFrame:
    """Draft scores of every row on every path: the mean of the learners' standardised predictions.

    Parameters
    ----------
    frame, feature_names, models, validation, seed, scored, n_jobs, progress, fits
        As for `quant_assets.models.cross_prediction.cross_predict`. ``models.stacker`` and ``models.binning`` shape
        nothing.

    Returns
    -------
    polars.DataFrame
        ``symbol, session, path_0 ... path_{P-1}`` (Float64), in spreads of the learners' predictions of training
        rows: 0 is their mean.

    Raises
    ------
    ModelError
        When a split has nothing to train on.
    """
    return predicted_paths(
        frame, feature_names, models.model_copy(update={"binning": "shared"}), validation, draft_split, (DRAFT,),
        seed=seed, scored=scored, n_jobs=n_jobs, progress=progress, fits=fits,
    )  # fmt: skip


def draft_split(
    train: TrainingArrays,
    unseen: NDArray[np.float32],
    models: ModelsConfig,
    known: Columns,
    *,
    seed: int,
    feature_names: Sequence[str],
    embargo_sessions: int,
) -> tuple[Floats, Columns]:
    """The draft scores of a split, and each learner's standardised predictions: only what is not known is fitted.

    Levels and spreads are those of training rows: tested ones shape no score but their own.
    """
    columns = dict(known)
    every = max(1, len(train.features) // SCALE_ROWS)
    for name in models.learners:
        if (DRAFT, name) in columns:
            continue
        learner = fit_base(
            name, train, models, seed=seed, feature_names=feature_names, embargo_sessions=embargo_sessions
        )
        seen, predicted = learner.predict(train.features[::every]), learner.predict(unseen)
        spread = float(seen.std())
        # A learner that says the same of every row has nothing to add.
        columns[DRAFT, name] = (predicted - seen.mean()) / spread if spread > 0 else np.zeros(len(predicted))
    scores = np.column_stack([columns[DRAFT, name] for name in models.learners]).mean(axis=1)
    scores[~np.isfinite(unseen).all(axis=1)] = np.nan
    return scores, columns
