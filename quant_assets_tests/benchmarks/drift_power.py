"""How often the drift gate alarms: ``python -m quant_assets_tests.benchmarks.drift_power``.

Simulated: 29 independent AR(1) features of 10 symbols, unit variance, half of it common to the symbols; a baseline of
2,400 sessions and the windows of 63 after it, judged as the gate decides (three features at alpha .01). Shocks are
normal, or Student t with 5 degrees of freedom whose variance is a GARCH(1, 1) of .08 and .90. Drift is in 3 of 29
features, others in each window: a jump by one standard deviation at the first session, the same as a ramp over the
window, and twice the spread. Targets: without drift at most 1.5 %; the jump 70 % at .9 and 90 % at .98; twice the
spread 95 % at both.

Real: ``--data FILE`` with daily bars (symbol, date, open, high, low, close, volume, adj_close). Each window after the
first 2,400 sessions is judged by a baseline of all sessions before it, as it is and with drift planted. A market does
change, so an alarm "as it is" need not be false.
"""

import argparse
import math
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.signal import lfilter

from quant_assets.features import compute, packs
from quant_assets.gates.limits import DriftConfig
from quant_assets.monitoring.baseline import DriftBaseline, fit_baseline
from quant_assets.monitoring.drift_report import find_drift
from quant_assets.statistics.rates import clopper_pearson
from quant_assets_tests.benchmarks.contest import show

Panel = NDArray[np.float64]  # sessions, symbols, features

FEATURES, SYMBOLS, BASELINE, DRIFTED = 29, 10, 2400, 3
BURN_IN = 300
BEFORE = 126  # sessions before the window that are shown: the moving scale forgets half in 23
CHANGES = {"none": "no drift", "jump": "jump of 1 sd", "spread": "twice the spread", "ramp": "ramp of 1 sd"}


def shocks(rng: np.random.Generator, n: int, columns: int, kind: str) -> Panel:
    """Unit variance, shape (n, columns): normal, or t(5) under GARCH(1, 1)."""
    if kind == "normal":
        return rng.standard_normal((n, columns))
    reaction, memory = 0.08, 0.90
    shock = rng.standard_t(5, (n, columns)) / math.sqrt(5 / 3)
    variance = np.ones(columns)
    for row in shock:
        row *= np.sqrt(variance)
        variance = (1 - reaction - memory) + reaction * row**2 + memory * variance
    return shock


def panel(rng: np.random.Generator, n: int, phi: float, kind: str) -> Panel:
    """AR(1) features, unit variance, half of it common to all symbols."""
    steps = n + BURN_IN
    common = shocks(rng, steps, FEATURES, kind)[:, None, :]
    own = shocks(rng, steps, SYMBOLS * FEATURES, kind).reshape(steps, SYMBOLS, FEATURES)
    mixed = math.sqrt(0.5) * (common + own)
    return lfilter([math.sqrt(1 - phi**2)], [1.0, -phi], mixed, axis=0)[BURN_IN:]


