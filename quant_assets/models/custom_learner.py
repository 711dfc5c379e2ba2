"""Learners of a desk's own: a scikit-learn estimator, or anything whose fit returns an ONNX graph.

Each fit builds the object anew from its options, sets its seed and one thread, fits it to the rows given and to no
others, and turns it into a graph. The object itself is dropped: nothing of it reaches the next fit, nor a file.
"""

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from quant_assets.common.errors import ArtifactError, ModelError
from quant_assets.common.model_settings import CustomLearnerConfig
from quant_assets.models.conversion import (
    Agreement,
    Output,
    Reach,
    checked_network,
    compared,
    converted,
    gives_odds,
    graph_bytes,
    native_scores,
    require_agreement,
    require_independent_rows,
    run_graph,
)
from quant_assets.models.conversion import agreement as agreement_of
from quant_assets.models.graph_learner import GraphDocument
from quant_assets.models.learners import FittedLearner
from quant_assets.models.training_arrays import Samples, check_classes, check_matrix, check_target


@runtime_checkable
class Network(Protocol):
    """A learner that writes its own graph."""

    def fit(
        self,
        features: NDArray[np.float32],
        target: NDArray[np.float64],
        weights: NDArray[np.float64] | None,
        seed: int,
        /,
    ) -> bytes:
        """Fit, and give the model as ONNX: float32 (N, f) to one float32 a row.

        Parameters
        ----------
        features : ndarray of float32, shape (n, f)
        target : ndarray of float64, shape (n,)
            What is learnt: a number, or class 0 or 1, of which the score is the log-odds.
        weights : ndarray of float64, shape (n,), or None
            Of mean 1.
        seed : int
            For a generator of its own; numpy's global one is shared with the fits beside it.
        """


