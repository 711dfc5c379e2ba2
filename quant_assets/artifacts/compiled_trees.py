"""Trees as machine code: treelite reads the native models, tl2cgen writes C, the host's compiler does the rest.

An optional extra (``pip install quant-assets[compiled]``), and a compiler of the host. The library is made where it
is used and travels in no bundle: bundles hold nothing that can be executed.
"""

import importlib.util
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant_assets.models.ensemble import Ensemble

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
