"""Purged folds inside the training rows, for whatever is chosen or fitted on held-out predictions."""

import numpy as np
from numpy.typing import NDArray

from quant_assets.common.errors import ModelError
from quant_assets.models.training_arrays import TrainingArrays

Fold = tuple[NDArray[np.int64], NDArray[np.int64]]


def inner_folds(data: TrainingArrays, n_folds: int, embargo_sessions: int, *, setting: str) -> list[Fold]:
    """Training and held-out rows of each purged fold.

    Parameters
    ----------
    data : TrainingArrays
    n_folds, embargo_sessions : int
    setting : str
        The setting that says ``n_folds``, for the error.

    Raises
    ------
    ModelError
        When a fold has nothing to train on.
    """
    from quant_assets.validation.cpcv import PurgedKFold

    folds = list(PurgedKFold(n_folds, embargo=embargo_sessions).split(data.t0, data.t1))
    for number, (train, _) in enumerate(folds):
        if not len(train):
            raise ModelError(
                f"inner fold {number + 1} of {len(folds)}",
                expected="rows to train on after purge and embargo",
                found=f"none of {len(data.target)}",
                action=f"lower {setting} or validation.embargo_sessions, or train on more sessions",
            )
    return folds
