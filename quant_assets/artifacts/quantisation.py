"""INT8: static quantisation of the student network.

Static, never dynamic: dynamic quantisation takes its range from the batch, so that a row's score would depend
on the rows beside it (up to .22 spreads in a trial).
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant_assets.artifacts.onnx_graph import INPUT
from quant_assets.artifacts.runtime import checked_model
from quant_assets.common.errors import ArtifactError

STUDENT_PREFIX = "student"  # of the network's nodes inside the student graph
_CALIBRATION_ROWS = 2_000


def quantise(student: bytes, calibration_rows: NDArray[np.float32]) -> bytes:
    """Quantise a student's hidden layers: QDQ, unsigned 8-bit activations, signed weights per channel.

    The output layer (one column) and the guard stay in float: they are a thousandth of the weights, and eight
    bits on the output would leave 256 different scores.

    Parameters
    ----------
    student : bytes
        FP32 graph from `quant_assets.artifacts.student.distil`.
    calibration_rows : ndarray of float32, shape (n, f)
        Rows of the training window that fix the activation ranges; every k-th, at most 2,000.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    model = checked_model(student)
    layers = [
        n.name
        for n in model.graph.node
        if n.op_type in ("MatMul", "Gemm") and n.name.startswith(STUDENT_PREFIX)
    ]
    if len(layers) < 2:
        raise ArtifactError(
            "graph to quantise",
            expected="a student network with a hidden and an output layer",
            found=f"layers {layers}",
            action="quantise the student; INT8 does nothing to a tree graph",
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        quantize_static(
            _prepared(model),
            str(path),
            _reader(spaced(calibration_rows, _CALIBRATION_ROWS)),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul", "Gemm"],
            nodes_to_quantize=layers[:-1],
            per_channel=True,
            # 7-bit weights: CPUs without VNNI saturate sums of 8-bit products, and scores would then depend
            # on the machine.
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        data = path.read_bytes()
    return _normalised(data, model)


def spaced(rows: NDArray[np.float32], most: int) -> NDArray[np.float32]:
    """Every k-th row, with the smallest k that leaves at most ``most``."""
    return rows[:: max(1, -(-len(rows) // most))]


def _prepared(model: Any) -> Any:
    """A copy that says it was prepared, which is so: the quantiser infers shapes, and there is nothing to fuse.

    Otherwise it recommends preparation through the root logger, by which Python configures logging for the
    whole process.
    """
    from onnx import helper

    prepared = type(model)()
    prepared.CopyFrom(model)
    facts = {p.key: p.value for p in model.metadata_props}
    helper.set_model_props(prepared, {**facts, "onnx.quant.pre_process": "onnxruntime.quant"})
    return prepared


def _reader(rows: NDArray[np.float32]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Rows(CalibrationDataReader):  # type: ignore[misc]  # the library is untyped
        def __init__(self) -> None:
            self.batches = iter([{INPUT: np.ascontiguousarray(rows)}])

        def get_next(self) -> Any:
            return next(self.batches, None)

    return Rows()


def _normalised(data: bytes, source: Any) -> bytes:
    """The quantised graph with the source's identity and no trace of the tool, in deterministic bytes."""
    import onnx
    from onnx import helper

    model = onnx.load_from_string(data)
    used = {n.domain for n in model.graph.node}
    imports = [o for o in source.opset_import if o.domain in used or o.domain == ""]
    del model.opset_import[:]
    model.opset_import.extend(imports)
    model.producer_name, model.producer_version = source.producer_name, source.producer_version
    facts = {p.key: p.value for p in source.metadata_props}
    helper.set_model_props(model, dict(sorted({**facts, "student": "int8"}.items())))
    del model.graph.value_info[:]
    result = bytes(model.SerializeToString(deterministic=True))
    checked_model(result)
    return result
