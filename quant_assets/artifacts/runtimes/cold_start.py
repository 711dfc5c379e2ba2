"""Load time and memory of a runtime, in a process of its own: imports of its library, its files, one prediction."""

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant_assets.common.errors import ArtifactError

_ROW, _RESULT = "row.f32", "cold_start.json"
_TIMEOUT_SECONDS = 120


@dataclass(frozen=True)
class ColdStart:
    """What a fresh process needs before its first prediction.

    Attributes
    ----------
    load_seconds : float
        Import of the runtime's library, and its files read and checked.
    first_prediction_seconds : float
        The first call with one row.
    memory_bytes : int
        Growth of resident memory over both.
    """

    load_seconds: float
    first_prediction_seconds: float
    memory_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data, with the sum of both times."""
        return {**asdict(self), "total_seconds": self.load_seconds + self.first_prediction_seconds}


def cold_start(name: str, folder: Path, row: NDArray[np.float32]) -> ColdStart:
    """Measure one contestant.

    Parameters
    ----------
    name : str
    folder : Path
        Its files, as `quant_assets.artifacts.runtimes.contestants.prepare` wrote them.
    row : ndarray of float32, shape (1, f)

    Raises
    ------
    ArtifactError
        When the process fails, with the last line that it said.
    """
    row.astype(np.float32).tofile(folder / _ROW)
    script = f"from {__name__} import child; child({name!r}, {str(folder)!r})"
    # The search path of this process, or an extra that is not in the environment proper would be missing there.
    command = [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}\n{script}"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_SECONDS)  # noqa: S603
    if run.returncode != 0:
        raise ArtifactError(
            f"cold start of runtime {name!r}",
            expected="one prediction in a fresh process",
            found=(run.stderr.strip().splitlines() or ["no message"])[-1],
            action="load it by hand with quant_assets.artifacts.runtimes.contestants.open_contestant",
        )
    return ColdStart(**json.loads((folder / _RESULT).read_text()))


def child(name: str, folder: str) -> None:
    """The fresh process: measure, and leave the numbers beside the files."""
    import psutil  # type: ignore[import-untyped,unused-ignore]

    from quant_assets.artifacts.runtimes.contestants import open_contestant

    process, files = psutil.Process(), Path(folder)
    row = np.fromfile(files / _ROW, dtype=np.float32)[None]
    memory, started = process.memory_info().rss, time.perf_counter()
    score = open_contestant(name, files)(1)
    loaded = time.perf_counter()
    score(row)
    done = time.perf_counter()
    found = ColdStart(loaded - started, done - loaded, process.memory_info().rss - memory)
    (files / _RESULT).write_text(json.dumps(asdict(found)))
