"""Level 1 with a ledger: the best of many trials, judged with all of them on record, without skill and with it.

What is tried decides how far the best of it stands out. A plateau is N variants of one strategy, which correlate;
mixed is one strategy among N - 1 that have nothing to do with it; near copies are one strategy 400 times; a search
changes the best trial so far and keeps what looks better. Without skill every trial has a true Sharpe ratio of 0;
with it all have the same one, and in the mixed ledger only one. The candidate is the trial with the best one.

The best trials of all ledgers go through `quant_assets.studies.calibration.series.decide`, which decides as the gates
do. Records of all lengths are beginnings of the longest one, so rows of one ledger are not independent of each other.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from quant_assets.common.errors import ValidationError
from quant_assets.gates.limits import GatesConfig
from quant_assets.statistics.overfitting import SEARCH_LEVEL, search_p_value
from quant_assets.statistics.rates import Rate
from quant_assets.studies.calibration.series import (
    DAILY_LAW,
    PERIODS_PER_YEAR,
    ReturnLaw,
    Series,
    block_starts,
    decide,
    first_halves,
    scatters,
)

Kind = Literal["plateau", "mixed", "copies", "search"]
VALUES_AT_ONCE = 4_000_000  # of a batch of ledgers: 32 MB


@dataclass(frozen=True)
class LedgerPlan:
    """Ledgers of one kind.

    Attributes
    ----------
    kind : {"plateau", "mixed", "copies", "search"}
    n_trials : int
    correlation : float
        Of any two trials of a plateau or of copies; of a search's next trial with the best one so far.
    n_ledgers, n_skilled : int
        Without skill, and with it: the first of them again.
    """

    kind: Kind
    n_trials: int
    correlation: float
    n_ledgers: int
    n_skilled: int

    def __post_init__(self) -> None:
        sound = (
            self.n_trials >= 1 and 0.0 <= self.correlation <= 1.0 and 1 <= self.n_skilled <= self.n_ledgers
        )
        if not sound:
            raise ValidationError(
                "calibration on ledgers",
                expected="at least one trial, a correlation from 0 to 1, and 1 <= n_skilled <= n_ledgers",
                found=f"{asdict(self)}",
                action="correct the plan",
            )

    @property
    def title(self) -> str:
        """In words."""
        said = {
            "plateau": f"plateau, correlation {self.correlation:g}",
            "mixed": "one among independent others",
            "copies": f"near copies, correlation {self.correlation:g}",
            "search": f"search in steps of correlation {self.correlation:g}",
        }
        return "one trial" if self.n_trials == 1 else f"{self.n_trials} trials, {said[self.kind]}"


@dataclass(frozen=True)
class LedgerRates:
    """How often the best trial of ledgers of one kind passed.

    Attributes
    ----------
    plan : LedgerPlan
    true_sharpe_annual, years, annual_volatility : float
    admitted : Rate
        By every gate.
    underpowered, deflated_alone : Rate
        Told that the record is too short; passed the deflated Sharpe gate alone.
    """

    plan: LedgerPlan
    true_sharpe_annual: float
    years: float
    annual_volatility: float
    admitted: Rate
    underpowered: Rate
    deflated_alone: Rate

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "title": self.plan.title,
            "plan": asdict(self.plan),
            "true_sharpe_annual": self.true_sharpe_annual,
            "years": self.years,
            "annual_volatility": self.annual_volatility,
            "admitted": self.admitted.to_json(),
            "underpowered": self.underpowered.to_json(),
            "deflated_alone": self.deflated_alone.to_json(),
        }


Cell = tuple[float, float, float]  # true Sharpe ratio, years, volatility
Counts = dict[Cell, NDArray[np.int64]]  # admitted, underpowered, deflated alone


def calibrate_on_ledgers(
    limits: GatesConfig,
    *,
    plans: Sequence[LedgerPlan],
    years: Sequence[float],
    volatilities: Sequence[float],
    true_sharpe_annual: float,
    seed: int,
    law: ReturnLaw = DAILY_LAW,
    n_jobs: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[LedgerRates, ...]:
    """Measure how often the best trial of a ledger passes, without skill and with it.

    Parameters
    ----------
    limits : GatesConfig
    plans : sequence of LedgerPlan
        Those of equally many trials share their draws.
    years : sequence of float
        Lengths of the records, at the law's volatility.
    volatilities : sequence of float
        Annual; the others are measured at ten years where that is among ``years``.
    true_sharpe_annual : float
        Of the skilled.
    seed : int
    law : ReturnLaw
    n_jobs : int, default 2
        Processes. The result does not depend on it.
    progress : callable, optional
        Called with (batches done, batches in all).
    """
    from joblib import Parallel, delayed

    longest = round(max(years) * PERIODS_PER_YEAR)
    jobs = []
    for plan in plans:
        size = max(1, VALUES_AT_ONCE // (plan.n_trials * longest))
        jobs += [(plan, first, min(size, plan.n_ledgers - first)) for first in range(0, plan.n_ledgers, size)]
    cells = [
        (ratio, length, volatility)
        for ratio in (0.0, true_sharpe_annual)
        for length in years
        for volatility in (volatilities if length == 10.0 else (law.annual_volatility,))
    ]
    running: Iterable[Counts] = Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(_batch)(limits, plan, first, rows, longest, cells, seed, law) for plan, first, rows in jobs
    )
    totals = {plan: {cell: np.zeros(3, dtype=np.int64) for cell in cells} for plan in plans}
    for done, ((plan, _, _), counts) in enumerate(zip(jobs, running, strict=True), start=1):
        for cell, count in counts.items():
            totals[plan][cell] += count
        if progress is not None:
            progress(done, len(jobs))
    return tuple(
        LedgerRates(
            plan,
            *cell,
            *(
                Rate(int(passes), plan.n_skilled if cell[0] else plan.n_ledgers)
                for passes in totals[plan][cell]
            ),
        )
        for plan in plans
        for cell in cells
    )


def _batch(
    limits: GatesConfig,
    plan: LedgerPlan,
    first: int,
    rows: int,
    longest: int,
    cells: Sequence[Cell],
    seed: int,
    law: ReturnLaw,
) -> Counts:
    """Decide some of a plan's ledgers in all cells."""
    own, common = _draws(plan, first, rows, longest, seed, law)
    if plan.kind in ("plateau", "copies"):
        own *= math.sqrt(1.0 - plan.correlation)
        own += math.sqrt(plan.correlation) * common
    counts: Counts = {}
    skilled = min(max(plan.n_skilled - first, 0), rows)
    for ratio, years in dict.fromkeys(cell[:2] for cell in cells):
        held, periods = (skilled if ratio else rows), round(years * PERIODS_PER_YEAR)
        if not held:
            continue
        shift = np.zeros(plan.n_trials)
        shift[: 1 if plan.kind == "mixed" else None] = ratio / math.sqrt(PERIODS_PER_YEAR)
        drawn = own[:held, :, :periods]
        trials = _searched(drawn, plan.correlation, shift[0]) if plan.kind == "search" else drawn
        best, variance, sums, squares = _chosen(trials, shift)
        losses = np.full(held, np.nan)
        known, searched = np.zeros((2, held), dtype=np.bool_)
        candidates = trials[np.arange(held), best] + shift[best][:, None]
        at = limits.model_copy(update={"loss_probability_max": 1.0})
        for cell in (cell for cell in cells if cell[:2] == (ratio, years)):
            scale = cell[2] / math.sqrt(PERIODS_PER_YEAR)
            decided = partial(
                decide, scale * candidates, at, PERIODS_PER_YEAR,
                n_trials=plan.n_trials, variance=variance, loss=np.zeros(held),
            )  # fmt: skip
            # A search only asks for a longer record, so of those whose record is too short it need not be known.
            decisions = decided()
            for i in np.flatnonzero(decisions.passed["cpcv_sharpe"] & ~known):
                known[i] = True
                searched[i] = search_p_value(trials[i].T + shift) <= SEARCH_LEVEL
            if searched.any():
                decisions = decided(searched=searched)
            # Only ledgers that every other gate lets pass have to be cut into halves.
            asked = np.flatnonzero(decisions.admitted)
            for i in asked[np.isnan(losses[asked])]:
                losses[i] = _loss(sums[i], squares[i], periods)
            counts[cell] = np.array(
                [
                    int((losses[asked] <= limits.loss_probability_max).sum()),
                    int(decisions.underpowered.sum()),
                    int(decisions.passed["cpcv_deflated_sharpe"].sum()),
                ]
            )
    return counts


