"""Vintages compared by content, and the decision which years to read again."""

import os
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant_assets.common.errors import SourceError
from quant_assets.common.hashing import frame_digest
from quant_assets.common.settings import UniverseConfig
from quant_assets.market.parsing import RAW_SCHEMA
from quant_assets.market.revisions import (
    FIELDS,
    KnownYear,
    compare_vintages,
    content_versions,
    decide,
    lost_vintage,
    source_state,
    symbol_digests,
    vintage,
)
from quant_assets.market.sources.sources import read_year

JANUARY = date(2020, 1, 2)
ROWS = [
    ("A", JANUARY, 10.0, 11.0, 9.0, 10.0, 100.0, 10.0),
    ("A", date(2020, 1, 3), 10.0, 12.0, 9.0, 11.0, 0.0, 11.0),
    ("B", JANUARY, 5.0, 6.0, 4.0, 5.0, 50.0, None),
]


def bars(*rows: tuple[object, ...]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=RAW_SCHEMA, orient="row")


BEFORE = bars(*ROWS)


def test_the_first_vintage_revises_nothing() -> None:
    first = compare_vintages(None, BEFORE)
    assert (first.kind, first.rows_added, first.rows_changed) == ("first", 3, 0)
    assert first.sentence == "first vintage, 3 bars"


def test_the_same_bars_in_another_order_are_unchanged() -> None:
    assert compare_vintages(BEFORE, BEFORE.reverse()).kind == "unchanged"


def test_later_sessions_are_appended() -> None:
    later = ("A", date(2020, 1, 6), 11.0, 12.0, 10.0, 11.5, 90.0, 11.5)
    revision = compare_vintages(BEFORE, bars(*ROWS, later))
    assert (revision.kind, revision.rows_added) == ("appended", 1)
    assert revision.changes.is_empty()
    assert revision.symbols.rows() == [("A", 1, 0, 0)]


def test_a_bar_added_on_a_day_that_was_already_known_is_rewritten_history() -> None:
    late = ("B", date(2020, 1, 3), 5.0, 6.0, 4.0, 5.0, 50.0, None)
    revision = compare_vintages(BEFORE, bars(*ROWS, late))
    assert (revision.kind, revision.rows_added, revision.rows_changed) == ("revised", 1, 0)


def test_a_year_filled_behind_a_known_one_is_rewritten_history_and_a_new_year_is_not() -> None:
    empty = BEFORE.clear()
    assert compare_vintages(empty, BEFORE, known_through=date(2021, 3, 1)).kind == "revised"
    assert compare_vintages(empty, BEFORE, known_through=date(2019, 12, 31)).kind == "appended"
    assert compare_vintages(empty, BEFORE).kind == "appended"


def test_a_removed_bar_is_rewritten_history() -> None:
    revision = compare_vintages(BEFORE, bars(*ROWS[:2]))
    assert (revision.kind, revision.rows_removed) == ("revised", 1)
    assert revision.symbols.rows() == [("B", 0, 1, 0)]


def test_changes_are_listed_with_old_new_and_relative_change_the_undefined_and_the_largest_first() -> None:
    changed = bars(
        ("A", JANUARY, 10.0, 11.0, 9.0, 10.5, 100.0, 10.0),
        ("A", date(2020, 1, 3), 10.0, 12.0, 9.0, 11.0, 7.0, 11.0),
        ("B", JANUARY, 5.0, 6.0, 4.0, 4.5, 50.0, 4.5),
    )
    revision = compare_vintages(BEFORE, changed)
    assert (revision.kind, revision.rows_changed) == ("revised", 3)
    assert revision.changes.rows() == [
        ("A", date(2020, 1, 3), "", "volume", 0.0, 7.0, None),
        ("B", JANUARY, "", "adj_close", None, 4.5, None),
        ("B", JANUARY, "", "close", 5.0, 4.5, pytest.approx(-0.1)),
        ("A", JANUARY, "", "close", 10.0, 10.5, pytest.approx(0.05)),
    ]
    assert revision.sentence == "history rewritten: 0 bars added, 0 removed, 3 changed (A, B)"


def test_a_value_that_appears_is_a_change() -> None:
    revision = compare_vintages(BEFORE, bars(*ROWS[:2], ("B", JANUARY, 5.0, 6.0, 4.0, 5.0, 50.0, 4.9)))
    assert (revision.kind, revision.rows_changed) == ("revised", 1)
    assert revision.changes.rows() == [("B", JANUARY, "", "adj_close", None, 4.9, None)]


def test_bars_of_several_sources_are_compared_source_by_source() -> None:
    both = pl.concat(BEFORE.with_columns(source=pl.lit(name)) for name in ("first", "second"))
    second = pl.col("source") == "second"
    moved = pl.when(second & (pl.col("volume") == 50.0)).then(60.0).otherwise(pl.col("volume"))
    revision = compare_vintages(both, both.with_columns(volume=moved))
    assert (revision.kind, revision.rows_changed) == ("revised", 1)
    assert revision.changes.rows() == [("B", JANUARY, "second", "volume", 50.0, 60.0, pytest.approx(0.2))]


