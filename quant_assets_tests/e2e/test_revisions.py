"""A vendor rewrites one bar: what is detected, what is materialised again, and what was known on which day."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from typer.testing import CliRunner

from quant_assets.cli.main import app
from quant_assets.common.errors import ConfigurationError, StoreError
from quant_assets.common.hashing import frame_digest
from quant_assets.common.logging import configure_logging
from quant_assets.common.store import Table
from quant_assets.defs.storage import EventLog
from quant_assets.lineage.notebook import Replay
from quant_assets.lineage.replaying import replay_data_set
from quant_assets_tests.e2e.lineage import Lineage
from quant_assets_tests.e2e.vendor import UNIVERSE, Daemon, Vendor, made, sell_by_file, stale, vendor_in

pytestmark = pytest.mark.drill

RAW = f"{UNIVERSE}/raw_bars"
READS_RAW = {f"{UNIVERSE}/{name}" for name in ("corporate_actions", "quarantined_bars", "bars")}
SESSION = date(2019, 5, 15)
REPLAYED = (
    (UNIVERSE, "bars"),
    (UNIVERSE, "technical_features"),
    ("edge", "labels"),
    ("edge", "training_set"),
)


@pytest.fixture(scope="module")
def sold_folder(built_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The edge lineage, built again from the same bars in a vendor's file. Read-only by agreement."""
    folder = tmp_path_factory.mktemp("sold") / "copy"
    shutil.copytree(built_folder, folder)
    sell_by_file(folder)
    with vendor_in(folder) as vendor:
        (outcome,) = vendor.lineage.run("edge")
    assert outcome.decision == "promoted", outcome.reasons
    return folder


@pytest.fixture
def vendor(sold_folder: Path, tmp_path: Path) -> Iterator[Vendor]:
    """A private copy, with the file where it always was: its path is part of the data's identity."""
    shutil.copytree(sold_folder, tmp_path / "copy")
    original = (sold_folder / "vendor.parquet").read_bytes()
    with vendor_in(tmp_path / "copy", file=sold_folder / "vendor.parquet") as private:
        yield private
    (sold_folder / "vendor.parquet").write_bytes(original)


@dataclass(frozen=True)
class Revised:
    """What a revision of one close did: the runs, and the versions and times before and after."""

    vendor: Vendor
    runs: list[dg.DagsterRun]
    stale_before: set[str]
    stale_after_raw: set[str]
    stale_after: set[str]
    versions_before: dict[str, str]
    before: datetime
    between: datetime


@pytest.fixture(scope="module")
def revised(sold_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Revised]:
    """One close (and the adjusted close with it) revised in 2019, and the sensors ticked until they are content."""
    folder = tmp_path_factory.mktemp("revised") / "copy"
    shutil.copytree(sold_folder, folder)
    file = sold_folder / "vendor.parquet"
    original = file.read_bytes()
    with vendor_in(folder, file=file) as vendor:
        lineage, daemon = vendor.lineage, Daemon(vendor.lineage)
        assert daemon.tick("new_bars") == daemon.tick("reconcile") == []
        fresh, before = stale(lineage), datetime.now(UTC)
        versions = {name: lineage.version(*name.split("/")) for name in behind_raw_bars(lineage)}
        vendor.rewrite("S003", SESSION, "close", "adj_close", factor=1.0001)
        runs = daemon.tick("new_bars")
        after_raw, between = stale(lineage), datetime.now(UTC)
        runs += daemon.settle("reconcile")
        assert daemon.tick("new_bars") == []
        file.write_bytes(original)  # the other tests start from it; replays read no source
        yield Revised(vendor, runs, fresh, after_raw, stale(lineage), versions, before, between)


def behind_raw_bars(lineage: Lineage) -> set[str]:
    """Every asset that has the raw bars upstream."""
    graph = lineage.definitions.resolve_asset_graph()
    raw = dg.AssetKey([UNIVERSE, "raw_bars"])
    keys = graph.get_all_asset_keys()
    return {k.to_user_string() for k in keys if raw in graph.get_ancestor_asset_keys(k)}


def as_known(vendor: Vendor, asset: tuple[str, str], as_of: datetime) -> Replay:
    lineage = vendor.lineage
    return replay_data_set(lineage.graph, EventLog(lineage.instance, lineage.home), asset, as_of)


# ------------------------------------------------------------------------------ detection and the run list


