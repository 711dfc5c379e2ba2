"""How often a table has a bar: daily bars pass, others are refused for what they are or put together to sessions."""

from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

from quant_assets.common.errors import BarContractError, CalendarError, SourceError, UndecidedTableError
from quant_assets.market.calendar import session_times, zone_of
from quant_assets.market.parsing import PRICES, number_of, session_of, text_of

FEWEST_GAPS, SYMBOLS_LOOKED_AT = 20, 50
WEEKLY, MONTHLY, QUARTERLY = 5, 20, 70  # days between two bars, at least
# Of minute bars the names that trade thinly have a few a session; two bars of one session may be a repetition.
FEWEST_A_SESSION = 3.0
MOST_OUTSIDE = 0.5
# A session whose last bars are missing is still running, or the download was cut.
UNFINISHED_MINUTES = 15


_HALF_DAY, _HALF = r"(?i)\d ?[AP]M\b", 12 * 3600 * 10**6


@dataclass(frozen=True)
class Daily:
    """Conformed rows of one bar a session, and what was done for it (empty: nothing)."""

    rows: pl.DataFrame
    told: str = ""


def daily_rows(
    rows: pl.DataFrame, *, origin: str, resample: bool = False, calendar: str | None = None
) -> Daily:
    """Conformed rows (numbers and dates in plain form) of daily bars.

    Parameters
    ----------
    resample : bool
        Whether bars of minutes or hours are put together: the first open, highest high, lowest low, last close and
        the sum of volumes within the regular hours of ``calendar``.
    calendar : str, optional
        Without one a whole day counts as its session.

    Raises
    ------
    UndecidedTableError
        For bars of minutes or hours while ``resample`` is not set.
    SourceError
        For weekly, monthly or yearly bars; for times that are not those of the exchange.
    BarContractError
        When a row that is to be put together is no bar.
    """
    clock = _clock(rows)
    if clock is not None:
        timed = _keyed(rows).with_columns(clock)
        each = timed.drop_nulls().group_by("symbol", "session").agg(n=pl.col("clock").n_unique())
        often = each["n"].mean() if each.height else None
        if isinstance(often, float) and often >= FEWEST_A_SESSION:
            interval = _interval(timed)
            if not resample:
                raise UndecidedTableError(
                    f"{origin}",
                    expected="one bar for each symbol and session",
                    found=f"bars of {interval}: {often:.0f} for each symbol and session, as "
                    f"{rows['session'][0]} and {rows['session'][1]}",
                    action="have them put together to sessions: `resample: session` in the source of the universe "
                    "YAML, or --resample session",
                    option="--resample session",
                )
            return _together(rows, timed, origin, calendar, interval)
    some = rows["symbol"].unique(maintain_order=True).head(SYMBOLS_LOOKED_AT)
    _require_daily(_keyed(rows.filter(pl.col("symbol").is_in(some.implode()))), origin)
    return Daily(rows)