def baseline_of(values: Panel, drift: DriftConfig) -> DriftBaseline:
    """The baseline of a panel whose sessions are the days of the week."""
    n, symbols, features = values.shape
    first = date(2000, 1, 3)
    names = [f"f{i:02d}" for i in range(features)]
    sessions = [first + timedelta(days=7 * (i // 5) + i % 5) for i in range(n)]
    keys = {
        "symbol": [f"S{i:03d}" for i in range(symbols)] * n,
        "session": [s for s in sessions for _ in range(symbols)],
    }
    columns = values.reshape(n * symbols, features)
    frame = pl.DataFrame({**keys, **{name: columns[:, i] for i, name in enumerate(names)}})
    return fit_baseline(frame, names, drift, training_set_version="0" * 64)


def alarm(baseline: DriftBaseline, shown: Panel, *, follows: bool) -> bool:
    """Whether the gate closes on the last window of the sessions that are shown."""
    n, symbols, features = shown.shape
    ranks = np.repeat(np.arange(n), symbols)
    values = np.ascontiguousarray(shown.reshape(n * symbols, features))
    found = find_drift(baseline, ranks, values, follows=follows, what="benchmark")
    return int(found.drifted.sum()) >= baseline.drift.min_drifted_features


def changed(window: Panel, change: str, columns: NDArray[np.int64], sd: Panel, median: Panel) -> Panel:
    """The window after a planted change of some of its features."""
    out = window.copy()
    if change == "jump":
        out[:, :, columns] += sd[columns]
    elif change == "ramp":
        out[:, :, columns] += sd[columns] * np.linspace(0, 1, len(window))[:, None, None]
    elif change == "spread":
        out[:, :, columns] = median[columns] + 2 * (out[:, :, columns] - median[columns])
    return out


def verdicts(
    baseline: DriftBaseline,
    values: Panel,
    start: int,
    changes: Sequence[str],
    rng: np.random.Generator,
    *,
    follows: bool,
) -> dict[str, bool]:
    """Whether the window that begins at a session alarms after each change."""
    window = baseline.drift.window_sessions
    rows = values[:BASELINE].reshape(-1, values.shape[2])
    sd, median = rows.std(axis=0), np.median(rows, axis=0)
    columns = rng.choice(values.shape[2], DRIFTED, replace=False)
    before, newest = values[max(start - BEFORE, 0) : start], values[start : start + window]
    before = before[:0] if follows else before
    return {
        change: alarm(
            baseline,
            np.concatenate([before, changed(newest, change, columns, sd, median)]),
            follows=follows,
        )
        for change in changes
    }


def simulated(
    phi: float, kind: str, changes: Sequence[str], windows: int, per_baseline: int, seed: int
) -> Counter[str]:
    """Alarms by change, of so many windows, ``per_baseline`` of them after each baseline."""
    drift = DriftConfig()
    alarms: Counter[str] = Counter()
    for i in range(math.ceil(windows / per_baseline)):
        rng = np.random.default_rng([seed, i, round(1000 * phi), len(kind)])
        values = panel(rng, BASELINE + BEFORE + per_baseline * drift.window_sessions, phi, kind)
        baseline = baseline_of(values[:BASELINE], drift)
        for j in range(per_baseline):
            start = BASELINE + BEFORE + j * drift.window_sessions
            judged = verdicts(baseline, values, start, changes, rng, follows=False)
            alarms.update(change for change, rung in judged.items() if rung)
            alarms["windows"] += 1
    return alarms


def row(name: str, alarms: Mapping[str, int], changes: Sequence[str]) -> str:
    """One line of the table: share of alarms and its 95 % Clopper-Pearson interval, by change."""
    cells = [f"{name:24} {alarms['windows']:7,}"]
    for change in changes:
        low, high = clopper_pearson(alarms.get(change, 0), alarms["windows"], 0.95)
        share = alarms.get(change, 0) / alarms["windows"]
        cells.append(f"{100 * share:5.1f} ({100 * low:4.1f} to {100 * high:5.1f})")
    return "  ".join(cells)


HEADER = (
    f"{'% alarms':24} windows  {'no drift':21}  {'jump of 1 sd':21}  {'ramp of 1 sd':21}  twice the spread"
)


def real(file: Path, symbols: int, changes: Sequence[str], seed: int) -> Iterator[str]:
    """Alarms on the 29 features of real bars: all symbols, and groups of them."""
    bars = pl.read_parquet(file).rename({"date": "session"}).with_columns(pl.col("session").cast(pl.Date))
    ratio = pl.col("adj_close") / pl.col("close")
    bars = bars.with_columns((pl.col(c) * ratio).alias(c) for c in ("open", "high", "low", "close"))
    features = compute(bars, "technical_v1").drop_nulls().sort("session", "symbol")
    names = [f.name for f in packs()["technical_v1"].features]
    n, total = features["session"].n_unique(), features["symbol"].n_unique()
    values = features.select(names).to_numpy().astype(np.float64).reshape(n, total, len(names))
    order = np.random.default_rng(seed).permutation(total)
    groups = [order[i : i + symbols] for i in range(0, total - symbols + 1, symbols)]
    for name, chosen in ((f"{total} stocks", [order]), (f"{len(groups)} x {symbols} stocks", groups)):
        alarms: Counter[str] = Counter()
        for group in chosen:
            alarms.update(_real_alarms(np.ascontiguousarray(values[:, np.sort(group)]), changes, seed))
        yield row(name, alarms, changes)


def _real_alarms(values: Panel, changes: Sequence[str], seed: int) -> Counter[str]:
    drift, alarms = DriftConfig(), Counter[str]()
    rng = np.random.default_rng(seed)
    for start in range(BASELINE, len(values) - drift.window_sessions + 1, drift.window_sessions):
        baseline = baseline_of(values[:start], drift)
        judged = verdicts(baseline, values, start, changes, rng, follows=True)
        alarms.update(change for change, rung in judged.items() if rung)
        alarms["windows"] += 1
    return alarms


def main(arguments: list[str]) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--windows", type=int, default=1000, help="of each kind of simulated panel")
    parser.add_argument("--per-baseline", type=int, default=40, help="windows after each baseline")
    parser.add_argument("--phi", type=float, nargs="+", default=[0.0, 0.5, 0.9, 0.98])
    parser.add_argument("--shocks", nargs="+", default=["normal", "garch"], choices=["normal", "garch"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--data", type=Path, help="daily bars (Parquet); judge them instead of simulated panels"
    )
    parser.add_argument("--symbols", type=int, default=10, help="in each group of real stocks")
    parser.add_argument("--changes", nargs="+", default=list(CHANGES), choices=list(CHANGES))
    chosen = parser.parse_args(arguments)
    show([f"{'% alarms':24} windows  " + "  ".join(f"{CHANGES[change]:22}" for change in chosen.changes)])
    if chosen.data is not None:
        for line in real(chosen.data, chosen.symbols, chosen.changes, chosen.seed):
            show([line])
        return
    for kind in chosen.shocks:
        for phi in chosen.phi:
            alarms = simulated(phi, kind, chosen.changes, chosen.windows, chosen.per_baseline, chosen.seed)
            name = "t(5), GARCH" if kind == "garch" else kind
            show([row(f"{name}, phi {phi:g}", alarms, chosen.changes)])


if __name__ == "__main__":
    main(sys.argv[1:])
