"""A process that is told to end ends within two seconds, whatever its main thread is busy with."""

import signal
import subprocess
import sys
import time

import psutil
import pytest

# A second thing to do stands behind the first: an end must not be taken for the failure of one of them.
WORK = """
import sys, time, threading
from quant_assets.common.processes import end_asked, stoppable

def busy_in_c():
    import hashlib
    hashlib.pbkdf2_hmac("sha256", b"a", b"b", 400_000_000)  # one call, without the interpreter lock

def deaf():
    while True:
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            pass

def idle():
    time.sleep(60)

def child():
    import subprocess
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    print("child", process.pid, flush=True)
    process.wait()

with stoppable(lambda: print("goes on from here", flush=True)):
    print("ready", flush=True)
    {work}()
print("the second thing", flush=True)
"""


def started(work: str) -> subprocess.Popen[str]:
    """A process at work."""
    code = WORK.replace("{work}", work)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("work", ["idle", "deaf", "busy_in_c"])
def test_it_ends_in_time_with_the_signals_code_and_nothing_else_starts(
    work: str, number: signal.Signals
) -> None:
    process = started(work)
    told = time.monotonic()
    process.send_signal(number)
    said, _ = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert said == "goes on from here\n"
    # Two seconds on a machine that is its own; the tests share theirs.
    assert time.monotonic() - told < 6


def gone(pid: int) -> bool:
    """Whether a process has ended, within some seconds: the kernel kills when it comes to it."""
    for _ in range(100):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.1)
    return False


def test_its_children_end_with_it() -> None:
    process = started("child")
    assert process.stdout is not None
    word, pid = process.stdout.readline().split()
    assert word == "child"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert gone(int(pid))


def test_without_a_signal_it_changes_nothing() -> None:
    process = started("print")
    assert process.stdout is not None
    said = process.stdout.read()  # `communicate` would lose what the first line brought with it
    assert (process.wait(timeout=20), said) == (0, "\nthe second thing\n")