def test_one_revised_close_materialises_its_year_and_each_descendant_once_and_nothing_else(
    revised: Revised,
) -> None:
    lists = [made(revised.vendor.lineage, run) for run in revised.runs]
    assert lists[0] == {f"{RAW}[2019]"}
    assert lists[1] == READS_RAW
    names = [name for materialised in lists[1:] for name in materialised]
    assert len(names) == len(set(names)), "an asset was made twice"
    assert set(names) == behind_raw_bars(revised.vendor.lineage)
    finished = [revised.vendor.lineage.instance.get_run_by_id(run.run_id) for run in revised.runs]
    assert {run.status for run in finished if run} == {dg.DagsterRunStatus.SUCCESS}
    assert revised.runs[0].tags["quant/reason"] == "the bars of 2019 have changed"


def test_only_what_reads_the_revised_year_is_stale_and_nothing_is_in_the_end(revised: Revised) -> None:
    assert revised.stale_after_raw - revised.stale_before == READS_RAW
    assert revised.stale_after == revised.stale_before
    assert not revised.stale_before & behind_raw_bars(revised.vendor.lineage)


def test_the_event_and_the_check_say_what_was_rewritten(revised: Revised) -> None:
    lineage = revised.vendor.lineage
    event = lineage.event(UNIVERSE, "raw_bars", partition="2019")
    assert event is not None
    facts = {name: value.value for name, value in event.metadata.items()}
    assert facts["change"] == "revised"
    assert (facts["rows_added"], facts["rows_removed"], facts["rows_changed"]) == (0, 0, 1)
    table = event.metadata["largest_changes"]
    assert isinstance(table, dg.TableMetadataValue)
    rows = [record.data for record in table.records]
    assert [(r["symbol"], r["session"], r["field"]) for r in rows] == [
        ("S003", "2019-05-15", "adj_close"),
        ("S003", "2019-05-15", "close"),
    ]
    assert rows[1]["relative_change"] == pytest.approx(1e-4)
    assert len(facts["symbol_digests"]) == 12  # type: ignore[arg-type]
    check = dg.AssetCheckKey(dg.AssetKey([UNIVERSE, "raw_bars"]), "revisions")
    record = lineage.instance.get_latest_asset_check_evaluation_record(check)
    assert record is not None
    assert record.evaluation is not None
    assert (record.evaluation.passed, record.evaluation.severity.value) == (False, "WARN")
    assert record.evaluation.description == "history rewritten in 2019"
    assert record.evaluation.blocking is False


def test_a_change_that_alters_no_adjusted_bar_ends_at_the_bars(vendor: Vendor) -> None:
    """An adjusted close that moves by less than its rounding noise is no action, and ``bars`` has no other use."""
    lineage, daemon = vendor.lineage, Daemon(vendor.lineage)
    before = {name: lineage.version(UNIVERSE, name) for name in ("corporate_actions", "bars")}
    vendor.rewrite("S001", date(2020, 3, 4), "adj_close", factor=1 + 1e-7)
    runs = [*daemon.tick("new_bars"), *daemon.settle("reconcile")]
    assert [made(lineage, run) for run in runs] == [
        {f"{RAW}[2020]"},
        READS_RAW,
    ]
    assert {name: lineage.version(UNIVERSE, name) for name in before} == before
    assert not stale(lineage) & behind_raw_bars(lineage)


def test_the_run_command_does_the_same_and_says_reused_for_the_rest(vendor: Vendor) -> None:
    lineage = vendor.lineage
    vendor.rewrite("S001", date(2020, 3, 4), "adj_close", factor=1 + 1e-7)
    lineage.run("edge")
    computed = {
        name
        for name in behind_raw_bars(lineage)
        if not lineage.event(*name.split("/")).metadata["reused"].value  # type: ignore[union-attr]
    }
    years = {
        year: lineage.event(UNIVERSE, "raw_bars", partition=year).metadata  # type: ignore[union-attr]
        for year in lineage.settings.universes[UNIVERSE].years
    }
    assert {year for year, facts in years.items() if not facts["reused"].value} == {"2020"}
    assert {year for year, facts in years.items() if facts["change"].value != "unchanged"} == {"2020"}
    assert computed == READS_RAW


