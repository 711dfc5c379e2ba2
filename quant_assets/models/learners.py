"""Base learners behind one face: fit on one thread, keep the text, predict from the text.

The text *is* the model: LightGBM's own format, XGBoost's and CatBoost's JSON, of any other learner its ONNX graph,
never a pickle. A learner that was just fitted and one that was read back are the same object.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from quant_assets.common.errors import ModelError, closest
from quant_assets.common.model_settings import Device, LabelKind, label_kind_of
from quant_assets.common.settings import CatBoostConfig, LightGBMConfig, XGBoostConfig
from quant_assets.models.training_arrays import BinnedRows, Samples, check_classes, check_matrix, check_target
from quant_assets.models.trees import Tree

LearnerConfig = LightGBMConfig | XGBoostConfig | CatBoostConfig
# Of a learner of the desk's own, which is a graph already.
GRAPH_OBJECTIVES = ("graph:number", "graph:class")
Config_contra = TypeVar("Config_contra", bound=LearnerConfig, contravariant=True)


class Library(Protocol[Config_contra]):
    """What a module ``<name>_learner`` is: one library's fit, and its text as the model.

    A booster is the library's own object: it comes from `load` and goes to `predict`, and nobody else looks inside.
    """

    def fit(
        self,
        config: Config_contra,
        rows: Samples,
        seed: int,
        feature_names: Sequence[str],
        device: Device,
    ) -> str:
        """Fit on one thread (of the CPU) and give the model as text."""

    def losses(
        self,
        config: Config_contra,
        rows: Samples,
        unseen: Samples,
        seed: int,
        feature_names: Sequence[str],
        device: Device,
    ) -> list[float]:
        """The objective's loss on unseen rows after each tree of the same fit."""

    def load(self, text: str) -> Any:
        """A booster from its text, on one thread."""

    def predict(self, booster: Any, features: NDArray[np.float32], /) -> NDArray[np.float64]:
        """Sums of every tree: returns, or log-odds for a classification."""

    def check(self, text: str, objectives: Sequence[str]) -> None:
        """Refuse a text that is damaged, or whose conversion to ONNX is not known to be exact."""

    def objective(self, text: str) -> str:
        """Name of the objective."""

    def feature_names(self, text: str) -> tuple[str, ...]:
        """Names of the features, in model order."""

    def margin_text(self, text: str) -> str:
        """The same trees as a regression, whose output is their sum."""

    def gains(self, text: str) -> NDArray[np.float64]:
        """What every feature's splits gained in all."""

    def trees(self, text: str) -> tuple[Tree, ...]:
        """Every tree's split nodes."""


class GraphLibrary(Protocol):
    """What of a `Library` a learner has whose text is a graph: `quant_assets.models.graph_learner`."""

    def load(self, text: str) -> Any:
        """A session from its text."""

    def predict(self, booster: Any, features: NDArray[np.float32], /) -> NDArray[np.float64]:
        """Scores of the graph."""

    def check(self, text: str, objectives: Sequence[str]) -> None:
        """Refuse a text that is damaged."""

    def objective(self, text: str) -> str:
        """Name of the objective."""

    def feature_names(self, text: str) -> tuple[str, ...]:
        """Names of the features, in model order."""

    def gains(self, text: str) -> NDArray[np.float64]:
        """Zeros."""

    def trees(self, text: str) -> tuple[Tree, ...]:
        """None."""


# Bound by name in the code, so that types are checked and whoever reads imports sees them; loaded at first use.
def _lightgbm() -> Library[LightGBMConfig]:
    from quant_assets.models import lightgbm_learner

    return lightgbm_learner


def _xgboost() -> Library[XGBoostConfig]:
    from quant_assets.models import xgboost_learner

    return xgboost_learner


def _catboost() -> Library[CatBoostConfig]:
    from quant_assets.models import catboost_learner

    return catboost_learner


_LIBRARIES: dict[str, tuple[type[LearnerConfig], Callable[[], Library[Any]]]] = {
    "lightgbm": (LightGBMConfig, _lightgbm),
    "xgboost": (XGBoostConfig, _xgboost),
    "catboost": (CatBoostConfig, _catboost),
}


