"""Dates as files write them: which is the day and which the month, and in whose days instants are read.

03/04/2024 is March in one country and April in the next. A format counts when dates of the column itself leave no
other reading; otherwise the source says it, or the table is refused with both readings. An instant (with a zone or an
offset) belongs to the day that it is at the exchange.
"""

from dataclasses import dataclass
from datetime import time

import polars as pl

from quant_assets.common.errors import BarContractError, UndecidedTableError
from quant_assets.market.calendar import zone_of
from quant_assets.market.parsing import EPOCH_UNITS, MOSTLY, is_epoch, text_of

# Two numbers and a year of four digits, or of two.
_NUMERIC = r"^([0-9]{1,2})([-/.])([0-9]{1,2})([-/.])([0-9]{4}|[0-9]{2})(?:[T ](.*))?$"
# Of the days of a daily table about 18 of 30 are after the 12th. A single one among many is rather a broken cell.
FEWEST_PROVING, MANY_DATES = 0.2, 25
_CLOCKED = r"^\s*[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{1,2}:[0-9]{2}"
_MIDNIGHT = r"[T ]0?0:00(?::00(?:\.0+)?)?(?:[^0-9:]|$)"
_OFFSET = r"[T ][0-9]{1,2}:[0-9]{2}.*?(?:Z|UTC|GMT|[+-][0-9]{2}:?[0-9]{2})$"
LOCAL = "%Y-%m-%d %H:%M:%S"
_EXAMPLES = 2


@dataclass(frozen=True)
class SessionReading:
    """Rows with their session column in plain form, and how it was read.

    Attributes
    ----------
    rows : polars.DataFrame
        ``session`` as dates, date-times without a zone, or text year first; cells that were not read as they were.
    told : str
        The reading and its evidence, in words; empty where there was nothing to decide.
    instants : polars.Series, optional
        Of times with a zone that is not the exchange's midnight: each as UTC.
    """

    rows: pl.DataFrame
    told: str = ""
    instants: pl.Series | None = None


def plain_sessions(
    rows: pl.DataFrame,
    *,
    origin: str,
    date_format: str | None = None,
    time_zone: str | None = None,
    calendar: str | None = None,
) -> SessionReading:
    """Read the session column of conformed rows.

    Parameters
    ----------
    date_format : str, optional
        As the source says it; then nothing is concluded.
    time_zone : str, optional
        Of times without a zone.
    calendar : str, optional
        Of the exchange whose days instants belong to; UTC's while none is known.

    Raises
    ------
    UndecidedTableError
        When dates can be read day first and month first.
    BarContractError
        When some can only be read day first and others only month first, or few fit ``date_format``.
    """
    rows, told = _numeric_dates(rows, origin, date_format)
    reading = _zoned(rows, time_zone, calendar)
    return SessionReading(reading.rows, "; ".join(filter(None, (told, reading.told))), reading.instants)


# ----------------------------------------------------------------------------------------- day first, month first


