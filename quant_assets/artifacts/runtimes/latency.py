"""What is measured of a runtime: its calls, its start in a process of its own, and whether it decides alike."""

import gc
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant_assets.artifacts.onnx.parity import (
    Decisions,
    RowSetParity,
    extreme_rows,
    not_finite_rows,
    on_threshold_rows,
    plain,
    rank_correlation,
)
from quant_assets.artifacts.runtimes.contestants import NATIVE_ROW, Score
from quant_assets.common.errors import ArtifactError
from quant_assets.gates.limits import GatesConfig
from quant_assets.models.ensemble import Ensemble

# ------------------------------------------------------------------------------------------------------ calls

# Contestants in turn: what else the machine does falls on all of them.
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


# -------------------------------------------------------------- parity of every runtime with the native model


# Rows that are also scored one at a time: a runtime may have another path for a single row.
_SINGLE_ROWS = 300


@dataclass(frozen=True)
class RuntimeParity:
    """One runtime against the native model.

    Attributes
    ----------
    row_sets : mapping of str to RowSetParity
        ``real``, ``on_threshold`` and ``extreme`` in one batch each, ``one_at_a_time`` a sample of them.
    rank_correlation : float
        The lowest of the real and the on-threshold rows.
    not_finite_answered : int
        Rows with a NaN or infinite feature that got a number.
    """

    row_sets: Mapping[str, RowSetParity]
    rank_correlation: float
    not_finite_answered: int

    @property
    def max_error_over_sd(self) -> float:
        """The largest error over the spread of the native scores; NaN when a score is missing."""
        return float(np.max([found.max_error_over_sd for found in self.row_sets.values()]))

    @property
    def flipped_decisions(self) -> int:
        """Decisions that differ, and rows that should have no score and have one."""
        return sum(found.flipped_decisions for found in self.row_sets.values()) + self.not_finite_answered

    def disqualified(self, limits: GatesConfig) -> str | None:
        """Why it must not stand for the model, by the limits of the parity gate; None when it may."""
        reasons = []
        if not self.max_error_over_sd <= limits.parity_max_error_over_sd:
            reasons.append(
                f"largest error {self.max_error_over_sd:.3g} spreads, at most {limits.parity_max_error_over_sd:g}"
            )
        if not self.rank_correlation >= limits.parity_min_rank_correlation:
            reasons.append(
                f"rank correlation {self.rank_correlation:.6f}, at least {limits.parity_min_rank_correlation:g}"
            )
        if not self.flipped_decisions <= limits.parity_max_flipped_decisions:
            reasons.append(
                f"{self.flipped_decisions} flipped decisions, at most {limits.parity_max_flipped_decisions}"
            )
        return "; ".join(reasons) or None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return plain(
            {
                "row_sets": {name: found.to_json() for name, found in self.row_sets.items()},
                "max_error_over_sd": self.max_error_over_sd,
                "rank_correlation": self.rank_correlation,
                "flipped_decisions": self.flipped_decisions,
                "not_finite_answered": self.not_finite_answered,
            }
        )


@dataclass(frozen=True)
class Agreement:
    """Every runtime against the native model, and every two of them against each other on all finite rows."""

    native: Mapping[str, RuntimeParity]
    pairs: tuple[dict[str, Any], ...]


def compare_runtimes(
    ensemble: Ensemble, opened: Mapping[str, Callable[[int], Score]], rows: NDArray[np.float32]
) -> Agreement:
    """Score the rows of the parity gate by every runtime.

    Parameters
    ----------
    ensemble : Ensemble
    opened : mapping of str to callable
        As given by `quant_assets.artifacts.runtimes.contestants.open_contestant`.
    rows : ndarray of float32, shape (n, f)
        Real rows, finite, at least two.
    """
    probes = list(on_threshold_rows(chain.from_iterable(m.trees() for m in ensemble.learners), rows))
    sets = {
        "real": rows,
        "on_threshold": np.concatenate(probes) if probes else rows[:0],
        "extreme": extreme_rows(rows),
    }
    broken = not_finite_rows(rows)
    sample = np.concatenate([_thinned(found, _SINGLE_ROWS) for found in sets.values()])
    native = {name: ensemble.predict(found) for name, found in sets.items()}
    decisions = Decisions.of(ensemble, rows, native["real"])
    parities: dict[str, RuntimeParity] = {}
    everything: dict[str, NDArray[np.float64]] = {}
    for name, runtime in opened.items():
        singly = decisions.compare(ensemble.predict(sample), _one_by_one(runtime, sample))
        found = {"one_at_a_time": singly}
        ranks = []
        scores = {}
        if name == NATIVE_ROW:  # it knows one row only
            ranks.append(rank_correlation(ensemble.predict(sample), _one_by_one(runtime, sample)))
            answered = int(np.isfinite(_one_by_one(runtime, broken)).sum())
        else:
            for kind, matrix in sets.items():
                scores[kind] = _in_one(runtime, matrix)
                found[kind] = decisions.compare(native[kind], scores[kind])
            ranks += [
                rank_correlation(native[k], scores[k]) for k in ("real", "on_threshold") if len(sets[k])
            ]
            answered = int(np.isfinite(_in_one(runtime, broken)).sum())
            everything[name] = np.concatenate(list(scores.values())).astype(np.float64)
        parities[name] = RuntimeParity(found, float(np.min(ranks)), answered)
    return Agreement(parities, _pairs(everything, decisions))


def _pairs(scores: Mapping[str, NDArray[np.float64]], decisions: Decisions) -> tuple[dict[str, Any], ...]:
    names = list(scores)
    found = []
    for position, left in enumerate(names):
        for right in names[position + 1 :]:
            both = decisions.compare(scores[left], scores[right].astype(np.float32))
            pair = {
                "left": left,
                "right": right,
                "rows": both.rows,
                "max_error_over_sd": both.max_error_over_sd,
                "rank_correlation": rank_correlation(scores[left], scores[right]),
                "flipped_decisions": both.flipped_decisions,
            }
            found.append(plain(pair))
    return tuple(found)


def _in_one(runtime: Callable[[int], Score], rows: NDArray[np.float32]) -> NDArray[np.float32]:
    if not len(rows):
        return np.empty(0, dtype=np.float32)
    return runtime(len(rows))(np.ascontiguousarray(rows)).astype(np.float32)


def _one_by_one(runtime: Callable[[int], Score], rows: NDArray[np.float32]) -> NDArray[np.float32]:
    score = runtime(1)
    return np.array([score(rows[k : k + 1])[0] for k in range(len(rows))], dtype=np.float32)


def _thinned(rows: NDArray[np.float32], most: int) -> NDArray[np.float32]:
    return rows[:: math.ceil(len(rows) / most)] if len(rows) else rows
