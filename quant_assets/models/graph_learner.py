"""A base learner whose model is an ONNX graph: the graph is the text, and predictions come out of the graph.

So what was validated is, operator by operator, what is exported. Nothing of the object that was fitted is kept: there
is nothing to unpickle.
"""

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from quant_assets.common.errors import ArtifactError, GateClosedError, ModelError
from quant_assets.common.hashing import canonical_json
from quant_assets.models.graph_building import INPUT, SCORE
from quant_assets.models.graphs import checked_model, one_thread_session, runtime_reported
from quant_assets.models.trees import Tree

FORMAT: Literal["quant_assets.graph_learner/1"] = "quant_assets.graph_learner/1"

# Operators that see one row at a time when their axis is not the first, draw nothing and hold no graph of their own.
# Loops and Scan are left out: what they do to a batch cannot be told from their names.
OPERATORS = frozenset(
    {
        "Abs", "Add", "And", "ArgMax", "ArgMin", "ArrayFeatureExtractor", "BatchNormalization",
        "Binarizer", "Cast", "Ceil", "Clip", "Concat", "Constant", "ConstantOfShape", "CumSum",
        "Div", "Elu", "Equal", "Erf", "Exp", "Expand", "Flatten", "Floor", "Gather",
        "GatherElements", "Gemm", "Greater", "GreaterOrEqual", "HardSigmoid", "Identity", "Imputer",
        "IsNaN", "LayerNormalization", "LeakyRelu", "Less", "LessOrEqual", "LinearClassifier",
        "LinearRegressor", "Log", "LogSoftmax", "MatMul", "Max", "Min", "Mul", "Neg", "Normalizer",
        "Not", "OneHotEncoder", "Or", "PRelu", "Pow", "Reciprocal", "ReduceL1", "ReduceL2",
        "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum",
        "ReduceSumSquare", "Relu", "Reshape", "Round", "SVMClassifier", "SVMRegressor", "Scaler",
        "Selu", "Shape", "Sigmoid", "Sign", "Slice", "Softmax", "Softplus", "Softsign", "Split",
        "Sqrt", "Squeeze", "Sub", "Sum", "Tanh", "TopK", "Transpose", "TreeEnsembleClassifier",
        "TreeEnsembleRegressor", "Unsqueeze", "Where",
    }
)  # fmt: skip
_ROWS_PER_RUN = 100_000  # bounds the memory of intermediate values


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["quant_assets.graph_learner/1"]
    objective: Literal["graph:number", "graph:class"]
    feature_names: tuple[str, ...]
    graph: str
    research_only: str


@dataclass(frozen=True)
class GraphDocument:
    """What the text of such a learner says.

    Attributes
    ----------
    objective : {"graph:number", "graph:class"}
    feature_names : tuple of str
    graph : bytes
        ONNX: ``features`` (N, f) to ``score`` (N, 1), float32. Empty when the learner could not be exported.
    research_only : str
        Why nothing of it may be promoted; empty when it may.
    """

    objective: str
    feature_names: tuple[str, ...]
    graph: bytes
    research_only: str = ""

    def to_text(self) -> str:
        """As JSON, the graph in base64."""
        data = {
            "format": FORMAT,
            "objective": self.objective,
            "feature_names": list(self.feature_names),
            "graph": base64.b64encode(self.graph).decode(),
            "research_only": self.research_only,
        }
        return canonical_json(data).decode()


def is_document(text: str) -> bool:
    """Whether a text claims to be that of a graph."""
    return text.startswith("{") and f'"format":"{FORMAT}"' in text


def document_of(text: str) -> GraphDocument:
    """Read the text of a learner; the graph is not loaded.

    Raises
    ------
    ModelError
        When a field is missing, unknown or of another type, or the graph is no base64.
    """
    try:
        found = _Document.model_validate(json.loads(text))
        graph = base64.b64decode(found.graph, validate=True)
    except (ValueError, binascii.Error, ValidationError, RecursionError) as error:
        raise _damaged(f"{type(error).__name__}: {str(error).splitlines()[0]}") from error
    return GraphDocument(found.objective, found.feature_names, graph, found.research_only)


def graph_of(text: str) -> Any:
    """The graph as an ONNX model, checked.

    Raises
    ------
    GateClosedError
        When there is none: the learner is for research only, and nothing that needs a graph is made of it.
    """
    document = document_of(text)
    if not document.graph:
        raise GateClosedError(
            "graph of a learner that is for research only",
            expected="a learner that could be exported",
            found=f"none: {document.research_only}",
            action="ask nothing of it but its verdicts: its predictions exist inside the validation alone",
        )
    return checked_model(document.graph)


def check(text: str, objectives: Sequence[str]) -> None:
    """Refuse a text that is damaged, or a graph that is not safe to load or made of other operators.

    Raises
    ------
    ModelError
    """
    document = document_of(text)
    if document.objective not in objectives:
        raise _damaged(f"objective {document.objective!r}")
    if not document.graph:
        if not document.research_only:
            raise _damaged("neither a graph nor the reason why there is none")
        return
    try:
        model = checked_model(document.graph)
    except ArtifactError as error:
        raise _damaged(error.found) from error
    foreign = sorted({node.op_type for node in model.graph.node} - OPERATORS)
    inputs, outputs = [i.name for i in model.graph.input], [o.name for o in model.graph.output]
    if foreign or inputs != [INPUT] or outputs != [SCORE]:
        raise _damaged(
            f"inputs {inputs}, outputs {outputs}, foreign operators {', '.join(foreign) or 'none'}"
        )
    width = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    if width != len(document.feature_names):
        raise _damaged(f"a graph of {width} features with {len(document.feature_names)} names")


def load(text: str) -> Any:
    """A single-threaded session of the graph."""
    return one_thread_session(graph_of(text).SerializeToString())


def predict(booster: Any, features: NDArray[np.float32], /) -> NDArray[np.float64]:
    """Scores of the graph: returns, or log-odds for a target of classes."""
    result = np.empty(len(features))
    for first in range(0, len(features), _ROWS_PER_RUN):
        rows = features[first : first + _ROWS_PER_RUN]
        with runtime_reported():
            result[first : first + len(rows)] = booster.run([SCORE], {INPUT: rows})[0].reshape(len(rows))
    return result


def objective(text: str) -> str:
    """Name of the objective."""
    return document_of(text).objective


def feature_names(text: str) -> tuple[str, ...]:
    """Names of the features, in model order."""
    return document_of(text).feature_names


def gains(text: str) -> NDArray[np.float64]:
    """Zeros: a graph knows of no gains. Reports measure what its features are worth by shuffles and SHAP values."""
    return np.zeros(len(document_of(text).feature_names))


def trees(text: str) -> tuple[Tree, ...]:
    """None: whatever trees are inside are operators of the graph, and are not converted any more."""
    return ()


def _damaged(found: str) -> ModelError:
    return ModelError(
        "graph of a base learner",
        expected="JSON written by this platform, with one graph of permitted operators from features to score",
        found=found,
        action="materialise the model again; a damaged model is never used",
    )
