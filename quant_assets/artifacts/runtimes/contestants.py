"""The runtimes that can score a strategy's model, each opened from a folder of files as a serving process would.

Every contestant runs on one thread. What it opens is written by `prepare`; nothing is shared in memory, so that
load time and memory can be measured in a process of its own.

Trees become machine code where treelite reads the native models, tl2cgen writes C and the host's compiler does the
rest: an optional extra (``pip install quant-assets[compiled]``). That library is made where it is used and travels in
no bundle: bundles hold nothing that can be executed.
"""

import ctypes
import importlib.util
import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant_assets.artifacts.onnx.scoring import Scorer, open_session
from quant_assets.artifacts.onnx.student import NOT_APPLICABLE, Student
from quant_assets.common.errors import ArtifactError
from quant_assets.models.ensemble import Ensemble
from quant_assets.models.learners import FittedLearner

# -------------------------------------------------------------------------------------- trees as machine code


_ENDINGS = {"lightgbm": "txt", "xgboost": "json"}
_STACK = "stack.json"
_UNITS = 8  # C files per library: one file of all trees takes the compiler far longer


def missing(ensemble: Ensemble) -> str | None:
    """Why an ensemble cannot be compiled here; None when it can."""
    foreign = [learner.name for learner in ensemble.learners if learner.name not in _ENDINGS]
    if foreign:
        return f"treelite does not read {', '.join(foreign)}"
    absent = [name for name in ("treelite", "tl2cgen") if importlib.util.find_spec(name) is None]
    if absent:
        return f"{' and '.join(absent)} not installed (extra `compiled`)"
    if shutil.which("gcc") is None:
        return "no gcc on this host"
    return None


def compile_ensemble(ensemble: Ensemble, folder: Path) -> tuple[str, ...]:
    """Compile every learner into a shared library in a folder.

    Returns
    -------
    tuple of str
        The files that `open_compiled` reads.
    """
    import tl2cgen
    import treelite

    ending = ".dylib" if sys.platform == "darwin" else ".so"
    files = []
    for learner in ensemble.learners:
        text = folder / f"{learner.name}.{_ENDINGS[learner.name]}"
        text.write_text(learner.margin_text)
        load = {
            "lightgbm": treelite.frontend.load_lightgbm_model,
            "xgboost": treelite.frontend.load_xgboost_model,
        }[learner.name]
        library = folder / f"{learner.name}{ending}"
        parameters = {"parallel_comp": _UNITS}
        tl2cgen.export_lib(load(text), toolchain="gcc", libpath=library, params=parameters, nthread=1)
        text.unlink()
        files.append(library.name)
    stacker = ensemble.stacker
    stack = {"files": files, "coefficients": stacker.coefficients, "intercept": stacker.intercept}
    (folder / _STACK).write_text(json.dumps(stack))
    return (*files, _STACK)


def open_compiled(folder: Path) -> Callable[[NDArray[np.float32]], NDArray[np.float64]]:
    """Load the libraries of a folder that this process trusts, and join them by their stacker."""
    import tl2cgen

    stack = json.loads((folder / _STACK).read_text())
    members: list[Any] = [tl2cgen.Predictor(folder / file, nthread=1) for file in stack["files"]]

    def score(features: NDArray[np.float32]) -> NDArray[np.float64]:
        total = np.full(len(features), stack["intercept"])
        for coefficient, member in zip(stack["coefficients"], members, strict=True):
            # Cast here: tl2cgen 1.0 asks numpy for an array without a copy, which numpy 2 refuses for another type.
            rows = tl2cgen.DMatrix(np.ascontiguousarray(features, dtype=member.threshold_type))
            total += coefficient * member.predict(rows, pred_margin=True).reshape(len(features))
        total[~np.isfinite(features).all(axis=1)] = np.nan
        return total

    return score


# ---------------------------------------------------------------------------------- members one after another


# LightGBM's C API: C_API_DTYPE_FLOAT32, C_API_PREDICT_RAW_SCORE.
_FLOAT32, _RAW_SCORE = 0, 1


def single_row_scorer(ensemble: Ensemble) -> Callable[[NDArray[np.float32]], NDArray[np.float64]]:
    """Scores of matrices of one row.

    LightGBM by ``LGBM_BoosterPredictForMatSingleRowFast``, which its Python package does not wrap; XGBoost by
    ``inplace_predict``; CatBoost as always. Sums in the stacker's order, so the bits are those of
    `Ensemble.predict`.
    """
    members = [_member(learner) for learner in ensemble.learners]
    intercept, coefficients = ensemble.stacker.intercept, ensemble.stacker.coefficients

    def score(features: NDArray[np.float32]) -> NDArray[np.float64]:
        if not np.isfinite(features).all():
            return np.array([np.nan])
        total = intercept
        for coefficient, member in zip(coefficients, members, strict=True):
            total += coefficient * member(features)
        return np.array([total])

    return score


def _member(learner: FittedLearner) -> Callable[[NDArray[np.float32]], float]:
    match learner.name:
        case "lightgbm":
            return _LightGBMRow(learner)
        case "xgboost":
            from quant_assets.models.xgboost_learner import load

            booster = load(learner.text)
            return lambda row: float(
                booster.inplace_predict(row, predict_type="margin", validate_features=False)[0]
            )
        case _:
            return lambda row: float(learner.predict(row)[0])


class _LightGBMRow:
    def __init__(self, learner: FittedLearner) -> None:
        import lightgbm

        from quant_assets.models.lightgbm_learner import load

        self._configuration = ctypes.c_void_p()
        self._library = lightgbm.basic._LIB  # type: ignore[attr-defined]
        self._booster = load(learner.text)  # keeps the handle alive
        width = len(learner.feature_names)
        self._row = np.zeros(width, dtype=np.float32)
        self._length, self._result = ctypes.c_int64(), ctypes.c_double()
        code = self._library.LGBM_BoosterPredictForMatSingleRowFastInit(
            self._booster._handle, _RAW_SCORE, 0, -1, _FLOAT32, ctypes.c_int32(width),
            ctypes.c_char_p(b"num_threads=1"), ctypes.byref(self._configuration),
        )  # fmt: skip
        self._check(code)
        self._arguments = (
            self._configuration,
            ctypes.c_void_p(self._row.ctypes.data),
            ctypes.byref(self._length),
            ctypes.byref(self._result),
        )
        self._predict: Any = self._library.LGBM_BoosterPredictForMatSingleRowFast

    def __call__(self, row: NDArray[np.float32]) -> float:
        self._row[:] = row[0]
        self._check(self._predict(*self._arguments))
        return self._result.value

    def __del__(self) -> None:
        if self._configuration:
            self._library.LGBM_FastConfigFree(self._configuration)

    @staticmethod
    def _check(code: int) -> None:
        if code != 0:
            raise ArtifactError(
                "LightGBM's single-row prediction",
                expected="return code 0",
                found=str(code),
                action="score through the ONNX graph, and report the versions of the libraries",
            )


# -------------------------------------------------------------------------------------------- the contestants


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
        The record of `quant_assets.artifacts.onnx.student.student_record`.
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
    reason = missing(ensemble)
    if reason is not None:
        return Prepared(COMPILED, folder, missing=reason)
    started = time.perf_counter()
    files = compile_ensemble(ensemble, folder)
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
            score = open_compiled(folder)
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