def _draws(
    plan: LedgerPlan, first: int, rows: int, longest: int, seed: int, law: ReturnLaw
) -> tuple[Series, Series]:
    """Scatter of the trials, shape (ledgers, trials, T), and what they have in common, shape (ledgers, 1, T)."""
    child = np.random.SeedSequence([seed, plan.n_trials, first]).generate_state(2)
    common = np.concatenate(list(scatters(law, rows, longest, int(child[0]))))[:, None, :]
    if plan.kind == "copies":
        # A thousandth of the variance: that its law is a normal's changes nothing, and takes a tenth of the time.
        draws = np.random.Generator(np.random.PCG64(int(child[1])))
        own = draws.standard_normal((rows, plan.n_trials, longest), dtype=np.float32).astype(np.float64)
    else:
        own = np.concatenate(list(scatters(law, rows * plan.n_trials, longest, int(child[1]))))
    return own.reshape(rows, plan.n_trials, longest), common


def _searched(own: Series, correlation: float, shift: float) -> Series:
    """Trials of a search: each is a change of the best one so far, by the Sharpe ratio that it shows."""
    trials = np.empty_like(own)
    best: Series = own[:, 0].copy()
    trials[:, 0] = best
    highest = (best.mean(axis=1) + shift) / best.std(axis=1)
    for number in range(1, own.shape[1]):
        found = correlation * best + math.sqrt(1.0 - correlation**2) * own[:, number]
        trials[:, number] = found
        ratio = (found.mean(axis=1) + shift) / found.std(axis=1)
        better = ratio > highest
        best[better], highest[better] = found[better], ratio[better]
    return trials


