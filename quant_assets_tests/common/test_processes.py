"""Whether a process lives: its number alone says nothing."""

import os
import subprocess
import sys
import time

import psutil

from quant_assets.common.processes import all_gone, every, still_alive


def test_this_process_lives() -> None:
    assert still_alive(os.getpid(), time.time())


def test_a_number_that_was_given_to_a_younger_process_is_another_process() -> None:
    started = psutil.Process().create_time()
    assert not still_alive(os.getpid(), started - 60)


def test_a_killed_process_is_gone_before_and_after_its_parent_asks_for_it() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    seen = time.time()
    assert still_alive(child.pid, seen)
    child.kill()
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert not still_alive(child.pid, seen)
    child.wait()
    assert not still_alive(child.pid, seen)


def test_of_no_known_process_nothing_can_be_said() -> None:
    assert not all_gone({})
    assert not all_gone({os.getpid(): time.time(), 1 << 22: time.time()})
    assert all_gone({1 << 22: time.time()})


def test_what_is_done_beside_a_block_ends_with_it() -> None:
    calls: list[float] = []
    with every(0.01, lambda: calls.append(time.monotonic())):
        while len(calls) < 3:
            time.sleep(0.01)
    n = len(calls)
    time.sleep(0.05)
    assert len(calls) == n
