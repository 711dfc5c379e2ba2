"""From a fitted estimator, or the graph of a network, to the graph that is the model; and how far the two agree.

Every model reads features that are held inside of what it was fitted to, widened by the range of each feature on
either side. A tree does not notice. A line is not drawn out to any price that a broken feed may bring, no float32
overflows, and what was compared around the training rows holds everywhere.

Converters are not to be trusted. Measured with skl2onnx 1.20 and scikit-learn 1.9: histogram gradient boosting rounds
its thresholds to the nearest float32 (no error on 3,000 training rows, .4 spreads on 1.3 % of rows between two of
their values; rounded down here it is exact), a scaler before trees moves rows across thresholds (.26 spreads on 2 %),
linear discriminants on features of a large level cancel (.8 spreads everywhere), Gaussian processes lose .03. Others
have no converter (splines, kernel ridge, Nystroem). So each fit is compared with its graph, where they would differ.
"""

import math
import threading
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from quant_assets.common.errors import ArtifactError, ModelError
from quant_assets.models.graph_building import INPUT, OPSETS, SCORE, Graph, finished_model
from quant_assets.models.graph_learner import OPERATORS
from quant_assets.models.graphs import checked_model, nodes_of, one_thread_session, runtime_reported

Rows = NDArray[np.float32]

# Largest difference between model and graph, in spreads of the model's predictions: that of the gate `onnx_parity`.
MOST_ERROR = 1e-3
# Of a class that a forest is sure of; beyond it log-odds would have no bound.
LEAST_PROBABILITY = 1e-6
PROBES = 1500
MOST_ROWS = 2000

# Converters keep registries of their own and the fits of several splits run in threads.
_CONVERTING = threading.Lock()


# -------------------------------------------------------------------------------------- the range of the features


@dataclass(frozen=True)
class Reach:
    """Between which values each feature is held.

    Attributes
    ----------
    low, high : ndarray of float32, shape (f,)
    """

    low: Rows
    high: Rows

    @classmethod
    def of(cls, features: Rows) -> "Reach":
        """Of training rows: their range, and as much again on either side."""
        bounds = np.finfo(np.float32)
        least, most = features.min(axis=0).astype(np.float64), features.max(axis=0).astype(np.float64)
        low, high = least - (most - least), most + (most - least)
        return cls(*(np.clip(v, bounds.min, bounds.max).astype(np.float32) for v in (low, high)))

    def held(self, features: Rows) -> Rows:
        """The same rows, each feature inside of the reach."""
        rows: Rows = np.clip(features, self.low, self.high)
        return rows


# ------------------------------------------------------------------------------------------------------ the graph


def converted(estimator: Any, n_features: int) -> Any:
    """A fitted estimator as ONNX, by skl2onnx: its prediction, or the probabilities of its classes.

    Raises
    ------
    ArtifactError
        When there is no converter, or it refuses this estimator.
    """
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType

    _floor_thresholds(estimator)
    options = None
    if hasattr(estimator, "predict_proba"):
        # Log-odds as they are: out of float32 probabilities those of a sure class would be off by .002 spreads.
        raw = {"raw_scores": True} if gives_odds(estimator) else {}
        options = {id(_last(estimator)): {"zipmap": False, **raw}}
    try:
        with _CONVERTING:
            return to_onnx(
                estimator,
                initial_types=[(INPUT, FloatTensorType([None, n_features]))],
                options=options,
                target_opset=dict(OPSETS),
            )
    except Exception as error:  # converters raise whatever they meet
        raise ArtifactError(
            f"conversion of {type(estimator).__name__}",
            expected="an estimator that skl2onnx converts",
            found=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}",
            action="use another estimator, or allow it for research (research_only: true)",
        ) from error


def _last(estimator: Any) -> Any:
    return estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator


def gives_odds(estimator: Any) -> bool:
    """Whether its graph gives log-odds: a logistic regression, alone or at the end of a Pipeline."""
    from sklearn.linear_model import LogisticRegression

    return isinstance(_last(estimator), LogisticRegression)