def _chosen(trials: Series, shift: Series) -> tuple[NDArray[np.int64], Series, Series, Series]:
    """The best trial of each ledger, the variance of the others' Sharpe ratios, and sums and squares of blocks."""
    periods, n_trials = trials.shape[2], trials.shape[1]
    starts = block_starts(periods)
    lengths = np.diff(np.append(starts, periods))
    sums = np.add.reduceat(trials, starts, axis=2)
    squares = np.add.reduceat(trials**2, starts, axis=2)
    moved = shift[None, :, None]
    squares += 2.0 * moved * sums + moved**2 * lengths
    sums += moved * lengths
    total, square = sums.sum(axis=2), squares.sum(axis=2)
    ratios = (total / periods) / np.sqrt((square - total**2 / periods) / (periods - 1))
    best = ratios.argmax(axis=1)
    variance = np.zeros(len(trials))
    if n_trials > 2:
        others = ratios[np.arange(n_trials) != best[:, None]].reshape(len(trials), n_trials - 1)
        variance = others.var(axis=1, ddof=1)
    return best, variance, sums, squares


def _loss(sums: Series, squares: Series, periods: int) -> float:
    """Probability of loss (CSCV) of one ledger from sums and squares of its blocks, shape (trials, blocks)."""
    halves = first_halves()
    lengths = np.diff(np.append(block_starts(periods), periods))
    total, square = sums.sum(axis=1), squares.sum(axis=1)
    chosen, chosen_squares, n = halves @ sums.T, halves @ squares.T, (halves @ lengths)[:, None]

    def ratio(a: Series, b: Series, count: Series) -> Series:
        return np.asarray(a / np.sqrt(np.maximum(count * b - a * a, 1e-300)))

    inside = ratio(chosen, chosen_squares, n)
    outside = ratio(total - chosen, square - chosen_squares, periods - n)
    rows = np.arange(len(halves))
    forwards = outside[rows, inside.argmax(axis=1)] <= 0.0
    backwards = inside[rows, outside.argmax(axis=1)] <= 0.0
    return float((forwards.sum() + backwards.sum()) / (2 * len(halves)))
