"""How often the walk-forward gate's test refuses: ``python -m quant_assets_tests.benchmarks.walk_forward_power``.

A track beside five paths that correlate .6 with it and with each other; normal returns, or Student t with 4 degrees
of freedom. Size: the track has the skill of its paths, one path or five (it is compared with the worst on these very
sessions). Power: every path has a Sharpe ratio of 2, the track one or two less. Stated level: 1 %, one-sided.
"""

import argparse
import math
import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from quant_assets.statistics.rates import Rate
from quant_assets.statistics.sharpe_inference import below_the_worst
from quant_assets_tests.benchmarks.contest import show

LEVEL, CORRELATION, PATHS, YEAR = 0.01, 0.6, 5, 252.0
SESSIONS = (500, 1250, 2500)


def drawn(rng: np.random.Generator, kind: str, rows: int, sessions: int) -> NDArray[np.float64]:
    """Unit variance, any two rows correlated."""

    def shocks(n: int) -> NDArray[np.float64]:
        if kind == "normal":
            return rng.standard_normal((n, sessions))
        return rng.standard_t(4, (n, sessions)) / math.sqrt(2.0)

    mixed: NDArray[np.float64] = math.sqrt(CORRELATION) * shocks(1) + math.sqrt(1.0 - CORRELATION) * shocks(
        rows
    )
    return mixed


def refused(kind: str, sessions: int, paths: int, less: float, draws: int, seed: int) -> Rate:
    """Share of draws in which the track is refused; its Sharpe ratio is ``less`` below the paths' 2."""
    rng = np.random.default_rng([seed, sessions, paths, round(10 * less), len(kind)])
    count = 0
    for _ in range(draws):
        returns = drawn(rng, kind, 1 + paths, sessions) + 2.0 / math.sqrt(YEAR)
        returns[0] -= less / math.sqrt(YEAR)
        count += below_the_worst(returns[0], returns[1:])[1].p_value < LEVEL
    return Rate(int(count), draws)


def main(arguments: Sequence[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(arguments)
    show([f"{'% refused':44}" + "".join(f"{n:>8,} sessions       " for n in SESSIONS)])
    for title, paths, less in (
        ("the skill of its one path", 1, 0.0),
        ("the skill of its five paths", PATHS, 0.0),
        ("one Sharpe ratio less than its five paths", PATHS, 1.0),
        ("two Sharpe ratios less", PATHS, 2.0),
    ):
        for kind in ("normal", "t(4)"):
            rates = [refused(kind, n, paths, less, asked.draws, asked.seed) for n in SESSIONS]
            cells = (
                f"{100 * r.estimate:8.1f} ({100 * r.interval[0]:.1f} to {100 * r.interval[1]:.1f})"
                for r in rates
            )
            show([f"{title + ', ' + kind:44}" + "  ".join(f"{cell:21}" for cell in cells)])


if __name__ == "__main__":
    main(sys.argv[1:])
