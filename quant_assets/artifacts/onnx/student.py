"""The INT8 student: a small network that imitates the scores, because quantisation does nothing to trees.

Bucila, Caruana, Niculescu-Mizil (2006), "Model compression"; Hinton, Vinyals, Dean (2015), "Distilling the
knowledge in a neural network". Inputs are clipped and standardised *inside* the graph: eight bits cover a
bounded range well and a fat tail badly. Quantisation is static, never dynamic: dynamic quantisation takes its range
from the batch, so that a row's score would depend on the rows beside it (up to .22 spreads in a trial).
"""

import base64
import binascii
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant_assets.artifacts.onnx.export import identity
from quant_assets.artifacts.onnx.scoring import spread_of
from quant_assets.common.errors import ArtifactError
from quant_assets.models.ensemble import Ensemble
from quant_assets.models.graph_building import INPUT, OPSETS, Graph, finished_model
from quant_assets.models.graphs import checked_model

# ----------------------------------------------------------------------------------------------- quantisation


STUDENT_PREFIX = "student"  # of the network's nodes inside the student graph
_CALIBRATION_ROWS = 2_000


def quantise(student: bytes, calibration_rows: NDArray[np.float32]) -> bytes:
    """Quantise a student's hidden layers: QDQ, unsigned 8-bit activations, signed weights per channel.

    The output layer (one column) and the guard stay in float: they are a thousandth of the weights, and eight
    bits on the output would leave 256 different scores.

    Parameters
    ----------
    student : bytes
        FP32 graph from `quant_assets.artifacts.onnx.student.distil`.
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


# ------------------------------------------------------------------------------------------------ the student


NOT_APPLICABLE = (
    "the graph is made of trees: INT8 quantisation leaves a tree ensemble as it is, same bytes and same speed "
    "(onnxruntime#11436)"
)
_HIDDEN_LAYERS = (128, 64)
_EPOCHS = 30
_MOST_ROWS = 20_000  # 30 epochs of them take about 3 s on one core
_CLIP_QUANTILES = (0.005, 0.995)


@dataclass(frozen=True)
class Student:
    """The distilled student in both precisions.

    Attributes
    ----------
    subject : str
        Data version of the ensemble that it imitates.
    fp32, int8 : bytes
        ONNX graphs; the second is the first, quantised.
    """

    subject: str
    fp32: bytes
    int8: bytes

    def to_json(self) -> dict[str, Any]:
        """The stored record: plain data, graphs in base64."""
        return {
            "kind": "student",
            "subject": self.subject,
            "fp32_bytes": len(self.fp32),
            "int8_bytes": len(self.int8),
            "fp32": base64.b64encode(self.fp32).decode(),
            "int8": base64.b64encode(self.int8).decode(),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Student | None":
        """Read a stored record back; None when it says that there is no student.

        Raises
        ------
        ArtifactError
            When a field is missing, or a graph is not base64 of the recorded size.
        """
        try:
            if record["kind"] == "not_applicable":
                return None
            fp32, int8 = (base64.b64decode(record[name], validate=True) for name in ("fp32", "int8"))
            if (record["kind"], record["fp32_bytes"], record["int8_bytes"]) == (
                "student",
                len(fp32),
                len(int8),
            ):
                return cls(record["subject"], fp32, int8)
            found = f"kind {record['kind']!r}, graphs of {len(fp32)} and {len(int8)} bytes"
        except (KeyError, TypeError, binascii.Error) as error:
            found = f"{type(error).__name__}: {error}"
        raise ArtifactError(
            "stored student",
            expected="kind 'student' with subject, fp32, int8 and their sizes, or kind 'not_applicable'",
            found=found,
            action="materialise the INT8 artifact again",
        )


def student_record(
    ensemble: Any, rows: NDArray[np.float32], *, subject: str, wanted: bool, seed: int
) -> dict[str, Any]:
    """The INT8 artifact of a strategy as plain data: a student, or the reason why there is none.

    Parameters
    ----------
    ensemble : plain data
        A stored ensemble.
    rows : ndarray of float32, shape (n, f)
        Rows of the training window, in time order, finite.
    subject : str
        Data version of the ensemble.
    wanted : bool
        Whether the strategy asks for a student.
    seed : int
    """
    if not wanted:
        return {"kind": "not_applicable", "subject": subject, "reason": NOT_APPLICABLE}
    return make_student(Ensemble.from_json(ensemble), rows, subject=subject, seed=seed).to_json()


def make_student(ensemble: Ensemble, rows: NDArray[np.float32], *, subject: str, seed: int) -> Student:
    """Distil a student from an ensemble and quantise it, both on rows of the training window."""
    fp32 = distil(ensemble, rows, subject=subject, seed=seed)
    return Student(subject, fp32, quantise(fp32, rows))


def distil(ensemble: Ensemble, rows: NDArray[np.float32], *, subject: str, seed: int) -> bytes:
    """Train the student on the ensemble's scores and return its FP32 graph.

    Parameters
    ----------
    ensemble : Ensemble
        The teacher.
    rows : ndarray of float32, shape (n, f)
        Rows of the training window in time order; every k-th is used, at most 20,000.
    subject : str
        Data version of the ensemble.
    seed : int
        Of the initial weights and the order of the batches.

    Returns
    -------
    bytes
        ONNX: input ``features``, output ``score`` in the teacher's units. Same input, same bytes on one host.

    Raises
    ------
    ArtifactError
        When there are no rows, or one of them is not finite.
    """
    sample = spaced(rows, _MOST_ROWS)
    if not len(sample) or not np.isfinite(sample).all():
        raise ArtifactError(
            "rows to distil on",
            expected="rows of the training window, every feature finite",
            found=f"{len(sample)} rows, {int((~np.isfinite(sample)).any(axis=1).sum())} of them not finite",
            action="pass the features of the training set",
        )
    low, high = np.quantile(sample, _CLIP_QUANTILES, axis=0).astype(np.float32)
    clipped = np.clip(sample, low, high).astype(np.float64)
    centre, scale = clipped.mean(axis=0), clipped.std(axis=0)
    inverse = np.where(scale > 0, 1.0 / np.where(scale > 0, scale, 1.0), 0.0)
    scores = ensemble.predict(sample)
    level, spread = float(scores.mean()), spread_of(scores)
    network = _trained(
        ((clipped - centre) * inverse).astype(np.float32), (scores - level) / (spread or 1.0), seed
    )

    graph = Graph()
    n_features = rows.shape[1]
    value = graph.node("Max", [INPUT, graph.constant("clip/low", low)], "clip/lower")
    value = graph.node("Min", [value, graph.constant("clip/high", high)], "clip/upper")
    value = graph.node(
        "Sub", [value, graph.constant("scale/centre", centre.astype(np.float32))], "scale/centred"
    )
    value = graph.node(
        "Mul", [value, graph.constant("scale/inverse", inverse.astype(np.float32))], "scale/unit"
    )
    value = graph.part(_converted(network, n_features), STUDENT_PREFIX, value)
    value = graph.node(
        "Mul", [value, graph.constant("teacher/spread", _scalar(spread))], "teacher/spread_out"
    )
    value = graph.node("Add", [value, graph.constant("teacher/level", _scalar(level))], "teacher/levelled")
    graph.guarded_score(value, n_features)
    return finished_model(
        graph,
        n_features=n_features,
        name="student",
        metadata={**identity(ensemble, subject), "student": "fp32"},
        extra_outputs={},
    )


def _trained(inputs: NDArray[np.float32], targets: NDArray[np.float64], seed: int) -> Any:
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPRegressor
    from threadpoolctl import threadpool_limits

    network = MLPRegressor(
        hidden_layer_sizes=_HIDDEN_LAYERS,
        batch_size=min(256, len(inputs)),
        learning_rate_init=2e-3,
        max_iter=_EPOCHS,
        tol=0.0,
        n_iter_no_change=_EPOCHS,
        random_state=seed,
    )
    # One BLAS thread: with more, the order of its sums and so the weights' bits depend on their number. The
    # epochs are a budget, so "not converged" after them is no news.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return network.fit(inputs, targets.astype(np.float32))


def _converted(network: Any, n_features: int) -> Any:
    from skl2onnx import to_onnx

    return to_onnx(network, np.zeros((1, n_features), dtype=np.float32), target_opset=dict(OPSETS))


def _scalar(value: float) -> NDArray[np.float32]:
    return np.array([value], dtype=np.float32)
