"""Processes: whether the one that did something still lives, what it holds, and work beside other work."""

import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

# A process starts at a multiple of the kernel's tick after a boot time that is known to the second.
CLOCK_SLACK_SECONDS = 2.0


def this_host() -> str:
    """What this machine, or this container, calls itself."""
    return socket.gethostname()


def still_alive(pid: int, seen_at: float) -> bool:
    """Whether the process that had a number at a moment lives.

    A number is given away again: the process that has it now is another one when it started after that moment. One
    that was killed and that its parent has not asked for yet (a zombie) does not live.

    Parameters
    ----------
    pid : int
        Of a process of this host.
    seen_at : float
        When it was at work, in seconds since 1970.
    """
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return bool(process.create_time() <= seen_at + CLOCK_SLACK_SECONDS)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:  # another user's: it is there, and no more can be said
        return True


def all_gone(seen: Mapping[int, float]) -> bool:
    """Whether none of some processes lives: when each was last seen at work, by number. False when none is known."""
    return bool(seen) and not any(still_alive(pid, moment) for pid, moment in seen.items())


@contextmanager
def every(seconds: float, look: Callable[[], None]) -> Iterator[None]:
    """Call a function again and again while the block runs, in a thread of its own."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(seconds):
            look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


# ------------------------------------------------------------------------------------------------ slots of pools

# Pools are Dagster's `ConcurrencyKeyInfo`, which only the rooms above may import.


def held_by(pools: Iterable[Any], run_id: str) -> list[str]:
    """What a run holds of some pools, in words."""
    return [_slot(pool, slot) for pool in pools for slot in pool.claimed_slots if slot.run_id == run_id]


def waited_for(pools: Iterable[Any], run_id: str) -> list[str]:
    """What others hold of the pools that have no slot for a step of a run, in words."""
    return [
        _slot(pool, slot)
        for pool in pools
        if any(step.run_id == run_id and not step.assigned_timestamp for step in pool.pending_steps)
        for slot in pool.claimed_slots
    ]


def _slot(pool: Any, slot: Any) -> str:
    return f"pool {pool.concurrency_key} (run {slot.run_id[:8]}, step {slot.step_key})"