def test_a_lost_vintage_still_tells_which_symbols_were_touched() -> None:
    now = symbol_digests(bars(("A", JANUARY, 10.0, 11.0, 9.0, 10.5, 100.0, 10.0), *ROWS[1:]))
    revision = lost_vintage(symbol_digests(BEFORE), now)
    assert revision.kind == "revised"
    assert revision.symbols["symbol"].to_list() == ["A"]
    assert lost_vintage(now, now).kind == "unchanged"


@st.composite
def panels(draw: st.DrawFn) -> pl.DataFrame:
    keys = draw(st.sets(st.tuples(st.sampled_from("ABC"), st.integers(0, 6)), max_size=12))
    values = st.sampled_from([1.0, 2.0, 3.0])
    rows = [
        (symbol, JANUARY + timedelta(days=day), *(draw(values) for _ in FIELDS))
        for symbol, day in sorted(keys)
    ]
    return bars(*rows)


@settings(max_examples=60, deadline=None)
@given(panels(), panels())
def test_counts_agree_with_sets_of_rows_and_with_the_digests(old: pl.DataFrame, new: pl.DataFrame) -> None:
    revision = compare_vintages(old, new)
    before, now = ({row[:2]: row[2:] for row in frame.rows()} for frame in (old, new))
    assert revision.rows_added == len(now.keys() - before.keys())
    assert revision.rows_removed == len(before.keys() - now.keys())
    assert revision.rows_changed == sum(before[k] != now[k] for k in now.keys() & before.keys())
    assert (revision.kind == "unchanged") == (frame_digest(old) == frame_digest(new))
    a, b = symbol_digests(old), symbol_digests(new)
    assert revision.symbols["symbol"].to_list() == sorted(n for n in {*a, *b} if a.get(n) != b.get(n))
    if revision.kind == "appended" and before:
        assert min(d for _, d in now.keys() - before.keys()) > max(d for _, d in before)


# ------------------------------------------------------------------------------------------ the decision

KNOWN = {"2019": KnownYear("a", "run1"), "2020": KnownYear("b", "run2")}


def test_nothing_is_requested_when_every_year_is_as_materialised() -> None:
    assert decide("u", {"2019": "a", "2020": "b"}, KNOWN, {}) == ([], "u: 2 years as materialised")


def test_only_years_whose_content_differs_or_was_never_seen_are_requested_in_order() -> None:
    requests, note = decide("u", {"2021": "c", "2020": "B", "2019": "a"}, KNOWN, {})
    assert [(r.year, r.version) for r in requests] == [("2020", "B"), ("2021", "c")]
    assert note == "u: the bars of 2020 have changed; 2021 was never materialised"


def test_the_same_state_has_the_same_run_key_and_a_revision_taken_back_has_another() -> None:
    (once,), _ = decide("u", {"2020": "B"}, KNOWN, {})
    (again,), _ = decide("u", {"2020": "B"}, KNOWN, {})
    assert once == again
    (later,), _ = decide("u", {"2020": "B"}, {"2020": KnownYear("b", "run9")}, {})
    assert later.run_key != once.run_key


def test_a_content_whose_runs_fail_is_tried_three_times() -> None:
    keys = {decide("u", {"2020": "B"}, KNOWN, {("2020", "B"): n})[0][0].run_key for n in range(3)}
    assert len(keys) == 3
    requests, note = decide("u", {"2020": "B"}, KNOWN, {("2020", "B"): 3})
    assert not requests
    assert "3 runs for this content failed" in note


def universe(path: Path) -> UniverseConfig:
    return UniverseConfig.model_validate(
        {
            "name": "market",
            "calendar": "XNYS",
            "start": "2019-01-02",
            "end": "2020-12-31",
            "source": {"kind": "parquet", "path": str(path)},
        }
    )


def test_the_state_of_a_source_changes_with_the_file_and_with_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "bars.parquet"
    BEFORE.write_parquet(file)
    first = source_state(universe(file))
    assert source_state(universe(file)) == first
    os.utime(file, ns=(1, 1))
    assert source_state(universe(file)) != first
    shorter = universe(file).model_copy(update={"end": date(2020, 6, 30)})
    assert source_state(shorter) != source_state(universe(file))
    file.unlink()
    with pytest.raises(SourceError, match="expected at least one file"):
        source_state(universe(file))


def test_a_content_version_is_the_digest_of_what_the_partition_stores(tmp_path: Path) -> None:
    file = tmp_path / "bars.parquet"
    BEFORE.write_parquet(file)
    versions = content_versions(universe(file))
    assert list(versions) == ["2019", "2020"]
    table = vintage(read_year(universe(file), "2020"))
    assert table.frame.height == 3
    assert versions["2020"] == frame_digest(table.frame, table.metadata)
