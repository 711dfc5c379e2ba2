"""Work beside other work: tasks on several workers, and processes: whether one lives, what it holds.

What a task computes never depends on where or beside what it runs, so nothing here belongs to an asset's
configuration: a Dask cluster is a matter of deployment, ``$QUANT_ASSETS_DASK_SCHEDULER``.
"""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from quant_assets.common.errors import ComputeError

if TYPE_CHECKING:
    import psutil
    from distributed import Client

# ---------------------------------------------------------------------------------------- tasks on several workers

SCHEDULER_VARIABLE = "QUANT_ASSETS_DASK_SCHEDULER"
CONNECT_SECONDS = 10

Result = TypeVar("Result")


def run_tasks(
    task: Callable[..., Result],
    arguments: Iterable[tuple[object, ...]],
    *,
    workers: int | None = None,
    locally: Literal["threads", "processes"] = "threads",
    ordered: bool = True,
) -> Iterator[Result]:
    """Call ``task`` once per tuple of arguments and give the results as they are ready.

    Parameters
    ----------
    task : callable
        Pure, and importable by name when it runs in other processes or on a cluster.
    arguments : iterable of tuple
        Positional arguments of each call. Consumed as workers become free: not all are in memory at once.
    workers : int, optional
        Tasks at the same time on this machine; all cores by default. A cluster has its own number.
    locally : {"threads", "processes"}
        ``threads`` for tasks that release the interpreter lock (boosters, kernels), ``processes`` (loky) for others.
    ordered : bool
        Whether results come in the order of the arguments, or as they finish.

    Raises
    ------
    ComputeError
        When a cluster is configured and cannot be used. Nothing is computed locally in its place: a laptop
        that takes over the work of a cluster unnoticed is the worse failure.
    """
    from joblib import Parallel, cpu_count, delayed, parallel_config

    returned = "generator" if ordered else "generator_unordered"
    calls = (delayed(task)(*each) for each in arguments)
    address = os.environ.get(SCHEDULER_VARIABLE, "")
    if address:
        client = _connected(address)
        try:
            with parallel_config(backend="dask", client=client):
                yield from Parallel(return_as=returned)(calls)
        finally:
            client.close()
    else:
        backend = "threading" if locally == "threads" else "loky"
        yield from Parallel(n_jobs=workers or cpu_count(), backend=backend, return_as=returned)(calls)


def _connected(address: str) -> "Client":
    try:
        from distributed import Client
    except ImportError as error:
        raise ComputeError(
            f"Dask cluster {address}",
            expected="the extra 'cluster' (dask and distributed)",
            found=str(error),
            action=f"pip install 'quant-assets[cluster]', or unset {SCHEDULER_VARIABLE}",
        ) from error
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise ComputeError(
            f"Dask cluster {address}",
            expected=f"a scheduler that answers within {CONNECT_SECONDS} s",
            found=f"{type(error).__name__}: {error}",
            action=f"start it (`dask scheduler`), or correct or unset {SCHEDULER_VARIABLE}",
        ) from error
    # With one thread in all, joblib would do the work in the calling process and say nothing.
    n_threads = sum(client.ncores().values())
    if n_threads < 2:
        client.close()
        raise ComputeError(
            f"Dask cluster {address}",
            expected="workers with two or more threads in all",
            found=f"{n_threads}",
            action=f"start workers (`dask worker {address} --nthreads 2`), or unset {SCHEDULER_VARIABLE}",
        )
    return client


# ------------------------------------------------------------------------- whether a process lives, what it holds

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


# ------------------------------------------------------------------------------------ when somebody asks for an end

END_SECONDS, WORDS_SECONDS, HEARD_SECONDS = 0.8, 0.7, 0.1
_end = threading.Event()


def end_asked() -> bool:
    """Whether this process was told to end (`stoppable`). The thread that hears it may need a moment."""
    return _end.wait(HEARD_SECONDS)


@contextmanager
def stoppable(last_words: Callable[[], None]) -> Iterator[None]:
    """End this process within 2 s of SIGINT or SIGTERM, whatever its main thread is busy with.

    The interpreter runs a handler between two of its own instructions, so a fit in C is not interrupted by one. The
    kernel's signal wakes a thread here, which gives the main thread `END_SECONDS` to unwind and then ends the process
    with its children: what is stored is written whole or not at all, as a power cut would find it. The exit code is
    128 and the number of the signal. Elsewhere than on the main thread nothing is changed.

    Parameters
    ----------
    last_words : callable
        Called once before the end, for at most `WORDS_SECONDS`.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard, spoken = socket.socketpair()
    spoken.setblocking(False)
    leaving, number = threading.Lock(), [int(signal.SIGINT)]

    def leave() -> None:
        leaving.acquire()  # never given back: whoever comes second waits for the end
        words = threading.Thread(target=last_words, daemon=True)
        words.start()
        words.join(WORDS_SECONDS)
        for child in _children():
            child.kill()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(128 + number[0])

    def listen() -> None:
        while told := heard.recv(1):
            if told[0] in (signal.SIGINT, signal.SIGTERM):
                number[0] = told[0]
                _end.set()
                time.sleep(END_SECONDS)
                leave()

    before = signal.getsignal(signal.SIGTERM)
    waking = signal.set_wakeup_fd(spoken.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    threading.Thread(target=listen, name="end", daemon=True).start()
    try:
        yield
    except BaseException:
        if end_asked():
            leave()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.set_wakeup_fd(waking)
        spoken.close()


def _children() -> "list[psutil.Process]":
    import psutil

    return psutil.Process().children(recursive=True)


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
