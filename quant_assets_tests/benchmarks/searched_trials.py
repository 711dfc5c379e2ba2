"""What the order of trials shows: how often honest ones are taken for a search, and what a search still gains.

    python -m quant_assets_tests.benchmarks.searched_trials [--ledgers 400]

Normal returns unless said otherwise; noise over two years, skill (an annual Sharpe ratio of 2) over ten. "Passes" is
the best trial above the bar of `level_of_best` and an annual Sharpe ratio of 1.2, without the other gates. How often
whole gates pass is what `quant-assets calibrate --full` measures.
"""

import argparse
import math
import sys
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from quant_assets.gates.limits import GatesConfig
from quant_assets.statistics.overfitting import SEARCH_LEVEL, level_of_best, search_p_value
from quant_assets.statistics.rates import Rate

SEED = 20261128
YEAR = 252
Streams = NDArray[np.float64]
Law = Callable[[np.random.Generator, int, int], Streams]  # of one ledger: (trials, periods)


def plateau(rho: float) -> Law:
    """Equally correlated trials."""
    return lambda draws, n, t: (
        math.sqrt(1 - rho) * draws.standard_normal((n, t)) + math.sqrt(rho) * draws.standard_normal(t)
    )


def crashing(rho: float) -> Law:
    """The same with a skewness of -2."""
    return lambda draws, n, t: (
        math.sqrt(1 - rho) * (1 - draws.exponential(size=(n, t)))
        + math.sqrt(rho) * (1 - draws.exponential(size=t))
    )


def changing(rho: float, pick: Callable[[np.random.Generator, NDArray[np.float64], int], int]) -> Law:
    """Trials of which each is a change of an earlier one, or (-1) a new one; ``pick`` sees the earlier ratios."""

    def drawn(draws: np.random.Generator, n: int, t: int) -> Streams:
        streams = draws.standard_normal((n, t))
        shown = np.array([streams[0].mean() / streams[0].std()])
        for k in range(1, n):
            parent = pick(draws, shown, k)
            if parent >= 0:
                streams[k] = rho * streams[parent] + math.sqrt(1 - rho**2) * streams[k]
            shown = np.append(shown, streams[k].mean() / streams[k].std())
        return streams

    return drawn


HONEST: dict[str, Law] = {
    "plateau, correlation .8": plateau(0.8),
    "independent, skewness -2": crashing(0.0),
    "plateau that crashes together, correlation .9, skewness -2": crashing(0.9),
    "grid walked in order, correlation .9 of neighbours": changing(0.9, lambda _, shown, k: k - 1),
    "grid walked in order, correlation .98 of neighbours": changing(0.98, lambda _, shown, k: k - 1),
    "changes of the first trial, correlation .8": changing(0.8, lambda _, shown, k: 0),
}
SEARCHES: dict[str, Law] = {
    "of the best so far, correlation .5": changing(0.5, lambda _, shown, k: int(shown.argmax())),
    "of the best so far, correlation .8": changing(0.8, lambda _, shown, k: int(shown.argmax())),
    "of the best so far, correlation .95": changing(0.95, lambda _, shown, k: int(shown.argmax())),
    "the same, every second trial a new one": changing(
        0.8, lambda _, shown, k: -1 if k % 2 else int(shown.argmax())
    ),
    "of one of the three best, correlation .8": changing(
        0.8, lambda draws, shown, k: int(draws.choice(np.argsort(-shown)[:3]))
    ),
    "in starts of ten trials, correlation .8": changing(
        0.8, lambda _, shown, k: -1 if k % 10 == 0 else k - k % 10 + int(shown[k - k % 10 :].argmax())
    ),
}
GRID = "grid walked in order, correlation .9 of neighbours"


def measured(
    law: Law, n_trials: int, ledgers: int, years: int, skill: Streams | float
) -> tuple[int, int, int]:
    """Of so many ledgers: taken for a search, and passing without and with what the order shows."""
    draws = np.random.Generator(np.random.PCG64([SEED, n_trials]))
    limits, periods = GatesConfig(), years * YEAR
    level = [level_of_best(n_trials, limits.false_pass_max, searched=flag) for flag in (False, True)]
    bars = np.fmax(-ndtri(level), limits.sharpe_min * math.sqrt(years))
    found = [0, 0, 0]
    for _ in range(ledgers):
        streams = law(draws, n_trials, periods) + (np.zeros(n_trials) + skill)[:, None] / math.sqrt(YEAR)
        best = float((streams.mean(axis=1) / streams.std(axis=1)).max()) * math.sqrt(periods)
        searched = search_p_value(streams.T) <= SEARCH_LEVEL
        found = [
            a + b
            for a, b in zip(found, (searched, best >= bars[0], best >= bars[int(searched)]), strict=True)
        ]
    return found[0], found[1], found[2]


def few_trials(repetitions: int = 4_000_000) -> Iterator[str]:
    """What a search of so few trials that no order shows it gains, in its best steps: Sharpe ratios are normal."""
    limit = GatesConfig().false_pass_max
    draws = np.random.Generator(np.random.PCG64(SEED))
    for n_trials in (2, 3, 4):
        fresh = draws.standard_normal((n_trials, repetitions))
        for rho in (0.3, 0.5, 0.8):
            best = fresh[0].copy()
            for new in fresh[1:]:
                best = np.maximum(best, rho * best + math.sqrt(1 - rho**2) * new)
            passes = int((best >= -ndtri(level_of_best(n_trials, limit))).sum())
            yield f"search of {n_trials}, correlation {rho:g}: {Rate(passes, repetitions).estimate:.3%} pass\n"


def main(write: Callable[[str], object] = sys.stdout.write) -> None:
    """Measure and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--ledgers", type=int, default=400)
    ledgers = parser.parse_args().ledgers
    for line in few_trials():
        write(line)
    rows: list[tuple[str, Law, int, Streams | float]] = [
        *(
            (f"honest, {name}", law, years, skill)
            for name, law in HONEST.items()
            for years, skill in ((2, 0.0), (10, 2.0))
        ),
        *(
            (f"search {name}", law, years, skill)
            for name, law in SEARCHES.items()
            for years, skill in ((2, 0.0), (10, 2.0))
        ),
    ]
    for n_trials in (5, 10, 14, 40):
        rising = (f"honest, {GRID}, true Sharpe 1 to 2", HONEST[GRID], 10, np.linspace(1.0, 2.0, n_trials))
        for name, law, years, skill in (*rows, rising):
            shares = [Rate(int(n), ledgers) for n in measured(law, n_trials, ledgers, years, skill)]
            seen, before, after = (
                f"{r.estimate:.1%} ({r.interval[0]:.1%} to {r.interval[1]:.1%})" for r in shares
            )
            kind = "skill" if np.any(skill) else "noise"
            write(
                f"{n_trials} trials, {name}, {kind}: {seen} a search; pass {before}, with the order {after}\n"
            )


if __name__ == "__main__":
    main()
