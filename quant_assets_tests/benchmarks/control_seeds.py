"""Do the controls hold on other seeds: the planted edge opens every gate, the pure noise never does.

The shipped configurations at their full size; nothing but the market's seed is replaced. Run it from the root:

    python -m quant_assets_tests.benchmarks.control_seeds --seeds 1-10
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

from quant_assets.common.home import Home
from quant_assets.common.settings import SyntheticSource, UniverseConfig
from quant_assets.gates.admission import closed_reasons
from quant_assets.gates.gate import gate_names
from quant_assets.gates.verdicts import Verdict
from quant_assets.lineage.configured import Settings, load_settings
from quant_assets.lineage.notebook import run

CONTROLS = ("planted_edge", "pure_noise")


def with_seed(universe: UniverseConfig, seed: int) -> UniverseConfig:
    """The same universe, drawn anew."""
    if not isinstance(universe.source, SyntheticSource):
        raise TypeError(f"{universe.name} is not synthetic: it has no seed")
    return universe.model_copy(update={"source": universe.source.model_copy(update={"seed": seed})})


def judge_all(settings: Settings, name: str, seed: int) -> tuple[Verdict, ...]:
    """Every verdict that promotion asks for, about one candidate, through the lineage's own stages."""
    universe = with_seed(settings.universe_of(settings.strategies[name]), seed)
    drawn = settings.model_copy(update={"universes": {**settings.universes, universe.name: universe}})
    with tempfile.TemporaryDirectory(prefix="controls-") as folder:
        return run(name, drawn, home=Home(folder)).verdicts


def row_of(strategy: str, seed: int, verdicts: Sequence[Verdict]) -> str:
    """One line: each gate's status and observed value, and whether all of them open."""
    by_gate = {v.gate: v for v in verdicts}
    cells = []
    for gate in gate_names():
        v = by_gate[gate]
        closed = closed_reasons(v.subject, [v], [gate])
        value = "-" if v.observed is None else f"{v.observed:.3g}"
        cells.append(f"{'n/a' if v.status == 'not_applicable' else v.status}{'!' if closed else ''} {value}")
    opened = all("!" not in cell for cell in cells)
    return f"| {strategy} | {seed} | {'open' if opened else 'shut'} | " + " | ".join(cells) + " |"


def main(write: Callable[[str], object] = sys.stdout.write) -> None:
    """Judge both controls on each seed and print a table; an exclamation mark shows what keeps the way shut."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="1-10", help="first-last, or one number")
    parser.add_argument("--strategy", action="append", choices=CONTROLS, help="both when not given")
    asked = parser.parse_args()
    first, _, last = asked.seeds.partition("-")
    settings = load_settings()
    write("| strategy | seed | way | " + " | ".join(gate_names()) + " |\n")
    write("|" + "---|" * (3 + len(gate_names())) + "\n")
    began = time.process_time()
    for name in asked.strategy or CONTROLS:
        for seed in range(int(first), int(last or first) + 1):
            write(row_of(name, seed, judge_all(settings, name, seed)) + "\n")
            sys.stdout.flush()
    write(f"\n{time.process_time() - began:.0f} s of processor time\n")


if __name__ == "__main__":
    main()