def _numeric_dates(rows: pl.DataFrame, origin: str, said: str | None) -> tuple[pl.DataFrame, str]:
    column = rows["session"]
    if column.dtype != pl.String:
        return rows, ""
    cells = pl.DataFrame({"session": column.unique(maintain_order=True)}).filter(
        text_of("session").is_not_null()
    )
    if said is not None:
        return _as_said(rows, cells, origin, said)
    text = text_of("session")
    group = {name: text.str.extract(_NUMERIC, place) for name, place in
             (("first", 1), ("mark", 2), ("second", 3), ("again", 4), ("year", 5))}  # fmt: skip
    dates = (
        cells.with_columns(**group)
        .filter((pl.col("mark") == pl.col("again")) & (pl.col("year").str.len_chars() == 4))
        .with_columns(pl.col("first", "second").cast(pl.Int32))
    )
    short = cells.with_columns(**group).filter(pl.col("year").str.len_chars() == 2)
    if short.height >= MOSTLY * cells.height and cells.height:
        example = short["session"][0]
        raise UndecidedTableError(
            f"{origin}: column 'session'",
            expected="years of four digits, or the format said",
            found=f"dates as {example!r}, in which any part may be the year",
            action="say how they are written: `date_format: '%d/%m/%y'` in the source of the universe YAML, or "
            "--date-format '%d/%m/%y'",
            option="--date-format '%d/%m/%y'",
        )
    if dates.height < MOSTLY * cells.height or not cells.height:
        return rows, ""  # of another form, or broken: read and told of cell by cell
    day_first = dates.filter((pl.col("first") > 12) & (pl.col("second") <= 12))
    month_first = dates.filter((pl.col("second") > 12) & (pl.col("first") <= 12))
    mark = str(dates["mark"][0])
    readings = {
        "day first": (f"%d{mark}%m{mark}%Y", day_first, month_first),
        "month first": (f"%m{mark}%d{mark}%Y", month_first, day_first),
    }
    if day_first.height and month_first.height:
        few, many = sorted((day_first, month_first), key=lambda one: one.height)
        if few.height > (1 - MOSTLY) * dates.height:
            raise BarContractError(
                f"{origin}: column 'session'",
                expected="one date format throughout",
                found=f"{many.height} dates that are {'day' if many is day_first else 'month'} first, as "
                f"{many['session'][0]!r}, and {few.height} that are not, as {few['session'][0]!r}",
                action="write all dates year first, as 2024-07-03: two files were put together",
            )
    for name, (form, proving, against) in readings.items():
        share = proving.height / dates.height
        if proving.height > against.height and (share >= FEWEST_PROVING or dates.height < MANY_DATES):
            how = (
                f"dates read {name} ({form}): {proving.height} of {dates.height} can be read in no other way, as "
                f"{proving['session'][0]!r}"
            )
            return _rewritten(rows, form), how
    example = dates.filter(pl.col("first") != pl.col("second"))
    shown = (example if example.height else dates)["session"].head(_EXAMPLES).to_list()
    first = {name: _first_as(shown[0], form) for name, (form, _, _) in readings.items()}
    doubt = max(day_first.height, month_first.height)
    forms = {name: form for name, (form, _, _) in readings.items()}
    raise UndecidedTableError(
        f"{origin}: column 'session'",
        expected="dates that tell day from month (a day after the 12th in most months), or the format said: "
        "ambiguous date",
        found=f"{dates.height} different dates of which "
        + (
            f"{doubt} could prove a reading (too few: rather broken cells)"
            if doubt
            else "none has a day after the 12th"
        )
        + f"; {shown[0]!r} is {first['day first']} read day first, {first['month first']} read month first",
        action=f"say which: `date_format: '{forms['day first']}'` (day first) or `date_format: "
        f"'{forms['month first']}'` (month first) in the source of the universe YAML, or --date-format with one",
        option=f"--date-format '{forms['day first']}'   (or '{forms['month first']}')",
    )


def _first_as(cell: str, form: str) -> str:
    read = pl.Series([cell.split(" ")[0].split("T")[0]]).str.to_date(form, strict=False)[0]
    return "no date" if read is None else str(read)


def _rewritten(rows: pl.DataFrame, form: str) -> pl.DataFrame:
    """Cells of this format year first, with what follows the date; others as they are."""
    text = text_of("session")
    day = text.str.extract(r"^([^ T]+)", 1).str.to_date(form, strict=False).dt.strftime("%Y-%m-%d")
    rest = text.str.extract(r"^[^ T]+([ T].*)$", 1).fill_null("")
    return rows.with_columns(session=pl.when(day.is_not_null()).then(day + rest).otherwise(pl.col("session")))


def _as_said(rows: pl.DataFrame, cells: pl.DataFrame, origin: str, form: str) -> tuple[pl.DataFrame, str]:
    # Text such as `3 Jul 2024` has blanks of its own: the whole cell is tried first.
    whole = text_of("session").str.to_date(form, strict=False).dt.strftime("%Y-%m-%d")
    fits = cells.with_columns(read=pl.coalesce(whole, _date_part(form)))
    share = 1 - fits["read"].null_count() / max(1, fits.height)
    if share < MOSTLY:
        other = fits.filter(pl.col("read").is_null())["session"][0]
        raise BarContractError(
            f"{origin}: column 'session'",
            expected=f"dates of the format {form!r}, as `date_format:` says",
            found=f"{fits['read'].null_count()} of {fits.height} that are not, as {other!r}",
            action="correct `date_format:` (%d day, %m month, %Y year), or leave it out",
        )
    changed = rows.join(fits, on="session", how="left", maintain_order="left", nulls_equal=True).with_columns(
        session=pl.coalesce("read", "session")
    )
    return changed.drop("read"), f"dates read as {form}, as was said"


