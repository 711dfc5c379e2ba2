"""What the orchestrator costs: the demo's whole lineage through Dagster, over the same stages as plain functions.

Plain, orchestrated, plain: what is compiled or cached in the first round helps the second, so the plain time is the
mean of before and after. Both sides make every asset up to the MLflow record with its tables and plots, and judge
every check. Run it from the root of an idle machine:

    python -m quant_assets_tests.benchmarks.lineage [--strategy planted_edge]
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import dagster as dg

from quant_assets.common.home import Home
from quant_assets.common.logging import configure_logging
from quant_assets.definitions import build_definitions
from quant_assets.defs.running import open_instance, run_strategies
from quant_assets.defs.storage import Home as HomeResource
from quant_assets.lineage import Lineage, Settings, load_settings, run

DEMO = ("planted_edge", "pure_noise", "us_tech_daily")
MOST = 1.3


def timed(work: Callable[[Path], None]) -> tuple[float, float]:
    """Wall and processor seconds of a piece of work in an empty home."""
    with tempfile.TemporaryDirectory(prefix="overhead-") as folder:
        wall, cpu = time.perf_counter(), time.process_time()
        work(Path(folder))
        return time.perf_counter() - wall, time.process_time() - cpu


def plain(settings: Settings, strategies: Sequence[str], folder: Path) -> None:
    """Every stage that is not behind the guard, as functions in memory."""
    lineage = Lineage(settings)
    for strategy in strategies:
        upto = [node.name for node in lineage.of(strategy) if not node.stage.guarded]
        run(strategy, settings, upto, home=Home(str(folder)), facts=True, checks=True)


def orchestrated(settings: Settings, strategies: Sequence[str], folder: Path) -> None:
    """The same and the promotion, through Dagster in this process: events, artifact store, checks as steps."""
    definitions: dg.Definitions = build_definitions(settings, HomeResource(root=str(folder)))
    with open_instance(folder) as instance:
        run_strategies(
            definitions, Lineage(settings), strategies, instance, Home(str(folder)), lambda _: None
        )


def main(write: Callable[[str], object] = sys.stdout.write) -> None:
    """Measure and print; exit code 1 when the orchestrator costs more than it may."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--strategy", action="append", choices=DEMO, help="all three when not given")
    strategies = parser.parse_args().strategy or list(DEMO)
    configure_logging(level=40)
    settings = load_settings()
    first = timed(lambda folder: plain(settings, strategies, folder))
    through = timed(lambda folder: orchestrated(settings, strategies, folder))
    last = timed(lambda folder: plain(settings, strategies, folder))
    ratios = []
    for name, before, during, after in zip(("wall", "cpu"), first, through, last, strict=True):
        ratios.append(during / ((before + after) / 2))
        write(
            f"{name}: plain {before:.1f} s, orchestrated {during:.1f} s, plain {after:.1f} s; "
            f"ratio {ratios[-1]:.2f}\n"
        )
    sys.exit(0 if max(ratios) <= MOST else 1)


if __name__ == "__main__":
    main()
