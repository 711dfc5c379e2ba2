"""Blocks on workers, killed runs, disks that refuse: same bits, or the earlier output and one clear error."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from distributed import LocalCluster
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quant_assets.common.errors import FeatureError, SourceError
from quant_assets.common.processes import SCHEDULER_VARIABLE
from quant_assets.features import compute
from quant_assets.features.blocks import compute_in_blocks
from quant_assets_tests.features.panels import same_bits
from quant_assets_tests.features.wide_panels import wide_irregular

BARS = wide_irregular(2)
PACK = "stationary_v1"
WHOLE = compute(BARS, PACK)


@pytest.fixture
def bars(tmp_path: Path) -> Path:
    file = tmp_path / "bars.parquet"
    BARS.sort("session", "symbol").write_parquet(file, row_group_size=500)
    return file


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(block_rows=st.integers(50, 7_000), workers=st.integers(1, 2), groups=st.integers(100, 5_000))
def test_no_size_of_blocks_changes_a_bit(tmp_path: Path, block_rows: int, workers: int, groups: int) -> None:
    file = tmp_path / "drawn.parquet"
    BARS.sample(fraction=1, shuffle=True, seed=block_rows).write_parquet(file, row_group_size=groups)
    run = compute_in_blocks(file, tmp_path / "out", PACK, block_rows=block_rows, workers=workers)
    assert same_bits(pl.read_parquet(run.out), WHOLE)


def test_two_processes_give_the_same_bits(tmp_path: Path, bars: Path) -> None:
    seen: list[tuple[int, int]] = []
    run = compute_in_blocks(
        bars,
        tmp_path / "out.parquet",
        PACK,
        block_rows=2_000,
        workers=2,
        processes=True,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert same_bits(pl.read_parquet(run.out), WHOLE)
    assert seen == [(k + 1, len(seen)) for k in range(len(seen))]


def test_a_dask_cluster_gives_the_same_bits_and_the_same_refusal(
    tmp_path: Path, bars: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = compute(BARS, "cross_sectional_v1")
    twice = tmp_path / "twice.parquet"
    pl.concat([BARS, BARS[100:101]]).write_parquet(twice)
    with LocalCluster(n_workers=1, threads_per_worker=2, processes=True, dashboard_address=None) as running:
        monkeypatch.setenv(SCHEDULER_VARIABLE, running.scheduler_address)
        run = compute_in_blocks(bars, tmp_path / "out", "cross_sectional_v1", block_rows=2_000)
        with pytest.raises(FeatureError, match=r"twice\.parquet, block 1 of .*one bar per symbol"):
            compute_in_blocks(twice, tmp_path / "out2", PACK, block_rows=2_000)
    assert same_bits(pl.read_parquet(run.out), whole)
    assert names_in(tmp_path) == {"bars.parquet", "twice.parquet", "out"}


KILLED = """
import os, signal, sys
from quant_assets.features.blocks import compute_in_blocks
def between(done, total):
    if done == 2:
        os.kill(os.getpid(), signal.SIGKILL)
compute_in_blocks(sys.argv[1], sys.argv[2], "stationary_v1", block_rows=1_000, progress=between)
"""


def test_a_run_killed_between_blocks_leaves_no_output_and_the_next_one_clears_up(
    tmp_path: Path, bars: Path
) -> None:
    out = tmp_path / "out.parquet"
    out.write_bytes(b"earlier")
    done = subprocess.run([sys.executable, "-c", KILLED, bars, out], check=False)
    assert done.returncode == -signal.SIGKILL
    assert out.read_bytes() == b"earlier"
    left = names_in(tmp_path) - {"bars.parquet", "out.parquet"}
    assert len(left) == 1
    assert left.pop().startswith(".out.parquet.blocks-")
    compute_in_blocks(bars, out, PACK, block_rows=3_000)
    assert names_in(tmp_path) == {"bars.parquet", "out.parquet"}
    assert same_bits(pl.read_parquet(out), WHOLE)


@pytest.mark.parametrize(
    "function", ["block_tasks.write_split", "block_tasks.write_part", "block_tasks.join_parts"]
)
def test_a_full_disk_is_one_error_and_the_earlier_output_stays(
    tmp_path: Path, bars: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    out = tmp_path / "out.parquet"
    out.write_bytes(b"earlier")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(f"quant_assets.features.{function}", full)
    with pytest.raises(FeatureError, match=r"No space left on device.*free the disk"):
        compute_in_blocks(bars, out, PACK, block_rows=2_000)
    assert out.read_bytes() == b"earlier"
    assert names_in(tmp_path) == {"bars.parquet", "out.parquet"}


def test_a_folder_that_cannot_take_its_place_leaves_the_earlier_parts(
    tmp_path: Path, bars: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    compute_in_blocks(bars, out, PACK, block_rows=2_000)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    rename = Path.rename

    def refusing(self: Path, target: Path) -> Path:
        if self.name == "ready":
            raise OSError(13, os.strerror(13))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refusing)
    with pytest.raises(FeatureError, match="Permission denied"):
        compute_in_blocks(bars, out, PACK, block_rows=4_000)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert names_in(tmp_path) == {"bars.parquet", "out"}


def test_a_folder_and_a_glob_are_one_panel(tmp_path: Path) -> None:
    folder = tmp_path / "universe" / "deep"
    folder.mkdir(parents=True)
    for k, part in enumerate(BARS.partition_by("session", maintain_order=True)[::450]):
        part.write_parquet(folder / f"day-{k}.parquet")
    BARS.filter(pl.col("symbol").str.starts_with("A")).write_parquet(tmp_path / "universe" / "a.parquet")
    BARS.filter(~pl.col("symbol").str.starts_with("A")).write_parquet(tmp_path / "universe" / "b.parquet")
    (tmp_path / "universe" / "_hidden.parquet").write_bytes(b"not read")
    glob = compute_in_blocks(f"{tmp_path}/universe/[ab].parquet", tmp_path / "one", PACK, block_rows=2_000)
    assert same_bits(pl.read_parquet(glob.out), WHOLE)
    with pytest.raises(FeatureError, match="one bar per symbol and session"):  # the days are there twice
        compute_in_blocks(tmp_path / "universe", tmp_path / "two", PACK, block_rows=2_000)
    for file in folder.iterdir():
        file.unlink()
    whole = compute_in_blocks(tmp_path / "universe", tmp_path / "two", PACK, block_rows=2_000)
    assert same_bits(pl.read_parquet(whole.out), WHOLE)


def test_no_file_and_a_file_lost_on_the_way_are_named(tmp_path: Path, bars: Path) -> None:
    with pytest.raises(SourceError, match=r"none-\*\.parquet.*no such file"):
        compute_in_blocks(tmp_path / "none-*.parquet", tmp_path / "out", PACK)
    with pytest.raises(SourceError, match=r"bars\.parquet.*there until the end.*restore"):
        compute_in_blocks(
            bars, tmp_path / "out", PACK, block_rows=1_000, progress=lambda *_: bars.unlink(missing_ok=True)
        )
    assert names_in(tmp_path) == set()