def _date_part(form: str) -> pl.Expr:
    text = text_of("session")
    day = text.str.extract(r"^([^ T]+)", 1).str.to_date(form, strict=False).dt.strftime("%Y-%m-%d")
    return day + text.str.extract(r"^[^ T]+([ T].*)$", 1).fill_null("")


# --------------------------------------------------------------------------------------------- instants and zones


def _zoned(rows: pl.DataFrame, time_zone: str | None, calendar: str | None) -> SessionReading:
    """Instants as the clock of the exchange showed them; days that are written at their own midnight as they are."""
    column = rows["session"]
    if isinstance(column.dtype, pl.Datetime):
        read = _typed_instants(column, time_zone)
    elif column.dtype == pl.String:
        read = _written_instants(column, time_zone)
    else:
        read = _epochs(column)
    if read is None:
        return SessionReading(rows)
    instants, how = read
    zone = "UTC" if calendar is None else zone_of(calendar)
    local: pl.Series = instants.dt.convert_time_zone(zone).dt.replace_time_zone(None)
    if column.dtype == pl.String:
        local = local.dt.strftime(LOCAL).zip_with(local.is_not_null(), column)
    return SessionReading(
        rows.with_columns(local.alias("session")), f"{how}, each on its day in {zone}", instants
    )


def _typed_instants(column: pl.Series, time_zone: str | None) -> tuple[pl.Series, str] | None:
    own = getattr(column.dtype, "time_zone", None) or time_zone
    if own is None or bool((column.dt.time() == pl.Series([time()])).all()):
        return None
    if getattr(column.dtype, "time_zone", None) is None:
        column = column.dt.replace_time_zone(own, ambiguous="earliest", non_existent="null")
    return column.dt.convert_time_zone("UTC").cast(pl.Datetime("us", "UTC")), f"times of {own}"


def _written_instants(column: pl.Series, time_zone: str | None) -> tuple[pl.Series, str] | None:
    different = column.unique().drop_nulls()
    clocked = different.filter(different.str.contains(_CLOCKED))
    if clocked.len() < MOSTLY * different.len() or not clocked.len():
        return _epochs(column)
    zoned = clocked.str.contains(_OFFSET)
    if not zoned.any() and time_zone is None:
        return None
    if zoned.any() and clocked.filter(zoned).str.contains(_MIDNIGHT).all():
        return None
    text = (
        pl.col("session")
        .str.strip_chars()
        .str.replace(r"[T ]", " ")
        .str.replace(r"\.[0-9]+", "")
        .str.replace(r" ?(?:Z|UTC|GMT)$", "+0000")
        .str.replace(r" ?([+-][0-9]{2}):?([0-9]{2})$", "${1}${2}")
        .str.replace(r" ([0-9]{1,2}:[0-9]{2})([+-][0-9]{4})?$", " ${1}:00${2}")
    )
    if zoned.any():
        instant = text.str.to_datetime("%Y-%m-%d %H:%M:%S%z", time_unit="us", time_zone="UTC", strict=False)
    else:
        instant = (
            text.str.to_datetime(LOCAL, time_unit="us", strict=False)
            .dt.replace_time_zone(time_zone, ambiguous="earliest", non_existent="null")
            .dt.convert_time_zone("UTC")
        )
    read = pl.DataFrame({"session": different}).with_columns(instant=instant)
    joined = column.to_frame("session").join(read, on="session", how="left", maintain_order="left")
    return joined["instant"], f"times {'with an offset' if zoned.any() else f'of {time_zone}'}"


def _epochs(column: pl.Series) -> tuple[pl.Series, str] | None:
    """Whole numbers that count from 1970, unless all are midnights of UTC: those are days."""
    if not (column.dtype.is_integer() or column.dtype == pl.String):
        return None
    since = column.cast(pl.Int64, strict=False).to_frame("n")
    for unit, step in EPOCH_UNITS.items():
        fits = since.select(is_epoch(pl.col("n"), unit)).to_series()
        if fits.any():
            if bool((since["n"].drop_nulls() % (86_400 * step) == 0).all()):
                return None
            instants = since.select(
                pl.from_epoch(pl.col("n") // step, "s").cast(pl.Datetime("us", "UTC"))
            ).to_series()
            return instants.set(~fits, None), f"whole numbers, read as {unit} since 1970"
    return None
