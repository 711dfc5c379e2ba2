"""What a runtime costs in time: wall time of calls, contestants in turn, and the cold start of a fresh process.

What else the machine does falls on all contestants.
"""

import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant_assets.common.errors import ArtifactError

# ------------------------------------------------------------------------------------------------------ calls


BATCHES = (1, 32, 1_000, 100_000)

# Calls of one contestant on end at one row: as in serving, its code and trees stay in the caches for a while.
_SINGLE_ROW_BLOCK = 10


@dataclass(frozen=True)
class Latency:
    """Wall times of one contestant at one batch size.

    Attributes
    ----------
    p50_us, p99_us : float
        Median and 99th percentile of a call, microseconds. With less than 100 calls the latter is the slowest one.
    rows_per_second : float
        Rows of a call over its median time.
    repetitions : int
        Measured calls.
    """

    p50_us: float
    p99_us: float
    rows_per_second: float
    repetitions: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)


def measure(
    scorers: Mapping[str, Callable[[NDArray[np.float32]], object]],
    rows: NDArray[np.float32],
    batch: int,
    repetitions: int,
) -> dict[str, Latency]:
    """Time every contestant at one batch size.

    Parameters
    ----------
    scorers : mapping of str to callable
        Each takes a C-contiguous float32 matrix of ``batch`` rows.
    rows : ndarray of float32, shape (n, f)
        Real rows. Calls walk over them, and start again at the end.
    batch : int
        Rows of a call.
    repetitions : int
        Calls of each contestant, at least; one row goes in blocks of ten.
    """
    block = _SINGLE_ROW_BLOCK if batch == 1 else 1
    pool = np.resize(rows, (max(len(rows), 2 * batch), rows.shape[1])) if len(rows) < 2 * batch else rows
    names = list(scorers)
    taken: dict[str, list[int]] = {name: [] for name in names}
    for name in names:
        for _ in range(block):
            scorers[name](np.ascontiguousarray(pool[:batch]))
    with _no_collector():
        for number in range(-(-repetitions // block)):
            first = number % len(names)
            for name in names[first:] + names[:first]:  # nobody always runs after the same one
                score = scorers[name]
                for step in range(block):
                    start = (number * block + step) * batch % (len(pool) - batch + 1)
                    matrix = pool[start : start + batch]
                    before = time.perf_counter_ns()
                    score(matrix)
                    taken[name].append(time.perf_counter_ns() - before)
    return {name: _summary(times, batch) for name, times in taken.items()}


def _summary(nanoseconds: list[int], batch: int) -> Latency:
    times = np.array(nanoseconds, dtype=np.float64) / 1e3
    p50 = float(np.percentile(times, 50))
    return Latency(
        p50_us=p50,
        p99_us=float(np.percentile(times, 99, method="higher")),
        rows_per_second=batch / p50 * 1e6,
        repetitions=len(times),
    )


@contextmanager
def _no_collector() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


# ------------------------------------------------------------------------------------------------- cold start


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
    """Measure one contestant in a process of its own: imports of its library, its files, one prediction.

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