@dataclass(frozen=True)
class UnexportedLearner(FittedLearner):
    """A fitted learner that has no graph that agrees with it: it predicts in this process and is stored nowhere."""

    estimator: Any = field(default=None, compare=False, repr=False)

    def predict(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Predictions of the estimator itself, of features held inside of what it was fitted to."""
        if not len(features):
            return np.empty(0)
        with one_thread():
            return native_scores(self.estimator.fitted, self.estimator.reach.held(features))


@dataclass(frozen=True)
class _Native:
    fitted: Any
    reach: Reach


@dataclass(frozen=True)
class CustomFit:
    """One fit of a custom learner.

    Attributes
    ----------
    learner : FittedLearner
    agreement : Agreement or None
        Of the model with its graph; None where there is no graph.
    weights_taken : bool
        Whether the fit was given sample weights.
    """

    learner: FittedLearner
    agreement: Agreement | None
    weights_taken: bool


def built(name: str, config: CustomLearnerConfig) -> Any:
    """The unfitted object that a plug-in gives for its options.

    Raises
    ------
    ModelError
        When it fails, or gives neither an estimator of what the strategy says nor an object with such a ``fit``.
    """
    make = config.load("a learner")
    try:
        found = make(**config.options)
    except Exception as error:  # a desk's function may raise anything
        raise _refused(name, "an unfitted learner", f"{type(error).__name__}: {error}") from error
    classifies = hasattr(found, "predict_proba")
    if is_estimator(found):
        if classifies != (config.target == "class"):
            wanted = "a classifier with predict_proba" if config.target == "class" else "a regressor"
            raise _refused(
                name, f"{wanted}, as models.custom.{name}.target: {config.target} says", repr(found)
            )
        if _is_fitted(found):
            raise _refused(name, "an unfitted estimator, built anew by each call", "one that is fitted")
    elif not isinstance(found, Network):
        raise _refused(
            name,
            "a scikit-learn estimator, or an object with fit(features, target, weights, seed) -> ONNX bytes",
            f"{type(found).__name__}",
        )
    return found


def is_estimator(found: Any) -> bool:
    """Whether an object is one of scikit-learn's, and not a network."""
    from sklearn.base import BaseEstimator

    return isinstance(found, BaseEstimator)


def _is_fitted(estimator: Any) -> bool:
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(estimator)
    except (NotFittedError, TypeError):
        return False
    # Of an estimator without any learned attribute nothing can be said.
    last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    return any(key.endswith("_") and not key.startswith("__") for key in vars(last))


def seeded(estimator: Any, seed: int) -> Any:
    """The same estimator with the seed and one job, in every part that has them."""
    parameters = estimator.get_params(deep=True)
    changed: dict[str, int] = {}
    for key, value in parameters.items():
        match key.rpartition("__")[2]:
            case "random_state":
                changed[key] = seed
            case "n_jobs" if value not in (None, 1):  # None is one job, and some only warn of another
                changed[key] = 1
    return estimator.set_params(**changed)


def fit_custom(
    name: str,
    config: CustomLearnerConfig,
    rows: Samples,
    *,
    seed: int,
    feature_names: Sequence[str],
    research_only: bool = False,
    most_rows: int = 2000,
) -> CustomFit:
    """Fit one learner of the desk's own, and compare it with its graph.

    Parameters
    ----------
    name : str
    config : CustomLearnerConfig
    rows : Samples
        Training rows of this fit.
    seed : int
    feature_names : sequence of str
    research_only : bool
        Whether it may do without a graph that agrees.
    most_rows : int
        Training rows on which the two are compared.

    Raises
    ------
    ModelError
        When it does not fit, gives scores that are not finite, or cannot be exported with parity though it has to.
    """
    check_matrix(rows.features, feature_names)
    check_target(rows.target, len(rows.features))
    if config.target == "class":
        check_classes(rows.target)
    reach = Reach.of(rows.features)
    learner = built(name, config)
    with one_thread():
        if is_estimator(learner):
            found = _fit_estimator(name, learner, config, rows, reach, seed, research_only, most_rows)
        else:
            found = _fit_network(name, learner, rows, reach, seed, most_rows)
    data, agreed, weighted, native, why = found
    document = GraphDocument(config.objective, tuple(feature_names), data, why)
    text = document.to_text()
    if native is not None:
        unexported = UnexportedLearner(name, text, tuple(feature_names), _Native(native, reach))
        return CustomFit(unexported, agreed, weighted)
    return CustomFit(FittedLearner(name, text, tuple(feature_names)), agreed, weighted)


_Found = tuple[bytes, Agreement | None, bool, Any, str]


def _fit_estimator(
    name: str,
    estimator: Any,
    config: CustomLearnerConfig,
    rows: Samples,
    reach: Reach,
    seed: int,
    research_only: bool,
    most_rows: int,
) -> _Found:
    estimator = seeded(estimator, seed)
    weights = _weights_of(estimator, rows.weights)
    target = rows.target.astype(np.int64) if config.target == "class" else rows.target
    try:
        estimator.fit(rows.features.copy(), target.copy(), **weights)
        some = native_scores(estimator, rows.features[:100])
    except Exception as error:  # an estimator of the desk's may raise anything
        raise _refused(name, "a fit to its training rows", f"{type(error).__name__}: {error}") from error
    if not np.isfinite(some).all():
        raise _refused(name, "finite predictions of its training rows", "some that are not")
    weighted = bool(weights)
    why = "marked for research only" if research_only else ""
    try:
        model = converted(estimator, rows.features.shape[1])
        data = graph_bytes(model, reach, _output(estimator))
        require_independent_rows(f"learner {name!r}", data, rows.features)
        agreed = compared(estimator, data, rows.features, reach, seed=seed, most_rows=most_rows)
        require_agreement(f"learner {name!r}", agreed)
    except (ArtifactError, ModelError) as error:
        if not research_only:
            raise _refused(name, error.expected, error.found, error.action) from error
        return b"", None, weighted, estimator, f"{why} ({error.what}: {error.found})"
    return data, agreed, weighted, None, why


def _output(estimator: Any) -> Output:
    if not hasattr(estimator, "predict_proba"):
        return "score"
    return "odds" if gives_odds(estimator) else "probabilities"


def _fit_network(
    name: str, network: Network, rows: Samples, reach: Reach, seed: int, most_rows: int
) -> _Found:
    weights = None if rows.weights is None else rows.weights.copy()
    try:
        returned = network.fit(rows.features.copy(), rows.target.copy(), weights, seed)
    except Exception as error:  # a network of the desk's may raise anything
        raise _refused(name, "a fit to its training rows", f"{type(error).__name__}: {error}") from error
    try:
        model = checked_network(returned)
        data = graph_bytes(model, reach, "score")
        some = rows.features[:: -(-len(rows.features) // most_rows)]
        native, ours = run_graph(returned, reach.held(some)), run_graph(data, some)
        if np.isfinite(native).all():
            require_independent_rows(f"learner {name!r}", data, rows.features)
    except (ArtifactError, ModelError) as error:
        raise _refused(name, error.expected, error.found, error.action) from error
    if not np.isfinite(native).all():
        raise _refused(name, "finite scores of its training rows", "some that are not")
    agreed = agreement_of(native, ours, float(native.std()))
    require_agreement(f"learner {name!r}", agreed)
    return data, agreed, rows.weights is not None, None, ""


def _weights_of(estimator: Any, weights: NDArray[np.float64] | None) -> dict[str, Any]:
    """The keyword under which a fit takes sample weights; of a Pipeline that of its last step."""
    from sklearn.utils.validation import has_fit_parameter

    if weights is None:
        return {}
    if hasattr(estimator, "steps"):
        last, step = estimator.steps[-1]
        return {f"{last}__sample_weight": weights.copy()} if has_fit_parameter(step, "sample_weight") else {}
    return {"sample_weight": weights.copy()} if has_fit_parameter(estimator, "sample_weight") else {}


def _refused(name: str, expected: str, found: str, action: str = "") -> ModelError:
    return ModelError(
        f"custom learner {name!r}",
        expected=expected,
        found=found,
        action=action or f"correct the function that models.custom.{name} names",
    )


# ------------------------------------------------------------------------------------------------------ one thread

_LIMITING = threading.RLock()
_limits: list[Any] = []
_inside = 0


@lru_cache(maxsize=1)
def _controller(imported: int) -> Any:
    """Of the libraries that are loaded now; looking for them takes 40 ms, and new ones come with new modules."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@contextmanager
def _in_control() -> Iterator[None]:
    """Let this thread set the limit of OpenBLAS: the first fit enters in one thread, the last leaves in another."""
    from threadpoolctl import OpenBLASController

    OpenBLASController.clear_controlling_thread(force=True)
    try:
        yield
    finally:
        OpenBLASController.clear_controlling_thread(force=True)


@contextmanager
def one_thread() -> Iterator[None]:
    """Run linear algebra and OpenMP loops on one thread: sums of several have no fixed order.

    The limit of a BLAS library holds for the whole process: the first fit sets it, the last to leave takes it back.
    That of OpenMP is each thread's own.
    """
    global _inside  # noqa: PLW0603 - of the process, as the limit is
    import sklearn.ensemble  # noqa: F401 - its libraries are to be among those that are limited

    controller = _controller(len(sys.modules))
    with _LIMITING:
        if _inside == 0:
            with _in_control():
                _limits.append(controller.limit(limits=1, user_api="blas"))
        _inside += 1
    try:
        with controller.select(user_api="openmp").limit(limits=1):
            yield
    finally:
        with _LIMITING:
            _inside -= 1
            if _inside == 0:
                with _in_control():
                    _limits.pop().restore_original_limits()
