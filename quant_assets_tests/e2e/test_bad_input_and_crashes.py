"""Bad files through a real run: one clear error, nothing stored; and a killed run that is repeated."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from quant_assets.defs.running import QUIET, failures
from quant_assets.market.sources.sources import read_bars
from quant_assets_tests.e2e.lineage import Lineage, edit, lineage_in


def write_csv(lineage: Lineage, target: Path, lines: dict[int, str] | None = None) -> None:
    """The noise market as a CSV file, with some of its lines replaced (line 0 is the header)."""
    bars = read_bars(lineage.settings.universes["noise_market"]).bars.drop("adj_close").head(3000)
    text = bars.write_csv().splitlines()
    for number, line in (lines or {}).items():
        text[number] = line
    target.write_text("\n".join(text) + "\n")


def run_year(lineage: Lineage, file: Path, *, strict: bool = False) -> tuple[bool, str]:
    """Point the noise market at a file and read its first year: whether it worked, and what was said."""
    edit(
        lineage.configs / "universes" / "noise_market.yaml",
        {
            "source": {"kind": "csv", "path": str(file)},
            "start": "2017-01-03",
            "end": "2018-12-31",
            "quality": {"strict": strict},
        },
    )
    lineage.reload()
    job = lineage.definitions.resolve_job_def("noise_market_raw_bars")
    result = job.execute_in_process(
        instance=lineage.instance, partition_key="2017", run_config=QUIET, raise_on_error=False
    )
    return result.success, " ".join(failures(result.all_events)[1])


HEADER = "symbol,session,open,high,low,close,volume"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ({0: HEADER.replace("close", "klose")}, ["close", "klose", "columns:"]),
        ({2: "S000,2017-01-03,10,11,9,10,100"}, ["2017-01-03", "S000", "contradicts row 1"]),
        ({2: "S000,2017-01-04,10,11,9,-10,100"}, ["-10", "close", "row 2"]),
        ({2: "S000,2017-01-04,10,11,9,,100"}, ["close", "row 2"]),
        ({2: "S000,2017-01-04,10,11,9,nan,100"}, ["close", "row 2"]),
        ({2: "S000,2017-01-04,10,8,9,10,100"}, ["high", "row 2"]),
        ({2: "S000,not a date,10,11,9,10,100"}, ["not a date", "row 2"]),
    ],
    ids=[
        "missing column",
        "duplicate key",
        "negative price",
        "null close",
        "NaN close",
        "high below low",
        "bad date",
    ],
)
def test_a_bad_file_gives_one_error_that_names_the_place_and_stores_nothing_where_a_universe_is_strict(
    lineage: Lineage, tmp_path: Path, lines: dict[int, str], said: list[str]
) -> None:
    file = tmp_path / "bars.csv"
    write_csv(lineage, file, lines)
    before = sorted(lineage.folder.glob("artifacts/objects/*/*"))
    version = lineage.version("noise_market", "raw_bars", partition="2017")
    worked, message = run_year(lineage, file, strict=True)
    assert not worked
    assert [
        part
        for part in [*said, "bars.csv", "expected", "found", "To do"]
        if part.lower() not in message.lower()
    ] == []
    assert sorted(lineage.folder.glob("artifacts/objects/*/*")) == before
    assert lineage.version("noise_market", "raw_bars", partition="2017") == version


def test_too_many_bad_rows_are_one_error_that_says_how_many_may_be_set_aside(
    lineage: Lineage, tmp_path: Path
) -> None:
    file = tmp_path / "bars.csv"
    write_csv(lineage, file, {2 + 13 * k: f"S000,2017-01-{4 + k:02d},10,8,9,10,100" for k in range(9)})
    before = sorted(lineage.folder.glob("artifacts/objects/*/*"))
    worked, message = run_year(lineage, file)
    assert not worked
    assert [part for part in ("bars.csv", "high", "set_aside", "To do") if part not in message] == []
    assert sorted(lineage.folder.glob("artifacts/objects/*/*")) == before


def test_a_good_file_with_the_usual_column_names_is_read(lineage: Lineage, tmp_path: Path) -> None:
    file = tmp_path / "bars.csv"
    write_csv(lineage, file, {0: "Ticker,Date,Open,High,Low,Close,Volume"})
    worked, message = run_year(lineage, file)
    assert worked, message
    event = lineage.event("noise_market", "raw_bars", partition="2017")
    assert event is not None
    assert event.metadata["column_mapping"].value["symbol"] == "Ticker"


def test_a_revised_year_changes_that_partition_and_no_other(lineage: Lineage, tmp_path: Path) -> None:
    file = tmp_path / "bars.csv"
    write_csv(lineage, file)
    assert run_year(lineage, file)[0]
    job = lineage.definitions.resolve_job_def("noise_market_raw_bars")

    def versions() -> list[str]:
        for year in ("2017", "2018"):
            assert job.execute_in_process(
                instance=lineage.instance, partition_key=year, run_config=QUIET
            ).success
        return [lineage.version("noise_market", "raw_bars", partition=y) for y in ("2017", "2018")]

    first = versions()
    frame = pl.read_csv(file, try_parse_dates=True)
    revised = frame.with_columns(
        close=pl.when(pl.col("session") == pl.date(2018, 3, 1)).then(pl.col("open")).otherwise("close")
    )
    revised.write_csv(file)
    second = versions()
    assert second[0] == first[0]
    assert second[1] != first[1]


@pytest.mark.drill
def test_a_run_killed_in_the_middle_leaves_no_partial_object_and_is_simply_repeated(tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    folder.mkdir()
    script = (
        "import sys, pathlib\n"
        "from quant_assets_tests.e2e.lineage import lineage_in\n"
        "with lineage_in(pathlib.Path(sys.argv[1])) as lineage:\n"
        "    print([o.decision for o in lineage.run('edge')])\n"
    )
    command = [sys.executable, "-c", script, str(folder)]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    objects = folder / "artifacts" / "objects"
    deadline = time.monotonic() + 120
    while len(list(objects.glob("*/[!.]*"))) < 10 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    with lineage_in(folder) as lineage:
        whole = list(objects.glob("*/[!.]*"))  # what is half written has a dot before its name
        assert len(whole) >= 10
        assert all(lineage.home.store.intact(p.name) for p in whole)
        (outcome,) = lineage.run("edge")
        assert outcome.decision == "promoted"
        bars = lineage.event("edge_market", "raw_bars", partition="2017")
        assert bars is not None
        assert bars.metadata["reused"].value is True
        statuses = {r.dagster_run.status for r in lineage.instance.get_run_records()}
        assert dg.DagsterRunStatus.SUCCESS in statuses