def test_a_session_taken_away_is_a_revision_and_given_back_it_is_appended_and_asked_for_again(
    vendor: Vendor,
) -> None:
    daemon = Daemon(vendor.lineage)
    whole = vendor.file.read_bytes()
    bars = pl.read_parquet(vendor.file)
    bars.filter(pl.col("session") < bars["session"].max()).write_parquet(vendor.file)
    kinds, lists = [], []
    for content in (None, whole, None):
        if content is not None:
            vendor.file.write_bytes(content)
        lists.append([made(vendor.lineage, run) for run in daemon.tick("new_bars")])
        event = vendor.lineage.event(UNIVERSE, "raw_bars", partition="2022")
        assert event is not None
        kinds.append(event.metadata["change"].value)
    assert lists == [[{f"{RAW}[2022]"}], [{f"{RAW}[2022]"}], []]
    assert kinds == ["revised", "appended", "appended"]


def test_a_source_that_cannot_be_read_is_said_and_costs_no_memory(vendor: Vendor) -> None:
    daemon = Daemon(vendor.lineage)
    daemon.tick("new_bars")
    memory, whole = daemon.cursors["new_bars"], vendor.file.read_bytes()
    assert memory is not None
    assert set(json.loads(memory)[UNIVERSE]["versions"]) == {"2017", "2018", "2019", "2020", "2021", "2022"}
    vendor.file.write_bytes(whole[:1000])
    assert daemon.tick("new_bars") == []
    assert "edge_market: the source cannot be read: [QA201]" in daemon.skipped
    assert daemon.cursors["new_bars"] == memory
    vendor.file.unlink()
    assert daemon.tick("new_bars") == []
    assert "expected at least one file" in daemon.skipped
    vendor.file.write_bytes(whole)
    assert daemon.tick("new_bars") == []
    assert daemon.skipped == "edge_market: 6 years as materialised"


# -------------------------------------------------------------------------------------- as known on a day


@pytest.mark.parametrize("asset", REPLAYED, ids="/".join)
def test_before_the_revision_a_replay_gives_the_old_bits_and_after_it_the_new(
    revised: Revised, asset: tuple[str, str]
) -> None:
    old, new = (
        as_known(revised.vendor, asset, revised.before),
        as_known(revised.vendor, asset, datetime.now(UTC)),
    )
    assert old.encoded.version == revised.versions_before["/".join(asset)]
    assert new.encoded.version == revised.vendor.lineage.version(*asset)
    # Labels are returns from open to open: a revised close leaves them as they were.
    assert (old.encoded.version == new.encoded.version) == (asset == ("edge", "labels"))
    assert (old.exit_code, new.exit_code) == (0, 0)
    assert {stage.status for stage in (*old.stages, *new.stages)} == {"same bits"}
    differ = {a.partition for a, b in zip(old.vintages, new.vintages, strict=True) if a != b}
    assert differ == {"2019"}


def test_a_replay_is_byte_for_byte_the_stored_object_and_writes_nothing(revised: Revised) -> None:
    lineage = revised.vendor.lineage
    objects = sorted((lineage.folder / "artifacts").rglob("*"))
    events = lineage.instance.event_log_storage.get_maximum_record_id()
    again = as_known(revised.vendor, (UNIVERSE, "bars"), datetime.now(UTC))
    event = lineage.event(UNIVERSE, "bars")
    assert event is not None
    assert again.encoded.data == lineage.home.store.get(str(event.metadata["quant/object"].value))
    assert sorted((lineage.folder / "artifacts").rglob("*")) == objects
    assert lineage.instance.event_log_storage.get_maximum_record_id() == events


def test_between_the_revision_and_its_runs_the_bars_of_the_day_had_not_seen_it(revised: Revised) -> None:
    late = as_known(revised.vendor, (UNIVERSE, "bars"), revised.between)
    assert late.exit_code == 1
    assert late.stages[-1].status == "other inputs"
    assert late.stages[-1].version_then == revised.versions_before[f"{UNIVERSE}/bars"]
    assert late.encoded.version == revised.vendor.lineage.version(UNIVERSE, "bars")
    assert "had not seen the newest vintage" in late.reasons[-1]


def test_raw_bars_of_a_day_are_its_vintages(revised: Revised) -> None:
    then = as_known(revised.vendor, (UNIVERSE, "raw_bars"), revised.before).value
    now = as_known(revised.vendor, (UNIVERSE, "raw_bars"), datetime.now(UTC)).value
    assert isinstance(then, Table)
    assert isinstance(now, Table)
    here = (pl.col("symbol") == "S003") & (pl.col("session") == SESSION)
    old, new = (t.frame.filter(here)["close"].item() for t in (then, now))
    assert new == old * 1.0001
    assert frame_digest(then.frame.filter(~here)) == frame_digest(now.frame.filter(~here))


