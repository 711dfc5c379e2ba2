"""The market stage on real runs: two sources become one panel, a lost one is replaced, strange bars are set aside."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from quant_assets.defs.assets import required_checks
from quant_assets.defs.running import QUIET
from quant_assets.defs.storage import artifact_of
from quant_assets_tests.e2e.lineage import Lineage, edit, lineage_in, write_configuration
from quant_assets_tests.market.two_sources import END, START, changed, feed

UNIVERSE = "noise_market"
SPIKE = date(2022, 8, 1)


@pytest.fixture
def lineage(tmp_path: Path) -> Iterator[Lineage]:
    """A universe of two symbols from two files; the second file has half the volume of AAA."""
    one = pl.concat([feed("AAA", 1), feed("BBB", 2)])
    other = one.with_columns(
        volume=pl.when(pl.col("symbol") == "AAA").then(pl.col("volume") / 2).otherwise(pl.col("volume"))
    )
    one.write_parquet(tmp_path / "one.parquet")
    other.write_parquet(tmp_path / "other.parquet")
    write_configuration(tmp_path / "configs")
    two_sources(tmp_path)
    with lineage_in(tmp_path) as opened:
        yield opened


def two_sources(folder: Path, **changes: object) -> None:
    sources = [
        {"kind": "parquet", "path": str(folder / f"{n}.parquet"), "label": n} for n in ("one", "other")
    ]
    content = {"source": sources[0], "alternatives": sources[1:], "start": START, "end": END, **changes}
    edit(folder / "configs" / "universes" / f"{UNIVERSE}.yaml", content)


def run_market(lineage: Lineage) -> dict[tuple[str, str], dg.AssetCheckEvaluation]:
    """Materialise the market stage; every check evaluation by asset and name."""
    universe = lineage.settings.universes[UNIVERSE]
    for year in universe.years:
        lineage.definitions.resolve_job_def(f"{UNIVERSE}_raw_bars").execute_in_process(
            instance=lineage.instance, partition_key=year, run_config=QUIET
        )
    keys = [
        dg.AssetKey(list(key))
        for key, node in lineage.graph.nodes.items()
        if key[0] == UNIVERSE and node.stage.group == "market" and node.partitions is None
    ]
    result = lineage.definitions.resolve_job_def("noise").execute_in_process(
        instance=lineage.instance, run_config=QUIET, raise_on_error=False, asset_selection=keys
    )
    found = result.get_asset_check_evaluations()
    return {(each.asset_key.path[-1], each.check_name): each for each in found}


def table(lineage: Lineage, name: str) -> pl.DataFrame:
    event = lineage.event(UNIVERSE, name)
    assert event is not None
    return artifact_of(event, lineage.home.store).table().frame


def test_two_sources_become_one_panel_and_the_check_names_the_factor_between_them(lineage: Lineage) -> None:
    checks = run_market(lineage)
    agree = checks["reconciled_bars", "sources_agree"]
    assert not agree.passed
    assert agree.severity == dg.AssetCheckSeverity.WARN
    assert "AAA: volume of one is 2.0 times that of other" in (agree.description or "")
    wanted = pl.read_parquet(lineage.folder / "one.parquet").sort("symbol", "session")
    assert table(lineage, "reconciled_bars")["volume"].to_list() == wanted["volume"].to_list()
    assert table(lineage, "bars").height == wanted.height


def test_a_lost_source_falls_over_to_the_next_and_the_event_says_so(lineage: Lineage) -> None:
    (lineage.folder / "one.parquet").unlink()
    run_market(lineage)
    event = lineage.event(UNIVERSE, "raw_bars", partition="2022")
    assert event is not None
    assert event.metadata["provider"].value.startswith("other: parquet")
    outcomes = {row.data["source"]: row.data for row in event.metadata["sources"].value.records}  # type: ignore[union-attr]
    assert outcomes["one"]["used"] is False
    assert "one.parquet" in str(outcomes["one"]["reason"])
    assert table(lineage, "bars").height == pl.read_parquet(lineage.folder / "other.parquet").height


def test_a_strange_bar_is_set_aside_with_its_evidence_until_a_person_accepts_it(lineage: Lineage) -> None:
    one = feed("AAA", 1)
    place = one["session"].index_of(SPIKE)
    assert place is not None
    prices = {name: pl.col(name) * 10 for name in ("open", "high", "low", "close", "adj_close")}
    spiked = pl.concat([changed(one, place, **prices), feed("BBB", 2)])
    for name in ("one", "other"):
        spiked.write_parquet(lineage.folder / f"{name}.parquet")
    checks = run_market(lineage)
    aside = table(lineage, "quarantined_bars")
    assert aside.select("symbol", "session", "rule").rows() == [("AAA", SPIKE, "decimal_slip")]
    assert aside["close"].item() == spiked.filter(pl.col("symbol") == "AAA")["close"][place]
    assert not checks["quarantined_bars", "decimal_slip"].passed
    assert checks["quarantined_bars", "decimal_slip"].severity == dg.AssetCheckSeverity.WARN
    assert table(lineage, "bars").height == spiked.height - 1
    assert checks["bars", "missing_sessions"].passed, "the session is not missing, it is in quarantine"

    assert "price_spike" in aside["evidence"].item(), "the other rule that it breaks is named as well"
    accepted = [
        {"symbol": "AAA", "session": SPIKE, "rule": rule, "reason": "seen on the tape"}
        for rule in ("decimal_slip", "price_spike")
    ]
    two_sources(lineage.folder, quality={"accepted": accepted})
    lineage.reload()
    run_market(lineage)
    assert table(lineage, "quarantined_bars").is_empty()
    assert table(lineage, "bars").height == spiked.height


def test_promotion_requires_every_error_rule_of_raw_and_of_adjusted_bars(lineage: Lineage) -> None:
    required = {key.to_user_string() for key in required_checks(lineage.graph, ("noise", "promotion"))}
    assert {
        f"{UNIVERSE}/quarantined_bars:quarantined_fraction",
        f"{UNIVERSE}/quarantined_bars:shifted_sessions",
        f"{UNIVERSE}/bars:split_never_rebased",
        f"{UNIVERSE}/bars:duplicate_keys",
    } <= required


def test_listings_tell_the_two_companies_of_a_symbol_apart_and_prove_survivorship(lineage: Lineage) -> None:
    days = feed("AAA", 1)["session"]
    gap = days[150:180]  # AAA was bought, and 30 sessions later another company is AAA
    path = lineage.folder / "one.parquet"
    kept = pl.read_parquet(path).filter((pl.col("symbol") == "BBB") | ~pl.col("session").is_in(gap.implode()))
    kept.write_parquet(path)
    source = {"kind": "parquet", "path": str(path)}
    lenient = {"max_missing_fraction": 0.5}
    two_sources(lineage.folder, source=source, alternatives=[], quality=lenient)
    lineage.reload()
    checks = run_market(lineage)
    survived = checks["bars", "survivorship"]
    assert (survived.passed, survived.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert (survived.description or "").startswith("survivorship: not proven. No listings")
    assert table(lineage, "bars")["symbol"].unique().sort().to_list() == ["AAA", "BBB"]

    header = "instrument_id,symbol,exchange,valid_from,valid_to,end_kind,delisting_return,known_at,source\n"
    rows = (
        f"old,AAA,XNYS,{START},{gap[9]},merger_cash,0.1,{gap[9]},desk\n"
        f"new,AAA,XNYS,{days[181]},,,,{START},desk\n"
        f"b,BBB,XNYS,{START},,,,{START},desk\n"
    )
    (lineage.folder / "listings.csv").write_text(header + rows, encoding="utf-8")
    told = {"kind": "csv", "path": str(lineage.folder / "listings.csv")}
    two_sources(lineage.folder, source=source, alternatives=[], quality={}, listings=told)
    lineage.reload()
    checks = run_market(lineage)
    assert checks["bars", "survivorship"].passed
    said = checks["bars", "survivorship"].description or ""
    assert "3 instruments, of which 1 ended (1 merger_cash; the final return of 1 is known)" in said
    assert checks["bars", "missing_fraction"].passed  # no session is missing between two companies
    bars = table(lineage, "bars")
    spans = (
        bars.group_by("symbol")
        .agg(first=pl.col("session").min(), last=pl.col("session").max())
        .sort("symbol")
    )
    assert spans.rows() == [
        ("AAA", days[181], days[-1]),
        (f"AAA:{START:%Y%m%d}", days[0], days[149]),
        ("BBB", days[0], days[-1]),
    ]
    (end,) = bars.filter(pl.col("listed_until").is_not_null()).rows(named=True)
    assert (end["session"], end["listed_until"], end["delisting_return"]) == (days[149], gap[9], 0.1)
    # the one bar before the new company was listed is no instrument's
    aside = table(lineage, "quarantined_bars")
    assert aside.select("symbol", "session", "rule").rows() == [
        ("AAA:unlisted", days[180], "outside_listing")
    ]
    outside = checks["quarantined_bars", "outside_listing"]
    assert (outside.passed, outside.severity) == (False, dg.AssetCheckSeverity.WARN)
