"""How often the deflated Sharpe gate passes the best of N trials without skill: the table that its verdicts state.

    python -m quant_assets_tests.benchmarks.deflated_alpha

writes `quant_assets.statistics.sharpe_inference.PASSED_WITHOUT_SKILL` as it has to stand there, and each share with
its interval. Sharpe ratios of long records are normal, so N standard normals stand for N trials: the best is the
candidate, V the larger of 1 and the variance of the others. `quant-assets calibrate --full` holds the table against
whole series.
"""

import argparse
import sys
from collections.abc import Callable

import numpy as np
from scipy.special import ndtri

from quant_assets.statistics.rates import Rate
from quant_assets.statistics.sharpe_inference import (
    ALPHA_LEVELS,
    expected_maximum_sharpe,
    variance_of_maximum,
)

SEED = 20261128
COUNTS = (2, 3, 5, 10, 20, 40, 100, 400, 1000, 4000, 10_000)
# Draws for each N: 1.6e9 normals in all, a minute or so.
REPETITIONS = {count: min(1_000_000, 400_000_000 // count) for count in COUNTS}
AT_ONCE = 20_000_000


def passed(n_trials: int, repetitions: int) -> dict[str, list[int]]:
    """Of so many ledgers of noise, how many pass at each level, by standard."""
    draws = np.random.Generator(np.random.PCG64(np.random.SeedSequence([SEED, n_trials])))
    highest, spread = float(expected_maximum_sharpe(n_trials)), float(np.sqrt(variance_of_maximum(n_trials)))
    found = {standard: [0] * len(ALPHA_LEVELS) for standard in ("2012", "2025")}
    done = 0
    while done < repetitions:
        rows = min(repetitions - done, max(1, AT_ONCE // n_trials))
        trials = draws.standard_normal((rows, n_trials))
        best = trials.max(axis=1)
        variance = np.ones(rows)
        if n_trials > 2:
            rest = trials.sum(axis=1) - best
            squares = (trials**2).sum(axis=1) - best**2
            variance = np.maximum((squares - rest**2 / (n_trials - 1)) / (n_trials - 2), 1.0)
        for place, level in enumerate(ALPHA_LEVELS):
            for standard, width in (("2012", 1.0), ("2025", spread)):
                bar = highest * np.sqrt(variance) + width * ndtri(level)
                found[standard][place] += int((best >= bar).sum())
        done += rows
    return found


def main(write: Callable[[str], object] = sys.stdout.write) -> None:
    """Measure and write the table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter).parse_args()
    table = {count: passed(count, REPETITIONS[count]) for count in COUNTS}
    lines = []
    for standard in ("2012", "2025"):
        rows = [
            f"        {count}: ({REPETITIONS[count]:_}, {', '.join(f'{n:_}' for n in by_standard[standard])}),"
            for count, by_standard in table.items()
        ]
        lines += [f'    "{standard}": {{', *rows, "    },"]
    for standard in ("2012", "2025"):
        for count, by_standard in table.items():
            rates = [str(Rate(passes, REPETITIONS[count])) for passes in by_standard[standard]]
            lines.append(f"{standard}  {count:6d}  {'  '.join(rates)}")
    write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
