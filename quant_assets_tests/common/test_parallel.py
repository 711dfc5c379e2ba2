"""Tasks give the same results on threads, on processes and on a Dask cluster, and a lost cluster is an error."""

import os
from collections.abc import Iterator

import pytest
from distributed import LocalCluster

from quant_assets.common.errors import ComputeError
from quant_assets.common.processes import SCHEDULER_VARIABLE, run_tasks

PAIRS = [(2, 3), (3, 2), (5, 1), (7, 0)]
POWERS = [8, 9, 5, 1]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(n_workers=1, threads_per_worker=2, processes=True, dashboard_address=None) as running:
        yield running


def process_of(_: int) -> int:
    return os.getpid()


def failing(_: int) -> int:
    raise ValueError("of its own")


@pytest.mark.parametrize("locally", ["threads", "processes"])
def test_results_come_in_the_order_of_the_arguments(locally: str) -> None:
    assert list(run_tasks(pow, PAIRS, workers=2, locally=locally)) == POWERS  # type: ignore[arg-type]


def test_unordered_results_are_the_same_set() -> None:
    assert sorted(run_tasks(pow, PAIRS, workers=2, ordered=False)) == sorted(POWERS)


def test_a_configured_cluster_does_the_work(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SCHEDULER_VARIABLE, cluster.scheduler_address)
    assert list(run_tasks(pow, PAIRS)) == POWERS
    assert os.getpid() not in set(run_tasks(process_of, [(1,), (2,)]))


def test_the_error_of_a_task_reaches_the_caller() -> None:
    with pytest.raises(ValueError, match="of its own"):
        list(run_tasks(failing, [(1,)]))


def refused(_: int) -> int:
    raise ComputeError("a task", expected="this", found="that", action="something")


def test_an_error_of_the_platform_crosses_a_process_border_whole() -> None:
    with pytest.raises(ComputeError, match="a task: expected this; found that") as caught:
        list(run_tasks(refused, [(1,), (2,)], workers=2, locally="processes"))
    assert caught.value.action == "something"


def test_a_cluster_that_does_not_answer_is_an_error_and_not_local_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(SCHEDULER_VARIABLE, "tcp://127.0.0.1:1")
    monkeypatch.setattr("quant_assets.common.processes.CONNECT_SECONDS", 1)
    with pytest.raises(ComputeError, match=r"tcp://127\.0\.0\.1:1: expected a scheduler that answers"):
        list(run_tasks(pow, PAIRS))


def test_a_cluster_of_a_single_thread_is_an_error_because_joblib_would_work_locally(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as small:
        monkeypatch.setenv(SCHEDULER_VARIABLE, small.scheduler_address)
        with pytest.raises(ComputeError, match="two or more threads in all; found 1"):
            list(run_tasks(pow, PAIRS))


def test_an_address_that_is_none_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SCHEDULER_VARIABLE, "nonsense://x")
    with pytest.raises(ComputeError, match="nonsense"):
        list(run_tasks(pow, PAIRS))
