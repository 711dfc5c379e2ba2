"""Base learners behind one face: fit on one thread, keep the text, predict from the text.

The text *is* the model: LightGBM's own format, XGBoost's and CatBoost's JSON, never a pickle. A learner that
was just fitted and one that was read back are the same object.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from types import ModuleType
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from quant_assets.common.errors import ModelError
from quant_assets.common.model_settings import Device, LabelKind, label_kind_of
from quant_assets.common.settings import CatBoostConfig, LightGBMConfig, XGBoostConfig
from quant_assets.models.shared_bins import BinnedRows
from quant_assets.models.training_arrays import Samples, check_classes, check_matrix, check_target
from quant_assets.models.trees import Tree

LearnerConfig = LightGBMConfig | XGBoostConfig | CatBoostConfig

_CONFIGS: dict[str, type[LightGBMConfig] | type[XGBoostConfig] | type[CatBoostConfig]] = {
    "lightgbm": LightGBMConfig,
    "xgboost": XGBoostConfig,
    "catboost": CatBoostConfig,
}


def objectives(name: str) -> tuple[str, ...]:
    """Objectives whose conversion to ONNX is exact: those that the settings can say, and no others."""
    return tuple(get_args(_config_type(name).model_fields["objective"].annotation))


@dataclass(frozen=True)
class FittedLearner:
    """One fitted base learner.

    Attributes
    ----------
    name : {"lightgbm", "xgboost", "catboost"}
    text : str
        The model. Everything else is derived from it.
    feature_names : tuple of str
        Inputs, in order.
    """

    name: str
    text: str
    feature_names: tuple[str, ...]

    @cached_property
    def _booster(self) -> Any:
        return _library_of(self.name).load(self.text)

    def predict(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Predictions of the library itself.

        Parameters
        ----------
        features : ndarray of float32, shape (n, f)

        Returns
        -------
        ndarray of float64, shape (n,)
            Expected forward return, a fraction; log-odds of the direction for a classification.

        Raises
        ------
        ModelError
            When the matrix is not float32 or not as wide as the model.
        """
        if features.ndim != 2 or features.dtype != np.float32 or features.shape[1] != len(self.feature_names):
            raise ModelError(
                f"input of learner {self.name!r}",
                expected=f"float32 of shape (n, {len(self.feature_names)})",
                found=f"{features.dtype} of shape {features.shape}",
                action="select the model's features in order and cast them to float32",
            )
        if not len(features):
            return np.empty(0)
        predicted: NDArray[np.float64] = _library_of(self.name).predict(
            self._booster, np.ascontiguousarray(features)
        )
        return predicted

    @property
    def label_kind(self) -> LabelKind:
        """What it was fitted to, by its objective."""
        return label_kind_of(_library_of(self.name).objective(self.text))

    @property
    def margin_text(self) -> str:
        """The same trees as a regression, whose output is what `predict` returns: the text to convert."""
        text: str = _library_of(self.name).margin_text(self.text)
        return text

    def to_text(self) -> str:
        """The model as text (LightGBM's own format, or JSON)."""
        return self.text

    def importance(self) -> dict[str, float]:
        """Share of the total split gain that each feature earned; shares sum to 1.

        All shares are 0 when not one tree split. For CatBoost, which stores no gains, the measure is its
        PredictionValuesChange.
        """
        gains = _library_of(self.name).gains(self.text)
        total = float(gains.sum())
        shares = gains / total if total > 0 else np.zeros(len(gains))
        return {name: float(share) for name, share in zip(self.feature_names, shares, strict=True)}

    def trees(self) -> tuple[Tree, ...]:
        """Split nodes of every tree."""
        found: tuple[Tree, ...] = _library_of(self.name).trees(self.text)
        return found


