"""The members of an ensemble called one after another by the fastest way that their libraries have for one row."""

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant_assets.common.errors import ArtifactError
from quant_assets.models.ensemble import Ensemble
from quant_assets.models.learners import FittedLearner

# LightGBM's C API: C_API_DTYPE_FLOAT32, C_API_PREDICT_RAW_SCORE.
_FLOAT32, _RAW_SCORE = 0, 1


def single_row_scorer(ensemble: Ensemble) -> Callable[[NDArray[np.float32]], NDArray[np.float64]]:
    """Scores of matrices of one row.

    LightGBM by ``LGBM_BoosterPredictForMatSingleRowFast``, which its Python package does not wrap; XGBoost by
    ``inplace_predict``; CatBoost as always. Sums in the stacker's order, so the bits are those of
    `Ensemble.predict`.
    """
    members = [_member(learner) for learner in ensemble.learners]
    intercept, coefficients = ensemble.stacker.intercept, ensemble.stacker.coefficients

    def score(features: NDArray[np.float32]) -> NDArray[np.float64]:
        if not np.isfinite(features).all():
            return np.array([np.nan])
        total = intercept
        for coefficient, member in zip(coefficients, members, strict=True):
            total += coefficient * member(features)
        return np.array([total])

    return score


def _member(learner: FittedLearner) -> Callable[[NDArray[np.float32]], float]:
    match learner.name:
        case "lightgbm":
            return _LightGBMRow(learner)
        case "xgboost":
            from quant_assets.models.xgboost_learner import load

            booster = load(learner.text)
            return lambda row: float(
                booster.inplace_predict(row, predict_type="margin", validate_features=False)[0]
            )
        case _:
            return lambda row: float(learner.predict(row)[0])


class _LightGBMRow:
    def __init__(self, learner: FittedLearner) -> None:
        import lightgbm

        from quant_assets.models.lightgbm_learner import load

        self._configuration = ctypes.c_void_p()
        self._library = lightgbm.basic._LIB  # type: ignore[attr-defined]
        self._booster = load(learner.text)  # keeps the handle alive
        width = len(learner.feature_names)
        self._row = np.zeros(width, dtype=np.float32)
        self._length, self._result = ctypes.c_int64(), ctypes.c_double()
        code = self._library.LGBM_BoosterPredictForMatSingleRowFastInit(
            self._booster._handle, _RAW_SCORE, 0, -1, _FLOAT32, ctypes.c_int32(width),
            ctypes.c_char_p(b"num_threads=1"), ctypes.byref(self._configuration),
        )  # fmt: skip
        self._check(code)
        self._arguments = (
            self._configuration,
            ctypes.c_void_p(self._row.ctypes.data),
            ctypes.byref(self._length),
            ctypes.byref(self._result),
        )
        self._predict: Any = self._library.LGBM_BoosterPredictForMatSingleRowFast

    def __call__(self, row: NDArray[np.float32]) -> float:
        self._row[:] = row[0]
        self._check(self._predict(*self._arguments))
        return self._result.value

    def __del__(self) -> None:
        if self._configuration:
            self._library.LGBM_FastConfigFree(self._configuration)

    @staticmethod
    def _check(code: int) -> None:
        if code != 0:
            raise ArtifactError(
                "LightGBM's single-row prediction",
                expected="return code 0",
                found=str(code),
                action="score through the ONNX graph, and report the versions of the libraries",
            )
