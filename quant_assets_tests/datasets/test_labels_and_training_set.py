"""Labels start at the next open and carry their times; the training set holds only what was known."""

import json
from datetime import UTC, date, datetime

import polars as pl
import pytest

from quant_assets.common.errors import DatasetError
from quant_assets.common.settings import DelistingConfig
from quant_assets.datasets.labels import forward_return_labels
from quant_assets.datasets.training_set import (
    assemble_training_set,
    decidable_rows,
    feature_names_of,
    training_end,
)

# XNYS around Independence Day 2024: 3 July closes early at 13:00 New York (17:00 UTC), 4 July is closed.
SESSIONS = [date(2024, 7, d) for d in (1, 2, 3, 5, 8)]
OPEN = [datetime(2024, 7, d.day, 13, 30, tzinfo=UTC) for d in SESSIONS]
CLOSE = [datetime(2024, 7, d.day, 17 if d.day == 3 else 20, tzinfo=UTC) for d in SESSIONS]
TIMES = pl.DataFrame({"session": SESSIONS, "open_at": OPEN, "close_at": CLOSE})
BARS = pl.DataFrame(
    {"symbol": "A", "session": SESSIONS, "open": [10.0, 20.0, 30.0, 60.0, 90.0]}
).with_columns(close=pl.col("open") + 1.0)


def test_a_label_is_the_return_from_the_next_open_to_the_open_a_horizon_later() -> None:
    labels = forward_return_labels(BARS, TIMES, horizon_sessions=2)
    assert labels["session"].to_list() == SESSIONS[:2]
    assert labels["forward_return"].to_list() == [60.0 / 20.0 - 1.0, 90.0 / 30.0 - 1.0]


def test_a_label_knows_when_it_starts_ends_and_is_known() -> None:
    first = forward_return_labels(BARS, TIMES, horizon_sessions=2).row(0, named=True)
    assert first["t0"] == datetime(2024, 7, 1, 20, tzinfo=UTC)
    assert first["t1"] == datetime(2024, 7, 5, 13, 30, tzinfo=UTC)
    assert first["known_at"] == datetime(2024, 7, 5, 20, tzinfo=UTC)


def test_the_decision_precedes_the_fill_of_every_label() -> None:
    labels = forward_return_labels(BARS, TIMES, horizon_sessions=1)
    assert labels.select((pl.col("t0") < pl.col("t1")).all()).item()
    # entered at the open after t0, left at t1: with a horizon of 1 session the entry is one session before t1
    assert labels["session"].to_list() == SESSIONS[:3]


def test_a_halted_name_is_left_at_its_next_open_and_entered_at_none() -> None:
    holed = BARS.filter(pl.col("session") != date(2024, 7, 3))
    labels = forward_return_labels(holed, TIMES, horizon_sessions=1)
    # 1 July would leave on 3 July and waits for 5 July; 2 July would enter on 3 July; that day itself has no bar
    assert labels["session"].to_list() == [date(2024, 7, 1)]
    assert labels["forward_return"].to_list() == [60.0 / 20.0 - 1.0]
    assert labels.select("t1", "known_at").row(0) == (OPEN[3], CLOSE[3])
    two = forward_return_labels(holed, TIMES, horizon_sessions=2)
    assert two["session"].to_list() == [date(2024, 7, 1)]
    assert two["forward_return"].to_list() == [60.0 / 20.0 - 1.0]


# A name that ends on 2 July beside one that goes on.
ENDED = pl.concat([BARS, BARS.head(2).with_columns(symbol=pl.lit("B"))])


@pytest.mark.parametrize(("after", "known"), [(1, 2), (2, 3), (3, 4)])
def test_a_name_that_ends_is_left_at_its_last_close_and_known_when_it_has_ended(
    after: int, known: int
) -> None:
    delisting = DelistingConfig(final_return=-0.3, after_sessions=after)
    labels = forward_return_labels(ENDED, TIMES, horizon_sessions=1, delisting=delisting)
    (row,) = labels.filter(pl.col("symbol") == "B").rows(named=True)
    # decided on 1 July, entered at 20 on 2 July; on 3 July there is nothing to leave at but the close of 21
    assert row["session"] == SESSIONS[0]
    assert row["forward_return"] == pytest.approx(21.0 * 0.7 / 20.0 - 1.0, rel=1e-15)
    assert (row["t1"], row["known_at"]) == (OPEN[2], CLOSE[known])


def test_where_the_data_end_nobody_knows_yet_whether_a_name_has_ended() -> None:
    for delisting in (DelistingConfig(after_sessions=4), DelistingConfig()):
        labels = forward_return_labels(ENDED, TIMES, horizon_sessions=1, delisting=delisting)
        assert labels["symbol"].unique().to_list() == ["A"]
    # and the newest sessions of a panel that simply stops have no label at all
    assert forward_return_labels(BARS, TIMES, horizon_sessions=1)["session"].max() == SESSIONS[2]


