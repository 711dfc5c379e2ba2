"""Independent tasks on several workers: threads or processes of this machine, or a Dask cluster if one is configured.

What a task computes never depends on where or beside what it runs, so nothing here belongs to an asset's
configuration: the cluster is a matter of deployment, ``$QUANT_ASSETS_DASK_SCHEDULER``.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Literal, TypeVar

from quant_assets.common.errors import ComputeError

if TYPE_CHECKING:
    from distributed import Client

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
