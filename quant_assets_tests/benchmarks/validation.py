"""Splitter, statistics and PBO against their peers: ``python -m quant_assets_tests.benchmarks.validation``.

Peers: skfolio's combinatorial purged split; vectorised pandas with scipy; a plain numpy loop over the halves of CSCV,
as in pypbo (which also keeps every half: 13 GB here); and purgedcv, installed into an environment of its own.
Targets: splitter 20 times and a quarter of the memory, statistics 20 times, PBO 100 times.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm, rankdata
from skfolio.model_selection import CombinatorialPurgedCV as SkfolioCPCV

from quant_assets.splits.cpcv import CombinatorialPurgedCV
from quant_assets.statistics.overfitting import probability_of_backtest_overfitting
from quant_assets.statistics.sharpe import deflated_sharpe_ratio, probabilistic_sharpe_ratio
from quant_assets.statistics.track_record import track_record
from quant_assets_tests.benchmarks.contest import circumstances, contest, medians, ratios, show, timed

Table = NDArray[np.float64]
HORIZON = 5


# -------------------------------------------------------------------------------------------------- splitter


def splitter(symbols: int, sessions: int, rounds: int) -> list[str]:
    """Consume every split of a panel, one at a time."""
    days = np.busday_offset("2010-01-04", np.arange(sessions + HORIZON), roll="forward").astype("M8[us]")
    decided, known = days[:sessions], days[HORIZON:]
    by_time = np.repeat(decided, symbols), np.repeat(known, symbols)
    by_symbol = np.tile(decided, symbols), np.tile(known, symbols)
    ours = CombinatorialPurgedCV(n_groups=10, n_test_groups=2, embargo=HORIZON)
    # It purges by row count, which is right for a panel in order of time with equally many rows a session.
    peer = SkfolioCPCV(
        n_folds=10, n_test_folds=2, purged_size=HORIZON * symbols, embargo_size=HORIZON * symbols
    )
    table = np.zeros((symbols * sessions, 1))

    def consume(splits: Callable[[], object]) -> Callable[[], object]:
        return lambda: sum(1 for _ in splits())  # type: ignore[attr-defined]

    contestants = {
        "quant_assets, rows by time": consume(lambda: ours.split(*by_time)),
        "quant_assets, rows by symbol": consume(lambda: ours.split(*by_symbol)),
    }
    peers = {"skfolio, rows by time": consume(lambda: peer.split(table))}
    title = f"CPCV split, N=10, k=2, {symbols * sessions:,} rows"
    lines = contest(title, contestants, peers, rounds=rounds)
    peaks = {name: peak_memory(run) for name, run in {**contestants, **peers}.items()}
    lines += [f"  {name:40} peak memory {peak / 2**20:7.0f} MB" for name, peak in peaks.items()]
    theirs = peaks.pop(next(iter(peers)))
    return lines + [f"  memory ratio {theirs / peak:.1f}: skfolio / {name}" for name, peak in peaks.items()]


def peak_memory(run: Callable[[], object]) -> int:
    """Most bytes that a call had allocated at one time (Python's and numpy's)."""
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# ------------------------------------------------------------------------------------------------ statistics


def our_statistics(returns: Table) -> tuple[Table, ...]:
    """Sharpe ratio, PSR, DSR and drawdown of each row; `track_record` gives more on the way."""
    record = track_record(returns, 252.0)
    ratio, moments = record.sharpe_per_period, (record.skewness, record.kurtosis)
    psr = probabilistic_sharpe_ratio(ratio, record.n_obs, *moments)
    dsr = deflated_sharpe_ratio(ratio, record.n_obs, len(returns), np.var(ratio, ddof=1), *moments)
    return ratio, psr, dsr, record.max_drawdown_fraction


def pandas_statistics(returns: pd.DataFrame) -> tuple[Table, ...]:
    """The same from a frame with one column per series."""
    periods, trials = returns.shape
    ratio = returns.mean() / returns.std()
    scale = np.sqrt((periods - 1) / (1.0 - returns.skew() * ratio + (returns.kurt() + 2.0) / 4.0 * ratio**2))
    gamma = np.euler_gamma
    best = (1 - gamma) * norm.ppf(1 - 1 / trials) + gamma * norm.ppf(1 - 1 / (trials * np.e))
    equity = (1.0 + returns).cumprod()
    drawdown = (equity / equity.cummax().clip(lower=1.0) - 1.0).min()
    psr, dsr = norm.cdf(ratio * scale), norm.cdf((ratio - ratio.std() * best) * scale)
    return ratio.to_numpy(), psr, dsr, drawdown.to_numpy()


def statistics(series: int, periods: int, rounds: int) -> list[str]:
    """Many track records at once."""
    returns = np.random.default_rng(1).normal(0.0004, 0.01, (series, periods))
    by_column = np.ascontiguousarray(returns.T)
    frame = pd.DataFrame(by_column)
    for ours, theirs in zip(our_statistics(returns), pandas_statistics(frame), strict=True):
        # pandas corrects skewness and kurtosis for bias, which moves a probability by less than 1e-3
        np.testing.assert_allclose(ours, theirs, atol=1e-3)
    return contest(
        f"Sharpe ratio, PSR, DSR and drawdown of {series:,} series x {periods:,} days",
        {
            "quant_assets, one row per series": lambda: our_statistics(returns),
            "quant_assets, one column per series": lambda: our_statistics(by_column.T),
        },
        {"pandas and scipy, one column per series": lambda: pandas_statistics(frame)},
        rounds=rounds,
    )


# ------------------------------------------------------------------------------------------------------- PBO


def loop_over_halves(returns: Table, blocks: int) -> float:
    """CSCV as the paper tells it: join each half, take Sharpe ratios, rank, compare."""
    parts = np.array_split(returns, blocks)
    logits = []
    for chosen in combinations(range(blocks), blocks // 2):
        inside = np.concatenate([parts[i] for i in chosen])
        outside = np.concatenate([parts[i] for i in range(blocks) if i not in chosen])
        train, test = (half.mean(axis=0) / half.std(axis=0, ddof=1) for half in (inside, outside))
        share = rankdata(test)[train.argmax()] / (returns.shape[1] + 1)
        logits.append(np.log(share / (1.0 - share)))
    return float(np.mean(np.array(logits) <= 0.0))


PURGEDCV = """
import json, sys, time
import numpy as np
from importlib.metadata import version
from purgedcv import probability_of_backtest_overfitting
returns = np.ascontiguousarray(np.load(sys.argv[1]).T)
wall, cpu = time.perf_counter(), time.process_time()
found = probability_of_backtest_overfitting(returns, n_splits=int(sys.argv[2])).pbo
print(json.dumps([time.process_time() - cpu, time.perf_counter() - wall, float(found), version("purgedcv")]))
"""


def overfitting(trials: int, periods: int, blocks: int, rounds: int, *, install: bool) -> list[str]:
    """PBO of a table of strategies."""
    returns = np.random.default_rng(2).normal(0.0, 0.01, (periods, trials))
    ours = probability_of_backtest_overfitting(returns, blocks).pbo
    if ours != loop_over_halves(returns, blocks):
        raise AssertionError("the two implementations disagree: their times mean nothing")
    run = {"quant_assets": lambda: probability_of_backtest_overfitting(returns, blocks)}
    lines = contest(
        f"PBO, S={blocks}, {trials} strategies x {periods:,} sessions: {ours:.4f}",
        run,
        {"numpy loop over halves, as in pypbo": lambda: loop_over_halves(returns, blocks)},
        rounds=rounds,
    )
    if not install:
        return lines
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "returns.npy", returns)
        try:
            python = environment(Path(folder) / "peers", ["purgedcv"])
            answer = run_quietly([python, "-c", PURGEDCV, str(Path(folder) / "returns.npy"), str(blocks)])
        except (OSError, subprocess.CalledProcessError) as error:
            return [*lines, f"  purgedcv could not be installed or run, so it is left out: {error}"]
        cpu, wall, found, version = json.loads(answer)
        name, own = f"purgedcv {version} (PBO {found:.4f})", timed(run["quant_assets"])
        return [
            *lines,
            medians(name, [(cpu, wall)]),
            ratios("quant_assets", [own], name, [(cpu, wall)]),
        ]


def environment(folder: Path, packages: Sequence[str]) -> str:
    """A fresh virtual environment with these packages; the path of its Python."""
    run_quietly([sys.executable, "-m", "venv", str(folder)])
    python = str(folder / "bin" / "python")
    run_quietly([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages])
    return python


def run_quietly(command: Sequence[str]) -> str:
    """Standard output of a command that must succeed."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the three contests and print medians, ratios and their spread."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-install", action="store_true", help="leave out peers that need an installation")
    asked = parser.parse_args(arguments)
    show([circumstances("numpy", "numba", "scipy", "pandas", "skfolio")])
    show(splitter(500, 2520, asked.rounds))
    show(statistics(10_000, 2520, asked.rounds))
    show(overfitting(100, 2520, 16, max(asked.rounds // 2, 1), install=not asked.no_install))


if __name__ == "__main__":
    main()
