"""The runtimes that can score a strategy's model, each opened from a folder of files as a serving process would.

Every contestant runs on one thread. What it opens is written by `prepare`; nothing is shared in memory, so that
load time and memory can be measured in a process of its own.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant_assets.artifacts import compiled_trees
from quant_assets.artifacts.runtime import open_session
from quant_assets.artifacts.scorer import Scorer
from quant_assets.artifacts.single_row import single_row_scorer
from quant_assets.artifacts.student import NOT_APPLICABLE, Student
from quant_assets.common.errors import ArtifactError
from quant_assets.models.ensemble import Ensemble

Score = Callable[[NDArray[np.float32]], NDArray[Any]]
"""Features (n, f) float32 to scores (n,), NaN for rows that are not finite."""

NATIVE = "native"
NATIVE_ROW = "native_single_row"
ONNX = "onnx_fp32"
COMPILED = "compiled"
STUDENT = "student_fp32"
STUDENT_INT8 = "student_int8"

DESCRIPTIONS: Mapping[str, str] = {
    ONNX: "ONNX Runtime, the fused float32 graph, input and output bound once",
    NATIVE: "the base learners called one after another in Python, then the stacker",
    NATIVE_ROW: "LightGBM's single-row fast API and XGBoost's inplace_predict one after another, then the stacker",
    COMPILED: "trees compiled to machine code (treelite, tl2cgen, gcc -O2), then the stacker",
    STUDENT: "ONNX Runtime, the distilled student in float32: another model",
    STUDENT_INT8: "ONNX Runtime, the distilled student in INT8: another model",
}
"""In order of preference: of two that are equally fast, the first is chosen."""


@dataclass(frozen=True)
class Prepared:
    """One contestant, ready to be opened, or the reason why it is not there.

    Attributes
    ----------
    name : str
    folder : Path
        Its files.
    files : tuple of str
        What it loads.
    bytes_on_disk : int
    prepare_seconds : float
        Time that compilation took; 0 where nothing is compiled.
    missing : str or None
        Why it cannot take part.
    """

    name: str
    folder: Path
    files: tuple[str, ...] = ()
    bytes_on_disk: int = 0
    prepare_seconds: float = 0.0
    missing: str | None = None


def prepare(
    ensemble: Ensemble, onnx: bytes, int8: Mapping[str, Any] | None, folder: Path
) -> dict[str, Prepared]:
    """Write every contestant's files below a folder, in order of preference.

    Parameters
    ----------
    ensemble : Ensemble
    onnx : bytes
        Its fused graph.
    int8 : mapping or None
        The record of `quant_assets.artifacts.student.student_record`.
    folder : Path
        An empty folder.
    """
    student = None if int8 is None else Student.from_record(int8)
    record = json.dumps(ensemble.to_json()).encode()
    contents: dict[str, tuple[str, bytes] | None] = {
        ONNX: ("model.onnx", onnx),
        NATIVE: ("ensemble.json", record),
        NATIVE_ROW: ("ensemble.json", record),
        COMPILED: None,
        STUDENT: ("student.onnx", student.fp32) if student else None,
        STUDENT_INT8: ("student.onnx", student.int8) if student else None,
    }
    prepared: dict[str, Prepared] = {}
    for name, content in contents.items():
        own = folder / name
        own.mkdir()
        if content is not None:
            (own / content[0]).write_bytes(content[1])
            prepared[name] = Prepared(name, own, (content[0],), len(content[1]))
        elif name == COMPILED:
            prepared[name] = _compiled(ensemble, own)
        else:
            prepared[name] = Prepared(name, own, missing=NOT_APPLICABLE)
    return prepared


def _compiled(ensemble: Ensemble, folder: Path) -> Prepared:
    reason = compiled_trees.missing(ensemble)
    if reason is not None:
        return Prepared(COMPILED, folder, missing=reason)
    started = time.perf_counter()
    files = compiled_trees.compile_ensemble(ensemble, folder)
    seconds = time.perf_counter() - started
    return Prepared(COMPILED, folder, files, sum((folder / f).stat().st_size for f in files), seconds)


def open_contestant(name: str, folder: Path) -> Callable[[int], Score]:
    """Load a contestant from its files.

    Returns
    -------
    callable
        From a number of rows to the function that scores batches of just that many.

    Raises
    ------
    ArtifactError
        For an unknown name.
    """
    match name:
        case "native":
            ensemble = Ensemble.from_json(json.loads((folder / "ensemble.json").read_bytes()))
            return lambda _: ensemble.predict
        case "native_single_row":
            ensemble = Ensemble.from_json(json.loads((folder / "ensemble.json").read_bytes()))
            return lambda _: single_row_scorer(ensemble)
        case "onnx_fp32":
            return _bound((folder / "model.onnx").read_bytes())
        case "student_fp32" | "student_int8":
            return _bound((folder / "student.onnx").read_bytes())
        case "compiled":
            score = compiled_trees.open_compiled(folder)
            return lambda _: score
        case other:
            raise ArtifactError(
                f"runtime {other!r}",
                expected=", ".join(DESCRIPTIONS),
                found=repr(other),
                action="name one of these",
            )


def takes(name: str, batch: int) -> bool:
    """Whether a contestant takes part at a batch size: the single-row one only at one row."""
    return name != NATIVE_ROW or batch == 1


def _bound(graph: bytes) -> Callable[[int], Score]:
    session = open_session(graph)
    return lambda batch: Scorer(session, batch)
