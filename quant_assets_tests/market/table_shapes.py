"""One set of bars of two symbols, written in each shape that people have, with what must come of it."""

import gzip
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl

from quant_assets.common.settings import SyntheticSource
from quant_assets.market.synthetic import generate

START, END = date(2024, 1, 2), date(2024, 6, 28)
FIELDS = ("open", "high", "low", "close", "volume")
TITLED = {name: name.title() for name in FIELDS}


def bars() -> pl.DataFrame:
    """AAPL and MSFT, 124 sessions of XNYS, prices to the cent, whole volumes, no adjusted close."""
    made = generate(SyntheticSource(kind="synthetic", seed=5, n_symbols=2), "XNYS", START, END)
    return made.select(
        pl.col("symbol").replace({"S000": "AAPL", "S001": "MSFT"}),
        "session",
        *(pl.col(name).round(2) for name in FIELDS[:4]),
        pl.col("volume").round(0),
        pl.lit(None, dtype=pl.Float64).alias("adj_close"),
    ).with_columns(
        high=pl.max_horizontal("open", "high", "low", "close"),
        low=pl.min_horizontal("open", "high", "low", "close"),
    )


Write = Callable[[pl.DataFrame, Path], Path]


@dataclass(frozen=True)
class Shape:
    """A shape: how it is written, what its layout is called, and what is said of it where it does not say itself."""

    name: str
    write: Write
    layout: str
    said: dict[str, Any] = field(default_factory=dict)
    symbols: tuple[str, ...] = ("AAPL", "MSFT")


@dataclass(frozen=True)
class Refusal:
    """A shape that cannot be read as it is: what must be said, and how it ends."""

    name: str
    write: Write
    said: str
    todo: str
    exit_code: int = 2


