"""Defects that the quality rules find: single rows, and levels or gaps of a whole series."""

from datetime import date, timedelta

import polars as pl

from quant_assets_tests.market.defect_feeds import (
    AT,
    PRICES,
    SESSIONS,
    SPOILT,
    Case,
    add,
    position,
    put,
    row_of,
    scale,
    where,
)

ROW = row_of(AT)
DAY = "2022-08-05"  # session AT
OWN = pl.col("symbol") == SPOILT
LATER = OWN & (position() >= AT)
LAST = where(752)
DATE = pl.col("session")
HTML = ['<html lang="en-us">', "  <head><title>Yahoo</title></head>", "</html>"]


ROWS = [
    Case(
        "a weekend session",
        lambda f: add(f, AT, session=date(2022, 8, 6), volume=777.0),
        ("sessions_outside_calendar",),
        "is a weekend: no session of XNYS",
        "S001 2022-08-06: Saturday",
    ),
    Case(
        "a holiday session",
        lambda f: add(f, AT, session=date(2022, 7, 4), volume=777.0),
        ("sessions_outside_calendar",),
        "is a holiday: no session of XNYS",
        "S001 2022-07-04: Monday",
    ),
    Case(
        "dates a day early (midnight elsewhere, written in UTC)",
        lambda f: f.with_columns(session=DATE - timedelta(days=1)).filter(
            DATE.is_between(date(2021, 1, 4), date(2023, 12, 29))
        ),
        (
            "sessions_outside_calendar",
            "shifted_sessions",
            "quarantined_fraction",
            "missing_fraction",
            "missing_sessions",
            "empty_sessions",
        ),
        "shifted_sessions",
        r"ERROR shifted_sessions .*'S001', datetime.date\(2021, 1, 4\), 1.0, 0.0",
    ),
    Case(
        "padding before the listing",
        put(where(0, 9), **dict.fromkeys(PRICES, 50.0), volume=0.0),
        ("padded_before_listing",),
        "10 bars before the first trade of S001",
        "S001 2021-01-04",
    ),
    Case(
        "padding after the delisting",
        put(where(743, 752), **dict.fromkeys(PRICES, 50.0), volume=0.0),
        ("padded_after_delisting",),
        "10 bars after the last trade of S001",
        "S001 2023-12-15",
    ),
    Case(
        "a row written again",
        put(where(AT), **{n: pl.col(n).shift() for n in (*PRICES, "volume")}),
        ("repeated_bar",),
        "that row was written again",
        f"S001 {DAY}: all five values are those of 2022-08-04",
    ),
    Case(
        "decimal point, x 10",
        scale(where(AT), 10),
        ("decimal_slip",),
        "is about 10.0 times",
        f"S001 {DAY}: close",
    ),
    Case(
        "decimal point, x 100",
        scale(where(AT), 100),
        ("decimal_slip",),
        "is about 100.0 times",
        f"S001 {DAY}: close",
    ),
    Case(
        "decimal point, / 10",
        scale(where(AT), 0.1),
        ("decimal_slip",),
        "is about 0.1 times",
        f"S001 {DAY}: close",
    ),
    Case(
        "decimal point, low only",
        scale(where(AT), 0.1, "low"),
        ("decimal_slip",),
        "low [0-9.]+ is about 0.1 times",
        f"S001 {DAY}",
    ),
    Case(
        "close outside the range",
        put(where(AT), close=pl.col("high") * 1.03, adj_close=pl.col("high") * 1.03),
        ("ohlc_consistency",),
        "or close [0-9.]+ lies outside",
        f"S001 {DAY}",
    ),
    Case(
        "open outside the range",
        put(where(AT), open=pl.col("low") * 0.97),
        ("ohlc_consistency",),
        "or close [0-9.]+ lies outside",
        f"S001 {DAY}: open",
    ),
    Case(
        "a tick far above",
        scale(where(AT), 2.7, "high"),
        ("range_spike",),
        "high [0-9.]+ is .* times away",
        f"S001 {DAY}",
    ),
    Case(
        "a spike that reverts",
        scale(where(AT), 1.6),
        ("price_spike",),
        "a leap for one session only",
        f"S001 {DAY}: close",
    ),
    Case(
        "a spike that reverts, down",
        scale(where(AT), 0.7),
        ("price_spike",),
        "a leap for one session only",
        f"S001 {DAY}: close",
    ),
    Case(
        "a volume x 1000",
        scale(where(AT), 1.0, volume=1000),
        ("volume_spike",),
        "volume .* times the median around it",
        f"S001 {DAY}",
    ),
    Case(
        "an absurd volume",
        put(where(AT), volume=4e17),
        ("volume_spike",),
        "volume .* times the median around it",
        f"S001 {DAY}",
    ),
    Case(
        "a fractional volume",
        put(where(AT), volume=pl.col("volume") + 0.37),
        ("fractional_volume",),
        r"volume [0-9.]+\.37 is no whole number",
        f"S001 {DAY}",
    ),
    Case(
        "a partial last bar",
        put(
            LAST,
            volume=(pl.col("volume") * 0.04).round(),
            high=pl.max_horizontal("open", "close"),
            low=pl.min_horizontal("open", "close"),
        ),
        ("partial_last_bar",),
        "taken before the session's end",
        "S001 2023-12-29",
    ),
]

