"""The stacked ensemble as one fused ONNX graph: features in, score out, with names that never vary.

``onnx.compose.merge_models`` refuses parts of different IR versions, and converters make up names. Parts are
therefore taken apart and every node and value is renamed by its position.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant_assets.common.errors import ArtifactError
from quant_assets.models.ensemble import Ensemble
from quant_assets.models.learners import FittedLearner

# -------------------------------------------------------------------------------------- composition of graphs


INPUT = "features"
SCORE = "score"
IR_VERSION = 8
OPSETS = {"": 17, "ai.onnx.ml": 3}
_CONVERTED_OPS = frozenset(
    {"TreeEnsembleRegressor", "Identity", "MatMul", "Add", "Relu", "Reshape", "Cast", "Gemm"}
)


@dataclass
class Graph:
    """A graph under construction: nodes in order, constants by name."""

    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Add a constant and return its name."""
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node that is named like its output, and return that name."""
        from onnx import helper

        self.nodes.append(helper.make_node(op, list(inputs), [output], name=output, **attributes))
        return output

    def part(self, model: Any, prefix: str, source: str) -> str:
        """Add the graph of a converted model, reading ``source``; return the name of its output, (N, 1).

        Raises
        ------
        ArtifactError
            When the part holds an operator that no converter of ours is known to emit.
        """
        unknown = sorted({n.op_type for n in model.graph.node} - _CONVERTED_OPS)
        if unknown or len(model.graph.input) != 1:
            raise ArtifactError(
                f"converted part {prefix!r}",
                expected=f"one input and operators among {', '.join(sorted(_CONVERTED_OPS))}",
                found=f"{len(model.graph.input)} inputs, operators {', '.join(unknown) or 'as expected'}",
                action="pin the converters to the locked versions, or review what the new one emits",
            )
        names = {model.graph.input[0].name: source}
        for number, constant in enumerate(model.graph.initializer):
            copy = type(constant)()
            copy.CopyFrom(constant)
            names[constant.name] = copy.name = f"{prefix}/constant_{number}"
            self.constants.append(copy)
        for number, node in enumerate(model.graph.node):
            copy = type(node)()
            copy.CopyFrom(node)
            copy.name = f"{prefix}/node_{number}"
            copy.doc_string = ""
            for position, value in enumerate(node.output):
                names[value] = f"{prefix}/value_{number}_{position}"
            copy.input[:] = [names[value] for value in node.input]
            copy.output[:] = [names[value] for value in node.output]
            attributes = sorted(node.attribute, key=lambda attribute: attribute.name)
            del copy.attribute[:]
            copy.attribute.extend(attributes)
            self.nodes.append(copy)
        output = model.graph.output[-1]
        result = names[output.name]
        if len(output.type.tensor_type.shape.dim) == 1:  # CatBoost's exporter gives (N,)
            column = self.constant(f"{prefix}/column", np.array([-1, 1], dtype=np.int64))
            result = self.node("Reshape", [result, column], f"{prefix}/as_column")
        return result

    def guarded_score(self, value: str, n_features: int) -> str:
        """Add the output ``score``: ``value``, or NaN in every row with a NaN or infinite feature.

        A row times a column of zeros is 0 when all of it is finite and NaN otherwise: one small product. Left
        alone, each tree sends a NaN down a branch of its own and the graph answers with a number.
        """
        zeros = self.constant("guard/zeros", np.zeros((n_features, 1), dtype=np.float32))
        return self.node("Add", [value, self.node("MatMul", [INPUT, zeros], "guard/product")], SCORE)


def finished_model(
    graph: Graph, *, n_features: int, name: str, metadata: Mapping[str, str], extra_outputs: Mapping[str, int]
) -> bytes:
    """Serialise a graph with input ``features`` (N, f) and output ``score`` (N, 1), checked, same bytes always.

    Parameters
    ----------
    extra_outputs : mapping of str to int
        Further outputs and their widths.
    """
    import onnx
    from onnx import TensorProto, helper

    outputs = {SCORE: 1, **extra_outputs}
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            name,
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["N", n_features])],
            [helper.make_tensor_value_info(o, TensorProto.FLOAT, ["N", w]) for o, w in outputs.items()],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in OPSETS.items()],
        ir_version=IR_VERSION,
        producer_name="quant_assets",
    )
    helper.set_model_props(model, dict(sorted(metadata.items())))
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    return bytes(model.SerializeToString(deterministic=True))


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
        When ``metadata`` uses a reserved key, or a converter emits something unknown.
    """
    taken = sorted(set(metadata or {}) & set(RESERVED_METADATA))
    if taken:
        raise ArtifactError(
            "metadata of the ONNX graph",
            expected=f"keys other than {', '.join(RESERVED_METADATA)}",
            found=", ".join(taken),
            action="rename these keys: the exporter writes them itself",
        )
    graph = Graph()
    columns = [graph.part(converted(learner), learner.name, INPUT) for learner in ensemble.learners]
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
        case other:
            raise ArtifactError(
                f"learner {other!r}",
                expected="lightgbm, xgboost or catboost",
                found=repr(other),
                action="teach the exporter this learner before an ensemble uses it",
            )
