"""Wall time of calls, contestants in turn: what else the machine does falls on all of them."""

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
