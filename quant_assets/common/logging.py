"""What a run says of itself: one structured line per event, and what a piece of work took of the machine."""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Literal

import structlog

# ------------------------------------------------------------------- what a piece of work took of the machine


SAMPLE_SECONDS = 0.05


@dataclass
class ResourceUse:
    """Resources of one execution; whole once the block that measures it has ended.

    Attributes
    ----------
    wall_seconds : float
    cpu_seconds : float
        User and system time of this process and of children that have ended. Work that runs beside it in the same
        process is in it.
    peak_rss_megabytes : float
        Largest resident set of this process, of samples 50 ms apart: a shorter peak may be missed. 1 MB is 1e6
        bytes.
    start_rss_megabytes : float
        Resident set at the start: libraries and data that were there before.
    cores : int
        Logical processors that this process may run on.
    """

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_rss_megabytes: float = 0.0
    start_rss_megabytes: float = 0.0
    cores: int = 0

    def to_json(self) -> dict[str, float]:
        """Plain data."""
        return asdict(self)


@contextmanager
def resources_measured() -> Iterator[ResourceUse]:
    """Measure the block; the figures are in the object that it is given, after its end."""
    import psutil

    process = psutil.Process()
    use = ResourceUse(
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )

    def rss() -> float:
        return float(process.memory_info().rss) / 1e6

    use.start_rss_megabytes = use.peak_rss_megabytes = rss()
    ended = threading.Event()
    sampler = threading.Thread(target=_sample, args=(use, rss, ended), name="resource-use", daemon=True)
    cpu, wall = _cpu_seconds(), time.perf_counter()
    sampler.start()
    try:
        yield use
    finally:
        use.wall_seconds, use.cpu_seconds = time.perf_counter() - wall, _cpu_seconds() - cpu
        ended.set()
        sampler.join()
        use.peak_rss_megabytes = max(use.peak_rss_megabytes, rss())


def _sample(use: ResourceUse, rss: Callable[[], float], ended: threading.Event) -> None:
    while not ended.wait(SAMPLE_SECONDS):
        use.peak_rss_megabytes = max(use.peak_rss_megabytes, rss())


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def machine() -> dict[str, str]:
    """The machine that this process runs on: processor, system, memory in MB (1e6 bytes)."""
    import platform

    import psutil

    return {
        "processor": platform.processor() or platform.machine(),
        "architecture": platform.machine(),
        "system": platform.platform(),
        "logical_cores": str(psutil.cpu_count()),
        "memory_megabytes": f"{psutil.virtual_memory().total / 1e6:.0f}",
    }


# -------------------------------------------------------------------------------------------- structured logs


def configure_logging(style: Literal["json", "console"] = "console", level: int = logging.INFO) -> None:
    """Send every ``quant_assets`` log line to standard error in one style.

    Run id, asset key and strategy are bound once per step (`structlog.contextvars`) and appear on every line.
    """
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger that carries its module's name."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(source=name)
    return logger


def logged_progress(what: str) -> Callable[[int, int], None]:
    """A callback for long work that logs (done, total)."""

    def report(done: int, total: int) -> None:
        get_logger("quant_assets.progress").info("progress", done=done, total=total, what=what)

    return report