def _keyed(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(symbol=text_of("symbol"), session=session_of("session", rows.schema["session"]))


def _clock(rows: pl.DataFrame) -> pl.Series | None:
    """The time of day of each row, in microseconds; None where the column has none."""
    column = rows["session"]
    if isinstance(column.dtype, pl.Datetime):
        clock = column.dt.replace_time_zone(None).dt.time()
    elif column.dtype == pl.String and column.str.contains(":", literal=True).any():
        found = column.str.extract(r"[T ](\d{1,2}:\d{2}(?::\d{2})?)", 1)
        full = (
            pl.when(pl.col("t").str.count_matches(":") == 1).then(pl.col("t") + ":00").otherwise(pl.col("t"))
        )
        clock = found.to_frame("t").select(full.str.to_time("%H:%M:%S", strict=False)).to_series()
    else:
        return None
    micros = (clock.cast(pl.Int64) // 1000).alias("clock")
    if column.dtype == pl.String and column.str.contains(_HALF_DAY).any():
        noon = column.str.contains(r"(?i)\d ?PM\b").fill_null(value=False)
        micros = (micros % _HALF + noon.cast(pl.Int64) * _HALF).alias("clock")
    return micros


def _interval(timed: pl.DataFrame) -> str:
    gaps = timed.drop_nulls().select(
        gap=pl.col("clock").sort().diff().over("symbol", "session", mapping_strategy="explode") // 1_000_000
    )["gap"]
    usual = gaps.filter(gaps > 0).mode().sort()
    seconds = int(usual[0]) if usual.len() else 0
    for unit, size in (("hour", 3600), ("minute", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size} {unit}{'s' if seconds // size > 1 else ''}"
    return f"{seconds} seconds"


def _require_daily(keyed: pl.DataFrame, origin: str) -> None:
    ordered = keyed.drop_nulls().unique().sort("symbol", "session")
    gaps = ordered.select(gap=pl.col("session").diff().dt.total_days().over("symbol"))["gap"].drop_nulls()
    usual = gaps.median() if gaps.len() >= FEWEST_GAPS else None
    if not isinstance(usual, float) or usual < WEEKLY:
        return
    often = "weekly" if usual < MONTHLY else "monthly" if usual < QUARTERLY else "quarterly or yearly"
    raise SourceError(
        f"{origin}",
        expected="daily bars",
        found=f"{often} bars: {usual:g} days from one to the next in the middle",
        action="download daily bars: a bar of a longer time cannot be taken apart into sessions",
    )


def _together(
    rows: pl.DataFrame, timed: pl.DataFrame, origin: str, calendar: str | None, interval: str
) -> Daily:
    numbers = [name for name in (*PRICES, "volume", "adj_close") if name in rows.columns]
    bars = timed.with_columns(
        rows.select(number_of(name, rows.schema[name]).alias(name) for name in numbers)
    ).with_columns(at=pl.col("session").cast(pl.Datetime("us")) + pl.duration(microseconds="clock"))
    _require_bars(bars, origin)
    told = [f"bars of {interval} put together to sessions"]
    if calendar is not None:
        bars, more = _in_regular_hours(bars, calendar, origin, interval)
        told += more
    in_time = bars.sort("symbol", "at")
    daily = in_time.group_by("symbol", "session", maintain_order=True).agg(
        pl.col("open").first(),
        pl.col("high").max(),
        pl.col("low").min(),
        pl.col("close").last(),
        *([pl.col("volume").sum()] if "volume" in numbers else []),
        *([pl.col("adj_close").last()] if "adj_close" in numbers else []),
    )
    return Daily(daily, "; ".join(told))


def _require_bars(bars: pl.DataFrame, origin: str) -> None:
    key = ["symbol", "at"]
    price = pl.all_horizontal(pl.col(name).is_finite() & (pl.col(name) > 0) for name in PRICES)
    good = (
        price
        & (pl.col("high") >= pl.col("low"))
        & pl.all_horizontal(pl.col(name).is_not_null() for name in key)
    )
    if "volume" in bars.columns:
        good = good & (pl.col("volume") >= 0) & pl.col("volume").is_finite()
    good = good.fill_null(value=False) & ~pl.struct(key).is_duplicated()
    broken = bars.with_row_index("row", offset=1).filter(~good)
    if broken.height:
        shown = "; ".join(
            ", ".join(f"{name} {value}" for name, value in row.items() if name not in ("clock", "session"))
            for row in broken.head(2).iter_rows(named=True)
        )
        raise BarContractError(
            f"{origin}: {broken.height} of {bars.height} rows",
            expected="bars that can be put together: a symbol, a time that no other row of the symbol has, prices "
            "above zero, high on or above low, a volume",
            found=shown,
            action="correct these rows in the source",
        )


def _in_regular_hours(
    bars: pl.DataFrame, calendar: str, origin: str, interval: str
) -> tuple[pl.DataFrame, list[str]]:
    """Bars within the hours of the exchange, each under the session that it belongs to."""
    zone = zone_of(calendar)
    first, last = bars["session"].min(), bars["session"].max()
    if not isinstance(first, date) or not isinstance(last, date):
        raise CalendarError(f"{origin}", expected="bars", found="none", action="download the file again")
    # A session may begin the evening before, as that of futures does.
    hours = session_times(calendar, first, last + timedelta(days=4)).select(
        held="session",
        opens=pl.col("open_at").dt.convert_time_zone(zone).dt.replace_time_zone(None),
        closes=pl.col("close_at").dt.convert_time_zone(zone).dt.replace_time_zone(None),
    )
    # Stamped with their starts, as most feeds are, when some bar has the very moment of an open.
    at_start = bars.select(pl.col("at").is_in(hours["opens"].implode()).any()).item()
    near = bars.sort("at").join_asof(
        hours.sort("opens"), left_on="at", right_on="opens", strategy="backward", allow_exact_matches=at_start
    )
    before_close = pl.col("at") < pl.col("closes") if at_start else pl.col("at") <= pl.col("closes")
    inside = near.filter(before_close.fill_null(value=False))
    outside = bars.height - inside.height
    if outside > MOST_OUTSIDE * bars.height:
        raise SourceError(
            f"{origin}",
            expected=f"most times within the regular hours of {calendar} ({zone})",
            found=f"{outside} of {bars.height} outside, as {near['at'][0]}",
            action="say in which zone they were written (`time_zone: UTC` in the source of the universe YAML, or "
            "--time-zone UTC), or name their exchange's calendar",
        )
    told = [f"each stamped with its {'start' if at_start else 'end'}, in {zone}"]
    if outside:
        told.append(f"{outside} of {bars.height} outside the regular hours of {calendar} left out")
    newest = inside.select(pl.col("held").max()).item()
    ending = inside.filter(pl.col("held") == newest)
    count, unit = interval.split()
    step = int(count) * {"hour": 60, "hours": 60, "minute": 1, "minutes": 1, "seconds": 0}[unit]
    left = ending.select((pl.col("closes").max() - pl.col("at").max()).dt.total_minutes()).item()
    if left is not None and left > step + UNFINISHED_MINUTES:
        told.append(f"the session {newest!s} left out: its bars end {left} minutes before its close")
        inside = inside.filter(pl.col("held") != newest)
    return inside.with_columns(session="held").drop("held", "opens", "closes"), told