def test_every_row_with_a_bar_and_complete_features_is_scored_whatever_came_of_it() -> None:
    bars = ENDED.with_columns(known_at=pl.col("session").cast(pl.Datetime("us", "UTC")))
    complete = bars.select("symbol", "session", f=pl.col("open").cast(pl.Float32))
    masked = complete.with_columns(f=pl.when(pl.col("session") > SESSIONS[0]).then("f"))
    rows = decidable_rows(masked, bars, ["f"], through=SESSIONS[3])
    assert rows.columns == ["symbol", "session", "t0", "f"]
    assert rows.select("session", "symbol").rows() == [
        (SESSIONS[1], "A"), (SESSIONS[1], "B"), (SESSIONS[2], "A"), (SESSIONS[3], "A"),
    ]  # fmt: skip
    labelled = forward_return_labels(ENDED, TIMES, horizon_sessions=1)
    assert (SESSIONS[1], "B") not in labelled.select("session", "symbol").rows()


def test_a_bar_on_a_holiday_is_refused_with_its_date() -> None:
    stray = pl.concat([BARS, BARS.head(1).with_columns(session=pl.lit(date(2024, 7, 4)))])
    with pytest.raises(DatasetError, match="2024-07-04"):
        forward_return_labels(stray, TIMES, horizon_sessions=1)


def features(values: list[float | None]) -> pl.DataFrame:
    frame = pl.DataFrame({"symbol": "A", "session": SESSIONS, "f": values})
    return frame.with_columns(pl.col("f").cast(pl.Float32))


def assemble(known_by: datetime, values: list[float | None]) -> pl.DataFrame:
    labels = forward_return_labels(BARS, TIMES, horizon_sessions=1)
    return assemble_training_set(
        features(values), labels, ["f"], known_by=known_by, manifest={"bars": "v1"}
    ).frame


def test_a_label_that_is_not_known_yet_stays_out() -> None:
    values: list[float | None] = [1.0, 2.0, 3.0, 4.0, 5.0]
    assert assemble(CLOSE[2], values)["session"].to_list() == SESSIONS[:1]
    assert assemble(CLOSE[3], values)["session"].to_list() == SESSIONS[:2]


def test_a_masked_feature_row_is_left_out_and_never_filled() -> None:
    frame = assemble(CLOSE[4], [None, 2.0, None, 4.0, 5.0])
    assert frame["session"].to_list() == [SESSIONS[1]]
    assert frame["f"].to_list() == [2.0]


def test_rows_that_are_dropped_are_counted_by_reason() -> None:
    labels = forward_return_labels(BARS, TIMES, horizon_sessions=1)  # of the first three sessions
    without_first = features([1.0, None, 3.0, None, 5.0]).slice(1)
    table = assemble_training_set(without_first, labels, ["f"], known_by=CLOSE[4], manifest={})
    assert table.frame["session"].to_list() == [SESSIONS[2]]
    assert (table.metadata["rows_dropped_masked"], table.metadata["rows_dropped_without_features"]) == (
        "1",
        "1",
    )


def test_the_manifest_travels_with_the_training_set() -> None:
    labels = forward_return_labels(BARS, TIMES, horizon_sessions=1)
    table = assemble_training_set(
        features([1.0] * 5), labels, ["f"], known_by=CLOSE[4], manifest={"bars": "v1"}
    )
    assert table.metadata["bars"] == "v1"
    assert json.loads(table.metadata["features"]) == ["f"]
    assert (table.metadata["rows"], table.metadata["known_by"]) == ("3", "2024-07-08T20:00:00+00:00")
    assert feature_names_of(table) == ("f",)


def test_an_empty_training_set_is_an_error_that_counts_both_sides() -> None:
    with pytest.raises(DatasetError, match="0 complete feature rows and 3 known labels"):
        assemble(CLOSE[4], [None] * 5)


def test_a_missing_feature_is_named() -> None:
    labels = forward_return_labels(BARS, TIMES, horizon_sessions=1)
    with pytest.raises(DatasetError, match="no column g"):
        assemble_training_set(features([1.0] * 5), labels, ["f", "g"], known_by=CLOSE[4], manifest={})


def test_the_newest_sessions_are_held_out_of_training() -> None:
    sessions = [date.fromordinal(730_000 + i) for i in range(200)]
    assert training_end(sessions, holdout_sessions=63) == sessions[136]
    with pytest.raises(DatasetError, match="at least 183 sessions"):
        training_end(sessions[:182], holdout_sessions=63)
