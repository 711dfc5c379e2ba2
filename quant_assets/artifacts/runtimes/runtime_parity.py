"""Parity of every runtime with the native model, and with each other, on the rows of the parity gate."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant_assets.artifacts.onnx.agreement import (
    Decisions,
    RowSetParity,
    extreme_rows,
    not_finite_rows,
    on_threshold_rows,
    plain,
    rank_correlation,
)
from quant_assets.artifacts.runtimes.contestants import NATIVE_ROW, Score
from quant_assets.gates.limits import GatesConfig
from quant_assets.models.ensemble import Ensemble

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
