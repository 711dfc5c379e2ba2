"""Ctrl-C during a run of several strategies: it ends, says that it resumes, and the next strategy does not start."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import pytest

from quant_assets.defs.running import open_instance
from quant_assets_tests.e2e.lineage import write_configuration

pytestmark = pytest.mark.drill


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("until", ["noise/labels", "noise/lightgbm"])
def test_a_signal_ends_all_strategies_and_the_next_run_goes_on(
    tmp_path: Path, until: str, number: signal.Signals
) -> None:
    configs = write_configuration(tmp_path / "configs")
    environment = {
        **os.environ, "QUANT_ASSETS_HOME": str(tmp_path / "home"), "QUANT_ASSETS_CONFIGS": str(configs),
    }  # fmt: skip
    command = [sys.executable, "-m", "quant_assets.cli.main", "run", "-s", "noise", "-s", "edge"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if until in line:
            break
    time.sleep(1.0)  # well into the next asset: a fit in threads
    told = time.monotonic()
    process.send_signal(number)
    rest, _ = process.communicate(timeout=30)
    assert process.returncode == 128 + number, said + rest
    assert time.monotonic() - told < 6
    assert "goes on from here" in rest
    assert "edge on edge_market" not in said + rest
    assert "Traceback" not in rest
    with open_instance(tmp_path / "home") as instance:
        (interrupted,) = instance.get_runs(dg.RunsFilter(job_name="noise"))
        assert interrupted.status is dg.DagsterRunStatus.CANCELED
    assert not list((tmp_path / "home" / "artifacts").rglob("*.tmp"))
