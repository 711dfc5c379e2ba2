"""The stacked ensemble as one fused ONNX graph: features in, score out, with names that never vary."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from quant_assets.common.errors import ArtifactError
from quant_assets.common.model_settings import OWN_LEARNERS
from quant_assets.models.ensemble import Ensemble
from quant_assets.models.graph_building import CONVERTED_OPS, INPUT, Graph, finished_model
from quant_assets.models.learners import FittedLearner

# ----------------------------------------------------------------------------------------------------- export


RESERVED_METADATA = ("feature_names", "producer", "recipe", "score_unit", "subject")


def export_onnx(ensemble: Ensemble, *, subject: str, metadata: Mapping[str, str] | None = None) -> bytes:
    """Convert an ensemble into one graph.

    Parameters
    ----------
    ensemble : Ensemble
    subject : str
        Data version of the ensemble; parity is refused for any other.
    metadata : mapping of str to str, optional
        Further facts for the file (strategy, upstream versions).

    Returns
    -------
    bytes
        ONNX, opset 17 with ai.onnx.ml 3. Input ``features`` (N, f) float32; outputs ``score`` (N, 1) float32 in
        the ensemble's unit (metadata ``score_unit``), NaN for rows that are not finite, and ``base``
        (N, learners) float32: the learners' sums of trees, log-odds and never labels for classifications. Same
        ensemble and metadata, same bytes.

    Raises
    ------
    ArtifactError
        When ``metadata`` uses a reserved key, a converter emits something unknown, or a learner is for research only.
    """
    taken = sorted(set(metadata or {}) & set(RESERVED_METADATA))
    if taken:
        raise ArtifactError(
            "metadata of the ONNX graph",
            expected=f"keys other than {', '.join(RESERVED_METADATA)}",
            found=", ".join(taken),
            action="rename these keys: the exporter writes them itself",
        )
    if ensemble.research_only:
        raise ArtifactError(
            f"graph of the ensemble {subject[:12]}",
            expected="learners that are exported with parity, and none that is marked for research only",
            found="; ".join(f"{name}: {why}" for name, why in ensemble.research_only.items()),
            action="take the mark (research_only) off once the learner converts with parity, or use another one: "
            "what is for research only gets verdicts, and no graph, bundle or promotion",
        )
    graph = Graph()
    columns = [
        graph.part(converted(learner), learner.name, INPUT, allowed_operators(learner))
        for learner in ensemble.learners
    ]
    base = graph.node("Concat", columns, "base", axis=1)
    weights = np.array(ensemble.stacker.coefficients, dtype=np.float32).reshape(-1, 1)
    intercept = np.array([ensemble.stacker.intercept], dtype=np.float32)
    product = graph.node("MatMul", [base, graph.constant("stacker/weights", weights)], "stacker/product")
    stacked = graph.node("Add", [product, graph.constant("stacker/intercept", intercept)], "stacker/sum")
    n_features = len(ensemble.feature_names)
    graph.guarded_score(stacked, n_features)
    return finished_model(
        graph,
        n_features=n_features,
        name="ensemble",
        metadata={
            **(metadata or {}),
            **identity(ensemble, subject),
            "score_unit": ensemble.score_unit,
        },
        extra_outputs={"base": len(ensemble.learners)},
    )


def identity(ensemble: Ensemble, subject: str) -> dict[str, str]:
    """What every graph says about the ensemble that it stands for."""
    return {
        "feature_names": json.dumps(list(ensemble.feature_names)),
        "producer": "quant_assets",
        "recipe": ensemble.recipe,
        "subject": subject,
    }


def converted(learner: FittedLearner) -> Any:
    """One base learner as an ONNX model, by the converter of its library.

    What is converted is the sum of trees: converters of classifiers give labels and probabilities, in which a
    decision is one rounding away from its neighbour.
    """
    import onnx
    from onnxmltools.convert.common.data_types import FloatTensorType

    inputs = [(INPUT, FloatTensorType([None, len(learner.feature_names)]))]
    match learner.name:
        case "lightgbm":
            from onnxmltools.convert import convert_lightgbm

            from quant_assets.models.lightgbm_learner import load as load_lightgbm

            # No target opset: the converter stops at 15 and refuses a newer one. The operators it emits are
            # the same in ours, which the checker confirms.
            return convert_lightgbm(load_lightgbm(learner.margin_text), initial_types=inputs)
        case "xgboost":
            from onnxmltools.convert import convert_xgboost

            from quant_assets.models.xgboost_learner import load as load_xgboost

            return convert_xgboost(load_xgboost(learner.margin_text), initial_types=inputs)
        case "catboost":
            from quant_assets.models.catboost_learner import onnx_bytes

            return onnx.load_from_string(onnx_bytes(learner.margin_text))
        case _:  # its text is its graph
            from quant_assets.models.graph_learner import graph_of

            return graph_of(learner.text)


def allowed_operators(learner: FittedLearner) -> frozenset[str]:
    """What the graph of a base learner may be made of: a library's converter emits few operators."""
    from quant_assets.models.graph_learner import OPERATORS

    return CONVERTED_OPS if learner.name in OWN_LEARNERS else OPERATORS
