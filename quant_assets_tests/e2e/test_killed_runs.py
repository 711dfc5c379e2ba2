"""Runs killed inside a step of a pool: what they held is free within seconds, and whoever waits says for what."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import psutil
import pytest
from structlog.testing import capture_logs

import quant_assets
from quant_assets.common.home import Home
from quant_assets.defs.running import HOST_TAG, end_dead_runs, executed, open_instance
from quant_assets_tests.e2e.pooled import BUSY, defs

pytestmark = pytest.mark.drill
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that keeps the step at work."""
    file = tmp_path / "busy"
    file.touch()
    monkeypatch.setenv(BUSY, str(file))
    return file


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for child in started:
        for process in (*psutil.Process(child.pid).children(recursive=True),) if child.poll() is None else ():
            process.kill()
        child.kill()
        child.wait()


def start(folder: Path, children: list[subprocess.Popen[str]]) -> subprocess.Popen[str]:
    """A run in another process."""
    command = [sys.executable, "-m", "quant_assets_tests.e2e.pooled", str(folder)]
    pipe = subprocess.PIPE
    children.append(subprocess.Popen(command, stdout=pipe, stderr=subprocess.STDOUT, text=True, cwd=ROOT))
    return children[-1]


def said(child: subprocess.Popen[str], word: str) -> str:
    """The next line with a word in it; warnings of libraries stand between them."""
    assert child.stdout is not None
    line = next((line for line in child.stdout if word in line), None)
    assert line is not None
    return line


def eventually(what: Callable[[], object], seconds: float = 90.0) -> float:
    """Wait until something is so: how long that took."""
    started = time.monotonic()
    while not what():
        assert time.monotonic() - started < seconds
        time.sleep(0.05)
    return time.monotonic() - started


def slots(instance: dg.DagsterInstance) -> list[str]:
    """Runs that hold a slot of the pool."""
    return [slot.run_id for slot in instance.event_log_storage.get_concurrency_info("training").claimed_slots]


def status_of(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def test_a_run_killed_in_a_pooled_step_is_ended_by_the_next_which_goes_on_and_says_what_was_freed(
    tmp_path: Path, busy: Path, children: list[subprocess.Popen[str]]
) -> None:
    with open_instance(tmp_path) as instance:
        child = start(tmp_path, children)
        eventually(lambda: slots(instance))
        (killed,) = slots(instance)
        os.kill(child.pid, signal.SIGKILL)  # not waited for: a zombie is dead too
        busy.unlink()
    started = time.monotonic()
    with capture_logs() as said, open_instance(tmp_path) as instance:
        assert executed(defs, "slow_job", instance).success
        assert time.monotonic() - started < 10
        assert slots(instance) == []
        assert status_of(instance, killed) is dg.DagsterRunStatus.FAILURE
    (line,) = [entry for entry in said if entry["event"] == "a killed run was ended"]
    assert line["freed"] == f"pool training (run {killed[:8]}, step slow)"


def test_who_waits_for_a_slot_says_for_what_and_goes_on_when_the_holder_is_killed(
    tmp_path: Path, busy: Path, children: list[subprocess.Popen[str]]
) -> None:
    with open_instance(tmp_path) as instance:
        holder = start(tmp_path, children)
        eventually(lambda: slots(instance))
        (held,) = slots(instance)
        waiting = start(tmp_path, children)
        line = said(waiting, "waits")
        assert f"pool training (run {held[:8]}, step slow) is free" in line
        assert status_of(instance, held) is dg.DagsterRunStatus.STARTED  # it lives, and keeps what it has
        os.kill(holder.pid, signal.SIGKILL)
        busy.unlink()
        assert "step slow" in said(waiting, "a killed run was ended")
        assert said(waiting, "worked") == "worked True\n"


def test_a_run_of_another_host_or_of_a_living_process_is_left_alone(tmp_path: Path, busy: Path) -> None:
    busy.unlink()
    with open_instance(tmp_path) as instance:
        job = defs.resolve_job_def("slow_job")
        for host in ("another-host", "this"):
            run = instance.create_run_for_job(job, tags={} if host == "this" else {HOST_TAG: host})
            instance.report_dagster_event(
                dg.DagsterEvent(
                    "PIPELINE_START", run.job_name, pid=os.getpid() if host == "this" else 1 << 22
                ),
                run.run_id,
            )
            end_dead_runs(instance)
            assert status_of(instance, run.run_id) is dg.DagsterRunStatus.STARTED


def test_with_the_daemon_a_killed_run_gives_its_slot_back_and_a_killed_daemon_blocks_nobody(
    tmp_path: Path, busy: Path, children: list[subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_instance(tmp_path) as instance:
        monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
        code = ["-m", "quant_assets_tests.e2e.pooled"]
        daemon = [sys.executable, "-m", "dagster._daemon", "run", *code]
        log = (tmp_path / "daemon.log").open("w")
        children.append(subprocess.Popen(daemon, stdout=log, stderr=log, text=True, cwd=ROOT))
        launch = [sys.executable, "-m", "dagster", "job", "launch", *code, "-j", "slow_job"]
        subprocess.run(launch, check=True, capture_output=True, cwd=ROOT)
        eventually(lambda: slots(instance))
        (killed,) = slots(instance)
        server = psutil.Process(children[0].pid)
        for process in server.children(recursive=True):
            if "spawn_main" in " ".join(process.cmdline()):  # the run and its step
                process.kill()
        eventually(lambda: killed not in slots(instance), seconds=10 + 20)  # 10 on a machine that is not busy
        assert status_of(instance, killed) is dg.DagsterRunStatus.FAILURE
        eventually(lambda: slots(instance))  # the daemon's own retry of a crash has the slot now
        (retried,) = slots(instance)
        for process in (server, *server.children(recursive=True)):
            process.kill()
        busy.unlink()
        with open_instance(tmp_path) as again:
            assert executed(defs, "slow_job", again).success
        assert status_of(instance, retried) is dg.DagsterRunStatus.FAILURE


# ---------------------------------------------------------------------------------------- the instance template


def test_the_installed_package_sets_pools_and_monitoring_wherever_the_configuration_is(
    tmp_path: Path,
) -> None:
    package = Path(quant_assets.__file__).parent
    shutil.copytree(package, tmp_path / "site" / "quant_assets", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "configs").mkdir()
    script = (
        "import dagster as dg, quant_assets.cli.main as main, sys\n"
        "sys.argv = ['quant-assets', 'instance-path']\n"
        "main.main()\n"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(tmp_path / "site"),
        "QUANT_ASSETS_CONFIGS": str(tmp_path / "configs"),
        "QUANT_ASSETS_HOME": str(tmp_path / "home"),
    }
    found = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    folder = found.stdout.strip()
    assert folder == str(tmp_path / "home" / "dagster"), found.stderr
    with dg.DagsterInstance.from_config(folder) as instance:
        pools = instance.get_concurrency_config().pool_config
        assert (pools.default_pool_limit, pools.pool_granularity.value) == (1, "op")
        assert instance.run_monitoring_enabled
        assert instance.run_launcher.supports_check_run_worker_health


def test_an_untouched_template_of_an_earlier_release_is_replaced_and_an_edited_one_is_kept(
    tmp_path: Path,
) -> None:
    home = Home(str(tmp_path))
    target = home.dagster_folder() / "dagster.yaml"
    shipped = target.read_bytes()
    for text, kept in ((b"telemetry: {enabled: false}\n", False), (b"telemetry: {enabled: true}\n", True)):
        target.write_bytes(text)
        assert (home.dagster_folder() / "dagster.yaml").read_bytes() == (text if kept else shipped)
