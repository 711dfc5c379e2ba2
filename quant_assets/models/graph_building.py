"""Graphs put together from parts, with names that never vary.

``onnx.compose.merge_models`` refuses parts of different IR versions, and converters make up names. Parts are
therefore taken apart and every node and value is renamed by its position.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant_assets.common.errors import ArtifactError

INPUT = "features"
SCORE = "score"
IR_VERSION = 8
OPSETS = {"": 17, "ai.onnx.ml": 3}
CONVERTED_OPS = frozenset(
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

    def part(self, model: Any, prefix: str, source: str, allowed: frozenset[str] = CONVERTED_OPS) -> str:
        """Add the graph of a converted model, reading ``source``; return the name of its output.

        The output is (N, 1), or as wide as that of a model with several outputs, of which it is the last. Nodes that
        nothing of it reads are left out.

        Raises
        ------
        ArtifactError
            When the part holds an operator that no converter of ours is known to emit.
        """
        output = model.graph.output[-1]
        kept = _needed(model.graph.node, output.name)
        unknown = sorted({n.op_type for n in kept} - allowed)
        if unknown or len(model.graph.input) != 1 or model.graph.sparse_initializer:
            raise ArtifactError(
                f"converted part {prefix!r}",
                expected=f"one input, dense constants and operators among {', '.join(sorted(allowed))}",
                found=f"{len(model.graph.input)} inputs, {len(model.graph.sparse_initializer)} sparse constants, "
                f"operators {', '.join(unknown) or 'as expected'}",
                action="pin the converters to the locked versions, or review what the new one emits",
            )
        names = {model.graph.input[0].name: source, "": ""}
        read = {value for node in kept for value in node.input} | {output.name}
        for number, constant in enumerate(c for c in model.graph.initializer if c.name in read):
            copy = type(constant)()
            copy.CopyFrom(constant)
            names[constant.name] = copy.name = f"{prefix}/constant_{number}"
            self.constants.append(copy)
        for number, node in enumerate(kept):
            copy = type(node)()
            copy.CopyFrom(node)
            copy.name = f"{prefix}/node_{number}"
            copy.doc_string = ""
            for position, value in enumerate(node.output):
                names[value] = value and f"{prefix}/value_{number}_{position}"
            copy.input[:] = [names[value] for value in node.input]
            copy.output[:] = [names[value] for value in node.output]
            attributes = sorted(node.attribute, key=lambda attribute: attribute.name)
            del copy.attribute[:]
            copy.attribute.extend(attributes)
            self.nodes.append(copy)
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


def _needed(nodes: Sequence[Any], output: str) -> list[Any]:
    """The nodes that a value is made by, in order."""
    read, kept = {output}, []
    for node in reversed(nodes):
        if not read.isdisjoint(node.output):
            kept.append(node)
            read.update(value for value in node.input if value)
    return kept[::-1]


def finished_model(
    graph: Graph,
    *,
    n_features: int,
    name: str,
    metadata: Mapping[str, str],
    extra_outputs: Mapping[str, int],
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