def one(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.filter(pl.col("symbol") == "AAPL").drop("symbol", "adj_close")


def file(folder: Path, name: str, content: bytes | str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def text(frame: pl.DataFrame, **options: Any) -> str:
    return frame.drop("adj_close", strict=False).write_csv(**options)


def wide(
    frame: pl.DataFrame, names: tuple[str | None, str | None], *, by_ticker: bool = False
) -> pd.DataFrame:
    """As yfinance has it: fields over symbols, or with ``group_by='ticker'`` symbols over fields."""
    table = frame.drop("adj_close").rename(TITLED).to_pandas().pivot(index="session", columns="symbol")
    table.columns.names = list(names)
    table.index = pd.DatetimeIndex(table.index, name="Date")
    return table.swaplevel(axis=1).sort_index(axis=1) if by_ticker else table


def as_yfinance(frame: pl.DataFrame, folder: Path, **how: Any) -> Path:
    names = how.pop("names", ("Price", "Ticker"))
    made = io.StringIO()
    wide(frame, names, **how).to_csv(made)
    return file(folder, "yf.csv", made.getvalue())


def as_yfinance_of_one(frame: pl.DataFrame, folder: Path) -> Path:
    return as_yfinance(frame.filter(pl.col("symbol") == "AAPL"), folder)


def two_rows(frame: pl.DataFrame, folder: Path) -> Path:
    made = io.StringIO()
    wide(frame, (None, None)).reset_index().to_csv(made, index=False)
    return file(folder, "two.csv", made.getvalue())


def joined_names(frame: pl.DataFrame, folder: Path) -> Path:
    table = wide(frame, (None, None))
    table.columns = pd.Index([f"{symbol}_{name}" for name, symbol in table.columns])
    made = io.StringIO()
    table.to_csv(made)
    return file(folder, "joined.csv", made.getvalue())


def pandas_columns(frame: pl.DataFrame, folder: Path) -> Path:
    wide(frame, (None, None)).to_parquet(folder / "wide.parquet")
    return folder / "wide.parquet"


def pandas_index(frame: pl.DataFrame, folder: Path, *, named: bool) -> Path:
    table = frame.drop("adj_close").to_pandas().set_index(["session", "symbol"])
    if not named:
        table.index.names = [None, None]
    table.to_parquet(folder / "index.parquet")
    return folder / "index.parquet"


def folder_of_files(frame: pl.DataFrame, folder: Path) -> Path:
    for (name,), part in frame.group_by("symbol", maintain_order=True):
        file(folder / "names", f"{name}.csv", text(part.drop("symbol").rename(TITLED)))
    file(folder / "names", "README.md", "what they are")
    return folder / "names"


def as_stooq(frame: pl.DataFrame, folder: Path) -> Path:
    header = "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>"
    lines = [
        f"{row['symbol']},D,{row['session']:%Y%m%d},000000,{row['open']},{row['high']},{row['low']},{row['close']},"
        f"{row['volume']},0"
        for row in frame.iter_rows(named=True)
    ]
    return file(folder, "stooq.txt", "\n".join([header, *lines, ""]))


def zipped(frame: pl.DataFrame, folder: Path) -> Path:
    with zipfile.ZipFile(folder / "bars.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bars.csv", text(frame))
    return folder / "bars.zip"


def as_excel(frame: pl.DataFrame, folder: Path, *, sheets: int = 1, dates_as_text: bool = False) -> Path:
    table = frame.drop("adj_close").to_pandas()
    if dates_as_text:
        table["session"] = [f"{day:%d/%m/%Y}" for day in table["session"]]
    with pd.ExcelWriter(folder / "book.xlsx", engine="xlsxwriter") as writer:
        for number in range(sheets):
            table.to_excel(writer, sheet_name=f"Bars {number + 1}", index=False)
    return folder / "book.xlsx"


def as_arrow(frame: pl.DataFrame, folder: Path) -> Path:
    frame.drop("adj_close").write_ipc(folder / "bars.feather")
    return folder / "bars.feather"


def german(frame: pl.DataFrame) -> str:
    return text(frame, separator=";").replace(".", ",")


def dated(form: str) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda frame: frame.with_columns(pl.col("session").dt.strftime(form))


def at_new_york(frame: pl.DataFrame, clock: int) -> pl.DataFrame:
    local = pl.col("session").cast(pl.Datetime("us")) + pl.duration(hours=clock)
    return frame.drop("adj_close").with_columns(session=local.dt.replace_time_zone("America/New_York"))


def in_utc(frame: pl.DataFrame, folder: Path, clock: int) -> Path:
    at_new_york(frame, clock).with_columns(pl.col("session").dt.convert_time_zone("UTC")).write_parquet(
        folder / "utc.parquet"
    )
    return folder / "utc.parquet"


def with_offset(frame: pl.DataFrame, folder: Path) -> Path:
    stamped = at_new_york(frame, 16).with_columns(pl.col("session").dt.to_string("%Y-%m-%d %H:%M:%S%:z"))
    return file(folder, "offset.csv", stamped.write_csv())


def epochs(frame: pl.DataFrame, folder: Path) -> Path:
    at = pl.col("session").dt.convert_time_zone("UTC").dt.epoch("ms")
    return file(folder, "epochs.csv", at_new_york(frame, 20).with_columns(at).write_csv())


SHAPES = (
    Shape("long", lambda f, d: file(d, "long.csv", text(f)), "long"),
    Shape("yfinance, several, three header rows", as_yfinance, "wide.*2 symbols, 3 header rows"),
    Shape(
        "yfinance, group_by ticker",
        lambda f, d: as_yfinance(f, d, names=("Price", "Ticker"), by_ticker=True),
        "wide.*3 header rows",
    ),
    Shape(
        "yfinance before it named levels",
        lambda f, d: as_yfinance(f, d, names=(None, None)),
        "wide.*3 header rows",
    ),
    Shape("yfinance, one symbol", as_yfinance_of_one, "wide.*1 symbols, 3 header rows", symbols=("AAPL",)),
    Shape("two header rows", two_rows, "wide.*2 header rows"),
    Shape("names of both in one row", joined_names, "wide.*names of both in one header row"),
    Shape("pandas columns in Parquet", pandas_columns, "wide.*names of both"),
    Shape("pandas index in Parquet", lambda f, d: pandas_index(f, d, named=True), "long"),
    Shape("pandas index without names", lambda f, d: pandas_index(f, d, named=False), "long"),
    Shape("a folder of files", folder_of_files, "a file for each symbol, called by its name"),
    Shape("stooq", as_stooq, "long"),
    Shape("zip", zipped, "long"),
    Shape("gzip", lambda f, d: file(d, "bars.csv.gz", gzip.compress(text(f).encode())), "long"),
    Shape("Excel", as_excel, "long"),
    Shape("Excel with dates as text", lambda f, d: as_excel(f, d, dates_as_text=True), "long"),
    Shape("Excel, a named sheet", lambda f, d: as_excel(f, d, sheets=2), "long", {"sheet": "Bars 2"}),
    Shape("Feather", as_arrow, "long"),
    Shape("decimal commas", lambda f, d: file(d, "de.csv", german(f)), "long"),
    Shape(
        "a mark at the beginning", lambda f, d: file(d, "bom.csv", b"\xef\xbb\xbf" + text(f).encode()), "long"
    ),
    Shape("UTF-16", lambda f, d: file(d, "u16.csv", text(f).encode("utf-16")), "long"),
    Shape(
        "Windows-1252",
        lambda f, d: file(d, "w.csv", text(f.with_columns(Börse=pl.lit("Zürich"))).encode("cp1252")),
        "long",
    ),
    Shape("day first", lambda f, d: file(d, "d.csv", text(dated("%d.%m.%Y")(f))), "long"),
    Shape("month first", lambda f, d: file(d, "m.csv", text(dated("%m/%d/%Y")(f))), "long"),
    Shape(
        "years of two digits",
        lambda f, d: file(d, "y.csv", text(dated("%d/%m/%y")(f))),
        "long",
        {"date_format": "%d/%m/%y"},
    ),
    Shape("midnights of New York in UTC", lambda f, d: in_utc(f, d, 0), "long"),
    Shape("closes of New York in UTC", lambda f, d: in_utc(f, d, 16), "long"),
    Shape("evenings of New York, on the next day in UTC", lambda f, d: in_utc(f, d, 20), "long"),
    Shape("times with an offset", with_offset, "long"),
    Shape("milliseconds since 1970", epochs, "long"),
    Shape(
        "an index without a name",
        lambda f, d: file(d, "AAPL.csv", text(one(f)).replace("session", "", 1)),
        "one symbol without a column of its name: 'AAPL'",
        symbols=("AAPL",),
    ),
    Shape(
        "columns of another language",
        lambda f, d: file(d, "de.csv", text(f.rename({"close": "Schluss"}))),
        "long",
        {"columns": {"close": "Schluss"}},
    ),
)


def minutes(frame: pl.DataFrame, *, hours: range = range(10, 17)) -> pl.DataFrame:
    """Hourly bars, of which the first has the session's open and the last its close, stamped with their starts."""
    at = pl.DataFrame({"hour": list(hours)})
    first, last = pl.col("hour") == hours[0], pl.col("hour") == hours[-1]
    return (
        frame.drop("adj_close")
        .join(at, how="cross")
        .with_columns(
            session=pl.col("session").cast(pl.Datetime("us"))
            + pl.duration(hours=pl.col("hour") - 1, minutes=30),
            open=pl.when(first).then("open").otherwise((pl.col("high") + pl.col("low")) / 2),
            close=pl.when(last).then("close").otherwise((pl.col("high") + pl.col("low")) / 2),
            high=pl.when(first | last).then("high").otherwise((pl.col("high") + pl.col("low")) / 2),
            low=pl.when(first | last).then("low").otherwise((pl.col("high") + pl.col("low")) / 2),
            volume=pl.when(first).then("volume").otherwise(0.0),
        )
        .drop("hour")
    )


def closes_only(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.pivot("symbol", index="session", values="close")


def sampled(frame: pl.DataFrame, every: str) -> pl.DataFrame:
    return (
        generate(SyntheticSource(kind="synthetic", seed=5, n_symbols=2), "XNYS", date(2018, 1, 2), END)
        .sort("symbol", "session")
        .group_by_dynamic("session", every=every, group_by="symbol")
        .agg(
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            pl.col("volume").sum(),
        )
    )


def without_a_high(frame: pl.DataFrame, folder: Path) -> Path:
    return file(folder, "x.csv", as_yfinance(frame, folder).read_text().replace("High", "Hi", 1))


YOUNG = pl.col("session").dt.day() <= 12

PAGE = "<!DOCTYPE html><html><head><title>Sign in</title></head></html>"

REFUSED = (
    Refusal("a pivot of closes", lambda f, d: file(d, "p.csv", text(closes_only(f))),
            "a pivot with one number for each name and day: 2 columns \\(AAPL, MSFT\\)", "export every field"),
    Refusal("bars of an hour", lambda f, d: file(d, "h.csv", text(minutes(f))),
            "bars of 1 hour: 7 for each symbol and session", "resample: session", 1),
    Refusal("weekly bars", lambda f, d: file(d, "w.csv", text(sampled(f, "1w"))),
            "weekly bars: 7 days from one to the next", "download daily bars"),
    Refusal("monthly bars", lambda f, d: file(d, "m.csv", text(sampled(f, "1mo"))),
            "monthly bars: 31 days", "download daily bars"),
    Refusal("a web page", lambda _, d: file(d, "p.csv", PAGE),
            "a web page with the title 'Sign in'", "download the data itself"),
    Refusal("a vendor's error", lambda _, d: file(d, "e.csv", '{"Error Message": "Invalid API call"}'),
            "JSON: .*Invalid API call", "repair what it says"),
    Refusal("a cut last line", lambda f, d: file(d, "c.csv", text(f)[:-25]),
            "the last line is cut off", "cut line 249 out"),
    Refusal("dates that may be either", lambda f, d: file(d, "a.csv", text(dated("%d/%m/%Y")(f.filter(YOUNG)))),
            "'02/01/2024' is 2024-01-02 read day first, 2024-02-01 read month first", "--date-format", 1),
    Refusal("years of two digits", lambda f, d: file(d, "y.csv", text(dated("%d/%m/%y")(f))),
            "any part may be the year", "--date-format '%d/%m/%y'", 1),
    Refusal("several sheets", lambda f, d: as_excel(f, d, sheets=2),
            "2 among the sheets 'Bars 1, Bars 2'", "sheet:", exit_code=1),
    Refusal("a column of another language", lambda f, d: file(d, "de.csv", text(f.rename({"close": "Schluss"}))),
            "column 'close'", "set `columns:`", 1),
    Refusal("a symbol without its high", without_a_high,
            "found no high", "add the column, or leave AAPL out"),
    Refusal("an old workbook", lambda _, d: file(d, "b.xls", b"\xd0\xcf\x11\xe0" + b"0" * 600),
            "Excel before 2007", "save it in one of these formats"),
    Refusal("decimal commas parted by commas", lambda f, d: file(d, "cc.csv", text(f).replace(".", ",")),
            "more cells than columns", "semicolons"),
)  # fmt: skip