def test_before_the_first_vintage_the_error_names_the_first_known_time(revised: Revised) -> None:
    with pytest.raises(StoreError, match="all of them are known since 20") as caught:
        as_known(revised.vendor, (UNIVERSE, "bars"), datetime(2001, 1, 1, tzinfo=UTC))
    assert "edge_market/raw_bars[2017]" in str(caught.value)


def test_a_changed_configuration_explains_why_the_bits_differ(vendor: Vendor) -> None:
    before = datetime.now(UTC)
    vendor.lineage.change_strategy("edge", label={"horizon_sessions": 3})
    replayed = as_known(vendor, ("edge", "labels"), before)
    assert replayed.exit_code == 1
    assert [stage.status for stage in replayed.stages][-1] == "other code"
    assert "other code or configuration than today's" in replayed.reasons[-1]


@pytest.mark.parametrize("damage", [b"", None], ids=["damaged", "missing"])
def test_a_lost_vintage_is_one_clear_error(vendor: Vendor, damage: bytes | None) -> None:
    event = vendor.lineage.event(UNIVERSE, "raw_bars", partition="2018")
    assert event is not None
    path = vendor.lineage.home.store.path(str(event.metadata["quant/object"].value))
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)
    with pytest.raises(
        StoreError, match=r"of edge_market/raw_bars\[2018\].*restore the object from a backup"
    ):
        as_known(vendor, ("edge", "labels"), datetime.now(UTC))


def test_an_unknown_data_set_and_an_empty_history_are_said(revised: Revised) -> None:
    with pytest.raises(StoreError, match="did you mean 'technical_features'"):
        as_known(revised.vendor, (UNIVERSE, "technical_feature"), datetime.now(UTC))
    with pytest.raises(StoreError, match="expected a data set of edge: "):
        as_known(revised.vendor, ("edge", "promotion"), datetime.now(UTC))
    lineage = revised.vendor.lineage
    asset, now = (UNIVERSE, "bars"), datetime.now(UTC)
    with dg.DagsterInstance.ephemeral() as empty:  # noqa: SIM117 (one call below `raises`)
        with pytest.raises(StoreError, match="6 of 6 were never materialised in this instance"):
            replay_data_set(lineage.graph, EventLog(empty, lineage.home), asset, now)


def test_the_replay_command(revised: Revised, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lineage = revised.vendor.lineage
    home = tmp_path / "home"  # a home of its own: the configuration beside it is not an adopted one
    home.mkdir()
    for name in ("artifacts", "dagster"):
        (home / name).symlink_to(lineage.folder / name)
    monkeypatch.setenv("QUANT_ASSETS_HOME", str(home))
    monkeypatch.setenv("QUANT_ASSETS_CONFIGS", str(lineage.configs))
    call = CliRunner().invoke
    try:
        out, report = tmp_path / "bars.parquet", tmp_path / "replay.json"
        words = [
            "replay",
            "--universe",
            UNIVERSE,
            "--as-of",
            "2999-01-01",
            "--out",
            str(out),
            "--json",
            str(report),
        ]
        done = call(app, words)
        assert done.exit_code == 0, done.output
        assert "same bits as" in done.output
        assert frame_digest(pl.read_parquet(out)) == lineage.version(UNIVERSE, "bars")
        found = json.loads(report.read_text())
        assert found["version"] == lineage.version(UNIVERSE, "bars")
        assert found["as_of"] < "2999"
        assert [v["partition"] for v in found["vintages"]] == ["2017", "2018", "2019", "2020", "2021", "2022"]
        late = call(app, ["replay", "-s", "edge", "--as-of", revised.between.isoformat()])
        assert late.exit_code == 1
        assert isinstance(
            call(app, ["replay", "-u", "edge_marke", "--as-of", "2026-11-01"]).exception, ConfigurationError
        )
        for wrong in (["--as-of", "2026-11-01"], ["-s", "edge", "--as-of", "yesterday"]):
            assert call(app, ["replay", *wrong]).exit_code == 2
    finally:
        configure_logging(level=30)