def objectives(name: str) -> tuple[str, ...]:
    """Objectives whose conversion to ONNX is exact: those that the settings can say, and no others."""
    return tuple(get_args(_config_type(name).model_fields["objective"].annotation))


@dataclass(frozen=True)
class FittedLearner:
    """One fitted base learner.

    Attributes
    ----------
    name : str
        ``lightgbm``, ``xgboost``, ``catboost``, or that of a learner of the desk's own.
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
        return _library_of(self.name, self.text).load(self.text)

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
        return _library_of(self.name, self.text).predict(self._booster, np.ascontiguousarray(features))

    @property
    def label_kind(self) -> LabelKind:
        """What it was fitted to, by its objective."""
        return label_kind_of(_library_of(self.name, self.text).objective(self.text))

    @property
    def margin_text(self) -> str:
        """The same trees as a regression, whose output is what `predict` returns: the text to convert.

        Raises
        ------
        ModelError
            For a learner that is no library of trees: its text is its graph.
        """
        return _bound(self.name)[1]().margin_text(self.text)

    @property
    def research_only(self) -> str:
        """Why nothing of it may be promoted; empty when it may."""
        from quant_assets.models import graph_learner

        return graph_learner.document_of(self.text).research_only if self.name not in _LIBRARIES else ""

    def to_text(self) -> str:
        """The model as text (LightGBM's own format, or JSON)."""
        return self.text

    def importance(self) -> dict[str, float]:
        """Share of the total split gain that each feature earned; shares sum to 1.

        All shares are 0 when not one tree split, and of a learner that is no library of trees. For CatBoost, which
        stores no gains, the measure is its
        PredictionValuesChange.
        """
        gains = _library_of(self.name, self.text).gains(self.text)
        total = float(gains.sum())
        shares = gains / total if total > 0 else np.zeros(len(gains))
        return {name: float(share) for name, share in zip(self.feature_names, shares, strict=True)}

    def trees(self) -> tuple[Tree, ...]:
        """Split nodes of every tree."""
        return _library_of(self.name, self.text).trees(self.text)


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
    session: NDArray[Any] | None = None,
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
    session : ndarray, shape (n,), optional
        Decision time of each row; an objective of ranking needs it.
    device : {"cpu", "cuda"}

    Raises
    ------
    ModelError
        For an unknown learner, a configuration of another one, an objective outside the whitelist, input that
        is not finite and of matching shape, classes other than 0 and 1, or a device that is not there.
    """
    rows = Samples(features, target, weights, binned, session)
    _check_fit(name, config, rows, feature_names)
    text = _bound(name)[1]().fit(config, rows, seed, tuple(feature_names), device)
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
    losses = _bound(name)[1]().losses(config, rows, unseen, seed, tuple(feature_names), device)
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
        When the text is damaged, or holds a model whose conversion is not known to be exact; also for a name that is
        none of ours with a text that is no graph.
    """
    library = _library_of(name, text)
    library.check(text, objectives(name) if name in _LIBRARIES else GRAPH_OBJECTIVES)
    return FittedLearner(name, text, library.feature_names(text))


def _config_type(name: str) -> type[LearnerConfig]:
    return _bound(name)[0]


def _library_of(name: str, text: str) -> "Library[Any] | GraphLibrary":
    """The library of a name; what it is given to fit has been held against the type of its own configuration."""
    from quant_assets.models import graph_learner

    if name not in _LIBRARIES and graph_learner.is_document(text):
        return graph_learner
    return _bound(name)[1]()


def _bound(name: str) -> tuple[type[LearnerConfig], Callable[[], Library[Any]]]:
    if name not in _LIBRARIES:
        raise ModelError(
            f"learner {name!r}",
            expected=f"one of {', '.join(_LIBRARIES)}",
            found=repr(name),
            action=closest(name, _LIBRARIES) or "correct the name",
        )
    return _LIBRARIES[name]