def _floor_thresholds(estimator: Any) -> None:
    """Round the thresholds of histogram gradient boosting down to float32: float32 rows go the ways they went.

    Its converter rounds to the nearest. Below a scaler the rows that it reads are not float32, and it is left alone.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    from quant_assets.models.lightgbm_learner import floor32

    if isinstance(estimator, HistGradientBoostingClassifier | HistGradientBoostingRegressor):
        for round_of_trees in estimator._predictors:
            for tree in round_of_trees:
                inner = tree.nodes["is_leaf"] == 0
                tree.nodes["num_threshold"][inner] = floor32(tree.nodes["num_threshold"][inner])


def checked_network(data: Any) -> Any:
    """The graph that a network's fit returned, as a model of our opset.

    Raises
    ------
    ArtifactError
        When it is no ONNX that is safe to load, or has another opset that ONNX cannot convert.
    """
    import onnx

    if not isinstance(data, bytes):
        raise ArtifactError(
            "what a learner's fit returned",
            expected="the bytes of an ONNX graph",
            found=type(data).__name__,
            action="return model.SerializeToString()",
        )
    model = checked_model(data)
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    if opsets.get("", OPSETS[""]) == OPSETS[""]:
        return model
    try:
        return onnx.version_converter.convert_version(model, OPSETS[""])
    except Exception as error:  # the converter is a C++ library without a class of errors
        raise ArtifactError(
            "what a learner's fit returned",
            expected=f"a graph of opset {OPSETS['']}, or one that ONNX converts to it",
            found=f"opset {opsets['']}: {' '.join(str(error).split())[:200]}",
            action=f"export with opset {OPSETS['']}",
        ) from error


Output = Literal["score", "probabilities", "odds"]


def graph_bytes(model: Any, reach: Reach, output: Output) -> bytes:
    """The graph that is the model: features held inside the reach, one score a row.

    Parameters
    ----------
    model : onnx.ModelProto
        Of one input.
    reach : Reach
    output : {"score", "probabilities", "odds"}
        What its last output is: the score, or of both classes the probabilities (of which the score is the log-odds,
        each at least 1e-6) or what their log-odds are.

    Raises
    ------
    ArtifactError
        When it is made of other operators than `quant_assets.models.graph_learner.OPERATORS`.
    """
    graph = Graph()
    low = graph.constant("reach/low", reach.low[None])
    high = graph.constant("reach/high", reach.high[None])
    held = graph.node("Min", [graph.node("Max", [INPUT, low], "reach/from"), high], "reach/held")
    unknown = sorted({node.op_type for node in nodes_of(model.graph)} - OPERATORS)
    if unknown:
        raise ArtifactError(
            "graph of a learner",
            expected="operators that see one row at a time (quant_assets.models.graph_learner.OPERATORS)",
            found=", ".join(unknown),
            action="use another estimator or export other layers, or allow it for research (research_only: true)",
        )
    made = graph.part(model, "model", held, OPERATORS)
    if output == "odds":
        second = graph.constant("odds/second", np.array([1], dtype=np.int64))
        made = graph.node("Gather", [made, second], "odds/score", axis=1)
    if output == "probabilities":
        least = graph.constant("odds/least", np.array(LEAST_PROBABILITY, dtype=np.float32))
        most = graph.constant("odds/most", np.array(1.0, dtype=np.float32))
        logs = graph.node("Log", [graph.node("Clip", [made, least, most], "odds/inside")], "odds/logs")
        sides = graph.constant("odds/sides", np.array([[-1.0, 1.0]], dtype=np.float32))
        axis = graph.constant("odds/axis", np.array([1], dtype=np.int64))
        made = graph.node("ReduceSum", [graph.node("Mul", [logs, sides], "odds/terms"), axis], "odds/score")
    column = graph.constant("score/column", np.array([-1, 1], dtype=np.int64))
    graph.node("Reshape", [made, column], SCORE)
    return finished_model(graph, n_features=len(reach.low), name="learner", metadata={}, extra_outputs={})


def run_graph(data: bytes, features: Rows) -> NDArray[np.float64]:
    """One number a row of any graph of one input, read from its last output.

    Raises
    ------
    ArtifactError
        When ONNX Runtime does not run it, or it gives another number of values.
    """
    session = one_thread_session(data)
    with runtime_reported():
        values = np.asarray(session.run(None, {session.get_inputs()[0].name: features})[-1])
    if values.size != len(features) or values.dtype != np.float32:
        raise ArtifactError(
            "output of a learner's graph",
            expected=f"one float32 for each of {len(features)} rows",
            found=f"{values.dtype} of shape {values.shape}",
            action="let the graph give one score a row, of shape (N, 1) or (N,)",
        )
    return values.reshape(len(features)).astype(np.float64)


def native_scores(estimator: Any, features: Rows) -> NDArray[np.float64]:
    """What a fitted estimator says: its prediction, or of a classifier the log-odds of class 1."""
    if not hasattr(estimator, "predict_proba"):
        return np.asarray(estimator.predict(features), dtype=np.float64).reshape(len(features))
    if gives_odds(estimator):
        return np.asarray(estimator.decision_function(features), dtype=np.float64)
    both = np.clip(np.asarray(estimator.predict_proba(features), dtype=np.float64), LEAST_PROBABILITY, 1.0)
    odds: NDArray[np.float64] = np.log(both[:, 1]) - np.log(both[:, 0])
    return odds


def require_independent_rows(what: str, graph: bytes, features: Rows) -> None:
    """Refuse a graph in which the score of a row depends on the rows beside it.

    Half of some rows are changed beyond recognition: the other half must keep every bit. Then each half alone, and
    backwards, up to the rounding of sums that are cut into other pieces.

    Raises
    ------
    ModelError
    """
    rows = features[:: -(-len(features) // 256)]
    whole, mates = run_graph(graph, rows), rows.copy()
    mates[1::2] = rows[1::2][::-1] * np.float32(-3) + np.float32(1)
    beside, alone = run_graph(graph, mates)[::2], run_graph(graph, rows[::2])
    single, backwards = run_graph(graph, rows[:1]), run_graph(graph, rows[::-1])[::-1]
    level = 1e-5 * max(float(np.abs(whole).max()), float(np.finfo(np.float32).tiny))
    near = (
        np.abs(alone - whole[::2]).max() <= level
        and np.abs(backwards - whole).max() <= level
        and np.abs(single - whole[:1]).max() <= level
    )
    if not np.array_equal(beside, whole[::2]) or not near:
        raise ModelError(
            f"graph of {what}",
            expected="a score for each row that does not depend on the rows beside it",
            found=f"{int((beside != whole[::2]).sum())} of {len(beside)} scores moved with other rows beside them",
            action="export the network for inference (model.eval()); take no mean, sum or rank over the batch",
        )


# --------------------------------------------------------------------------------------- rows that find differences


def probing_rows(features: Rows, graph: bytes, seed: int) -> Rows:
    """Rows around the training rows: between two values of a feature, on the thresholds of trees, far outside.

    Half are training rows with one feature halfway between two neighbours of its values, half with one on a threshold
    of the graph's trees, each also one float32 to either side. And each feature in turn, then all of them, are put at
    zero, at either end of float32 and next to zero.
    """
    import onnx

    generator = np.random.default_rng([seed, 4])
    n, width = features.shape
    base = features[generator.integers(n, size=2 * PROBES)].copy()
    columns = generator.integers(width, size=2 * PROBES)
    values = np.sort(features[generator.integers(n, size=min(n, 500))], axis=0).astype(np.float64)
    place = generator.integers(len(values) - 1, size=PROBES) if len(values) > 1 else np.zeros(PROBES, int)
    after = np.minimum(place + 1, len(values) - 1)
    between = columns[:PROBES]
    middle = (values[place, between] + values[after, between]) / 2
    base[np.arange(PROBES), between] = middle.astype(np.float32)
    thresholds = np.array(
        [
            (column, value)
            for node in onnx.load_from_string(graph).graph.node
            if node.op_type.startswith("TreeEnsemble")
            for column, value, mode in _splits(node)
            if mode != b"LEAF" and column < width
        ]
    )
    second = np.arange(PROBES, 2 * PROBES)
    if len(thresholds):
        drawn = thresholds[generator.integers(len(thresholds), size=PROBES)]
        columns[PROBES:] = drawn[:, 0].astype(np.int64)
        base[second, columns[PROBES:]] = drawn[:, 1].astype(np.float32)
    beside = []
    for way in (np.float32(-np.inf), np.float32(np.inf)):
        moved = base.copy()
        at = (np.arange(len(base)), columns)
        moved[at] = np.nextafter(moved[at], way)
        beside.append(moved)
    limits = np.finfo(np.float32)
    edge = np.array([0.0, limits.max, limits.min, limits.smallest_subnormal, 1e30, -1e30], dtype=np.float32)
    single = np.repeat(features[:1], len(edge) * width, axis=0)
    single[np.arange(len(single)), np.repeat(np.arange(width), len(edge))] = np.tile(edge, width)
    return np.concatenate([base, *beside, single, np.repeat(edge[:, None], width, axis=1)])


def _splits(node: Any) -> Any:
    parts = {a.name: a for a in node.attribute}
    return zip(
        parts["nodes_featureids"].ints,
        parts["nodes_values"].floats,
        parts["nodes_modes"].strings,
        strict=True,
    )


@dataclass(frozen=True)
class Agreement:
    """How far a model and its graph agree.

    Attributes
    ----------
    rows : int
    error : float
        Largest difference over the spread of the model's predictions of training rows. Infinity when a row has no
        finite score; of a model without a spread, whenever they differ by more than rounding.
    off : int
        Rows that differ by more than `MOST_ERROR`.
    """

    rows: int
    error: float
    off: int

    @property
    def exact(self) -> bool:
        """Whether the graph is the model."""
        return self.error <= MOST_ERROR


def agreement(native: NDArray[np.float64], graph: NDArray[np.float64], spread: float) -> Agreement:
    """Compare predictions of the same rows."""
    scale = spread or 1e-3 * max(float(np.abs(native).max(initial=0.0)), float(np.finfo(np.float32).tiny))
    error = np.abs(native - graph) / scale
    error[~np.isfinite(error)] = math.inf
    return Agreement(len(native), float(error.max(initial=0.0)), int((error > MOST_ERROR).sum()))


def compared(
    estimator: Any, graph: bytes, features: Rows, reach: Reach, *, seed: int, most_rows: int = MOST_ROWS
) -> Agreement:
    """Compare a fitted estimator with its graph, on training rows and on rows around them.

    Parameters
    ----------
    most_rows : int
        Training rows compared, evenly chosen.
    """
    rows = features[:: -(-len(features) // most_rows)]
    everywhere = np.concatenate([rows, probing_rows(rows, graph, seed)])
    native = native_scores(estimator, reach.held(everywhere))
    spread = float(native[: len(rows)].std())
    level = float(np.abs(native[: len(rows)]).max(initial=0.0))
    return agreement(native, run_graph(graph, everywhere), spread if spread > 1e-12 * level else 0.0)


def require_agreement(what: str, found: Agreement) -> None:
    """Refuse a graph that is not the model.

    Raises
    ------
    ModelError
    """
    if not found.exact:
        raise ModelError(
            f"graph of {what}",
            expected=f"the predictions of the model, within {MOST_ERROR:g} of their spread, on training rows and "
            "around them",
            found=f"{found.error:.2g} spreads at the worst, {found.off} of {found.rows} rows off by more",
            action="use an estimator that converts exactly (trees need no scaler; scale features before linear "
            "models), or allow it for research (research_only: true)",
        )