def fit_learner(
    name: str,
    config: LearnerConfig,
    features: NDArray[np.float32],
    target: NDArray[np.float64],
    *,
    seed: int,
    feature_names: Sequence[str],
    weights: NDArray[np.float64] | None = None,
    binned: BinnedRows | None = None,
    device: Device = "cpu",
) -> FittedLearner:
    """Fit one base learner. On the CPU: same input, same text, bit for bit, whatever runs beside it.

    Parameters
    ----------
    name : {"lightgbm", "xgboost", "catboost"}
    config : LightGBMConfig, XGBoostConfig or CatBoostConfig
        Of the same library as ``name``.
    features : ndarray of float32, shape (n, f)
        Finite.
    target : ndarray of float64, shape (n,)
        Forward return, a fraction; 0 or 1 for a classification objective.
    seed : int
        Of bagging and feature sampling.
    feature_names : sequence of str
        f names, in column order.
    weights : ndarray of float64, shape (n,), optional
        Sample weights, finite and not negative.
    binned : BinnedRows, optional
        The same rows in a matrix with shared bins; bins come from ``features`` alone when not given.
    device : {"cpu", "cuda"}

    Raises
    ------
    ModelError
        For an unknown learner, a configuration of another one, an objective outside the whitelist, input that
        is not finite and of matching shape, classes other than 0 and 1, or a device that is not there.
    """
    rows = Samples(features, target, weights, binned)
    _check_fit(name, config, rows, feature_names)
    text = _library_of(name).fit(config, rows, seed, tuple(feature_names), device)
    return from_text(name, text)


def learning_curve(
    name: str,
    config: LearnerConfig,
    rows: Samples,
    unseen: Samples,
    *,
    seed: int,
    feature_names: Sequence[str],
    device: Device = "cpu",
) -> NDArray[np.float64]:
    """Loss on unseen rows after each tree of the fit that `fit_learner` makes of ``rows``.

    Returns
    -------
    ndarray of float64, shape (n_estimators,)
        The objective's own loss, weighted by ``unseen.weights``: root mean squared or squared error, Huber's loss,
        or mean negative log-likelihood.

    Raises
    ------
    ModelError
        As `fit_learner`; also for a loss that is not finite.
    """
    _check_fit(name, config, rows, feature_names)
    check_matrix(unseen.features, feature_names)
    check_target(unseen.target, len(unseen.features))
    losses = _library_of(name).losses(config, rows, unseen, seed, tuple(feature_names), device)
    curve = np.asarray(losses, dtype=np.float64)
    if curve.shape != (config.n_estimators,) or not np.isfinite(curve).all():
        raise ModelError(
            f"learning curve of {name!r}",
            expected=f"{config.n_estimators} finite losses, one after each tree",
            found=f"{len(curve)} losses, {int((~np.isfinite(curve)).sum())} of them not finite",
            action="lower the learning rate, or fit without models.early_stopping",
        )
    return curve


def _check_fit(name: str, config: LearnerConfig, rows: Samples, feature_names: Sequence[str]) -> None:
    expected = _config_type(name)
    if not isinstance(config, expected):
        raise ModelError(
            f"configuration of learner {name!r}",
            expected=expected.__name__,
            found=type(config).__name__,
            action=f"configure models.{name} in the strategy",
        )
    if config.objective not in objectives(name):
        raise ModelError(
            f"objective of learner {name!r}",
            expected=f"one that converts exactly: {', '.join(objectives(name))}",
            found=repr(config.objective),
            action=f"correct models.{name}.objective in the strategy",
        )
    target, weights = rows.target, rows.weights
    check_matrix(rows.features, feature_names)
    check_target(target, len(rows.features))
    if label_kind_of(config.objective) == "direction":
        check_classes(target)
    if weights is not None and (weights.shape != target.shape or not bool(np.all(weights >= 0))):
        raise ModelError(
            "sample weights",
            expected=f"shape {target.shape}, every weight finite and >= 0",
            found=f"shape {weights.shape}, minimum {np.min(weights, initial=np.inf)}",
            action="pass the weights of the same training set",
        )


def from_text(name: str, text: str) -> FittedLearner:
    """Read a learner back from its text.

    Raises
    ------
    ModelError
        When the text is damaged, or holds a model whose conversion is not known to be exact.
    """
    library = _library_of(name)
    library.check(text, objectives(name))
    return FittedLearner(name, text, library.feature_names(text))


def _config_type(name: str) -> type[LightGBMConfig] | type[XGBoostConfig] | type[CatBoostConfig]:
    if name not in _CONFIGS:
        raise ModelError(
            f"learner {name!r}",
            expected=f"one of {', '.join(_CONFIGS)}",
            found=repr(name),
            action="correct the name",
        )
    return _CONFIGS[name]


def _library_of(name: str) -> ModuleType:
    _config_type(name)
    return import_module(f"quant_assets.models.{name}_learner")