SERIES = [
    Case(
        "adjusted closes of two downloads",
        scale(LATER, 0.5, "adj_close"),
        ("contradictory_actions", "actions_in_doubt"),
        "contradiction: adj_close/close x 0.5",
        f"S001 {DAY} contradiction",
    ),
    Case(
        "prices slipped, adjusted close not",
        scale(where(AT), 10, "open", "high", "low", "close"),
        ("decimal_slip", "actions_in_doubt"),
        "decimal point or unit slipped",
        f"S001 {DAY} undone_split: prices x 10, back on 2022-08-08",
    ),
    Case(
        "a split 2:1 never re-based",
        scale(LATER, 1 / 2, volume=2),
        ("split_never_rebased",),
        "a split 2:1 never re-based",
        f"S001 {DAY}",
    ),
    Case(
        "a split 3:2 never re-based",
        scale(LATER, 2 / 3, volume=1.5),
        ("split_never_rebased",),
        "a split 3:2 never re-based",
        f"S001 {DAY}",
    ),
    Case(
        "a split 50:1 never re-based",
        scale(LATER, 1 / 50, volume=50),
        ("split_never_rebased",),
        "a split 50:1 never re-based",
        f"S001 {DAY}",
    ),
    Case(
        "a reverse split 1:10 never re-based",
        scale(LATER, 10, volume=0.1),
        ("split_never_rebased",),
        "a split 1:10 never re-based",
        f"S001 {DAY}",
    ),
    Case(
        "pounds become pence",
        scale(LATER, 100),
        ("price_unit_change",),
        "another unit, x 100.0",
        f"S001 {DAY}",
    ),
    Case(
        "pence become pounds",
        scale(LATER, 0.01),
        ("price_unit_change",),
        "another unit, x 0.01",
        f"S001 {DAY}",
    ),
    Case(
        "units become thousands",
        scale(LATER, 0.001),
        ("price_unit_change",),
        "another unit, x 0.001",
        f"S001 {DAY}",
    ),
    Case(
        "a fall that nothing explains",
        scale(LATER, 0.55),
        ("unexplained_jumps",),
        "WARN unexplained_jumps",
        r"'S001', datetime.date\(2022, 8, 5\), -0.4",
    ),
    Case(
        "a missing session",
        lambda f: f.filter(~where(AT)),
        ("missing_sessions",),
        "WARN missing_sessions",
        r"'S001', datetime.date\(2022, 8, 5\)",
    ),
    Case(
        "a session of another year",
        put(where(AT), session=date(2032, 8, 5)),
        ("missing_sessions",),
        "WARN missing_sessions",
        r"'S001', datetime.date\(2022, 8, 5\)",
    ),
    Case(
        "a missing month",
        lambda f: f.filter(~(OWN & (DATE.dt.strftime("%Y-%m") == "2022-08"))),
        ("missing_fraction", "missing_sessions", "long_gap"),
        "WARN long_gap",
        r"'S001', datetime.date\(2022, 8, 1\), 23.0, 10.0",
    ),
    Case(
        "a missing year",
        lambda f: f.filter(~(OWN & (DATE.dt.year() == 2022))),
        ("missing_fraction", "missing_sessions", "long_gap"),
        "WARN long_gap",
        r"'S001', datetime.date\(2022, 1, 3\), 251.0, 10.0",
    ),
    Case(
        "prices that do not move",
        put(where(AT, AT + 7), **{n: pl.col(n).gather(SESSIONS + AT - 1) for n in PRICES}),
        ("stale_prices",),
        "WARN stale_prices",
        r"'S001', datetime.date\(2022, 8, 4\), 9.0, 5.0",
    ),
    Case(
        "closes only",
        put(where(AT, AT + 9), **{n: pl.col("close") for n in PRICES}),
        ("flat_bars",),
        "WARN flat_bars",
        r"'S001', datetime.date\(2022, 8, 5\), 10.0, 5.0",
    ),
    Case(
        "a session without volume",
        put(where(AT), volume=0.0),
        ("zero_volume",),
        "WARN zero_volume",
        r"'S001', datetime.date\(2022, 8, 5\), 0.0, 0.0",
    ),
]
