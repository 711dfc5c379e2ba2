"""How contestants are timed: in turn, so that load from elsewhere falls on all of them, and by processor time."""

import importlib.metadata
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping

Contestant = Callable[[], object]


def timed(run: Contestant) -> tuple[float, float]:
    """Processor seconds (all threads of this process) and wall seconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.process_time() - cpu, time.perf_counter() - wall


Times = list[tuple[float, float]]


def contest(
    title: str, ours: Mapping[str, Contestant], peers: Mapping[str, Contestant], *, rounds: int
) -> list[str]:
    """Run contestants in turn, and say how much more processor time each peer takes than each of ours.

    Ours run once before: what they compile is compiled once in its life.
    """
    for run in ours.values():
        run()
    contestants = {**ours, **peers}
    times: dict[str, Times] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            times[name].append(timed(run))
    lines = [title, *(medians(name, taken) for name, taken in times.items())]
    return lines + [ratios(own, times[own], peer, times[peer]) for peer in peers for own in ours]


def medians(name: str, taken: Times) -> str:
    """Median processor and wall time of one contestant."""
    cpu, wall = (statistics.median(part) for part in zip(*taken, strict=True))
    return f"  {name:40} cpu {cpu:8.4f} s  wall {wall:8.4f} s"


def ratios(own: str, ours: Times, peer: str, theirs: Times) -> str:
    """Median and range, over rounds, of a peer's processor time over ours."""
    found = sorted(their / our for (their, _), (our, _) in zip(theirs, ours, strict=True))
    spread = f"{found[0]:.1f} to {found[-1]:.1f}" if len(found) > 1 else "once"
    return f"  ratio {statistics.median(found):8.1f} ({spread}): {peer} / {own}"


def circumstances(*libraries: str) -> str:
    """Machine, Python and library versions in one line."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in libraries)
    machine = platform.processor() or platform.machine()
    load = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    return f"{machine}, {load}; Python {platform.python_version()}; {versions}"


def show(lines: list[str]) -> None:
    """Print, at once: a benchmark takes minutes."""
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
