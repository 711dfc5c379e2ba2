"""Defects for which a feed is refused: in its layout, in its cells."""

import gzip

import polars as pl

from quant_assets_tests.market.defect_feeds import (
    AT,
    PRICES,
    SPOILT,
    Case,
    add,
    as_csv,
    as_parquet,
    clean,
    lines,
    position,
    put,
    row_of,
    scale,
    text,
    where,
)

ROW = row_of(AT)
DAY = "2022-08-05"  # session AT
OWN = pl.col("symbol") == SPOILT
LATER = OWN & (position() >= AT)
LAST = where(752)
DATE = pl.col("session")
HTML = ['<html lang="en-us">', "  <head><title>Yahoo</title></head>", "</html>"]


def cell(column: str, value: str, problem: str, name: str) -> Case:
    """A cell that holds other text."""
    said = rf"row {ROW}, column {column}, value (nothing|'{value}') \({problem}\)"
    return Case(name, put(where(AT), **{column: value}), (), rf"\({problem}: 1\)", said)


def number(column: str, value: float, problem: str, name: str) -> Case:
    """A cell that holds another number."""
    return Case(
        name,
        put(where(AT), **{column: value}),
        (),
        rf"\({problem}: 1\)",
        rf"row {ROW}, column {column}, value",
    )


def written(frame: pl.DataFrame, form: str, rows: pl.Expr) -> pl.DataFrame:
    """Dates of some rows in another format."""
    return frame.with_columns(
        pl.when(rows).then(DATE.dt.strftime(form)).otherwise(DATE.cast(pl.String)).alias("session")
    )


def inserted(new: list[str], after: int) -> bytes:
    all_lines = lines(clean())
    return text([*all_lines[:after], *new, *all_lines[after:]])


def downloads(frame: pl.DataFrame) -> pl.DataFrame:
    """Four downloads of one history, the last bar of each still running."""
    return pl.concat(
        scale(pl.col("session") == pl.col("session").max(), 1 + n / 500, "close")(frame) for n in range(4)
    )


def preliminary(frame: pl.DataFrame) -> pl.DataFrame:
    """The last ten sessions twice, each after its preliminary account."""
    first = frame.filter(where(743, 752)).with_columns(volume=pl.col("volume") - 1000)
    return pl.concat([frame, first]).sort("symbol", "session", maintain_order=True)


def mixed_in(frame: pl.DataFrame) -> pl.DataFrame:
    """A second instrument's rows under the same symbol."""
    other = frame.filter(OWN).tail(20).with_columns(pl.col(name) * 3 for name in PRICES)
    return pl.concat([frame, other])


def stamped(frame: pl.DataFrame) -> pl.DataFrame:
    clock = pl.when(LAST).then(pl.lit("16:48:07")).otherwise(pl.lit("14:30:00"))
    return frame.with_columns(session=pl.format("{} {}", "session", clock))


LAYOUT = [
    Case(
        "a missing column",
        lambda f: f.drop("close"),
        (),
        "columns symbol, session.*usual names.*`columns: {close",
        "column 'close'",
    ),
    Case(
        "an ambiguous column",
        lambda f: f.with_columns(Date=DATE),
        (),
        "one column that can be it",
        "'session' and 'Date'",
    ),
    Case(
        "a column named twice",
        lambda f: text([lines(f)[0].replace("open", "close"), *lines(f)[1:]]),
        (),
        "each column once",
        "line 1: .*'close'",
    ),
    Case(
        "open and volume swapped",
        lambda f: f.rename({"open": "volume", "volume": "open"}),
        (),
        "'open' and 'volume' exchanged",
        "columns 'open' and 'volume'",
    ),
    Case(
        "high and low swapped",
        lambda f: f.rename({"high": "low", "low": "high"}),
        (),
        "'high' and 'low' exchanged",
        "columns 'high' and 'low'",
    ),
    Case(
        "high and volume swapped",
        lambda f: f.rename({"high": "volume", "volume": "high"}),
        (),
        "'high' and 'volume' exchanged",
        "columns 'high' and 'volume'",
    ),
    Case(
        "a column of truth values",
        lambda f: f.with_columns(volume=pl.lit(value=True)),
        (),
        "values of type Boolean",
        "column 'volume'",
        "feed.parquet",
    ),
    Case(
        "a repeated header",
        lambda f: inserted([lines(f)[0]], 300),
        (),
        r"\(header repeated: 1\)",
        "row 300, column session, value 'session'",
    ),
    Case(
        "an HTML page inside",
        lambda _: inserted(HTML, 300),
        (),
        "an HTML page inside the file",
        "lines 301 to 303",
    ),
    Case(
        "an HTML page only", lambda _: text(HTML), (), "found a web page with the title 'Yahoo'", "feed.csv"
    ),
    Case(
        "a JSON message only",
        lambda _: b'{"error": "Unauthorized", "code": 401}',
        (),
        "found JSON: .*Unauthorized",
        "feed.csv",
    ),
    Case(
        "a JSON message inside",
        lambda _: inserted(["{", '  "error": "Unauthorized"', "}"], 300),
        (),
        "a JSON message inside the file",
        "lines 301 to 303",
    ),
    Case("a cut last line", lambda f: as_csv(f)[:-30], (), "the last line is cut off", "line 1507 has"),
    Case(
        "a note inside",
        lambda _: inserted(["to be continued"], 300),
        (),
        "found text that is no table",
        "line 301 has 1: 'to be continued'",
    ),
    Case("an empty file", lambda _: b"", (), "found an empty file", "feed.csv"),
    Case("a header only", lambda f: as_csv(f.clear()), (), "has no rows", "spoilt"),
    Case(
        "text of another encoding", lambda f: as_csv(f).replace(b"S001", b"S\x811"), (), "byte 0x81", "UTF-8"
    ),
    Case(
        "cut UTF-16 text",
        lambda f: as_csv(f).decode().encode("utf-16")[:-1],
        (),
        "expected UTF-16 text",
        "truncated data at offset",
    ),
    Case(
        "a cut gzip file",
        lambda f: gzip.compress(as_csv(f))[:-500],
        (),
        "expected a complete gzip file",
        "bytes that do not unpack",
        "feed.csv.gz",
    ),
    Case(
        "a cut Parquet file",
        lambda f: as_parquet(f)[:-500],
        (),
        "a Parquet file of .* cut off or damaged",
        "feed.parquet",
        "feed.parquet",
    ),
    Case(
        "a CSV named Parquet",
        as_csv,
        (),
        "text that begins with 'symbol,session,open",
        "feed.parquet",
        "feed.parquet",
    ),
    Case("a Parquet named CSV", as_parquet, (), "at offset .*a Parquet file of", "feed.csv"),
]

CELLS = [
    cell("close", "", "missing value", "an empty cell"),
    number("close", float("nan"), "not finite", "not a number"),
    number("open", float("inf"), "not finite", "an infinite price"),
    number("low", -9.0, "not positive", "a negative price"),
    number("close", 0.0, "not positive", "a price of zero"),
    number("volume", -5.0, "negative", "a negative volume"),
    cell("volume", "1,200,300", "thousands separator", "thousands separators"),
    cell("close", "50,25", "decimal comma", "a decimal comma"),
    cell("close", "null", "no value but a word", "the word null"),
    cell("close", "fifty", "unparsable number", "text for a number"),
    cell("symbol", "s001", "differs only in case", "a symbol in lower case"),
    cell("session", "2022-02-30", "unparsable date", "a day that does not exist"),
    cell("adj_close", "", "partly missing", "an adjusted close missing once"),
    Case(
        "high below low",
        scale(where(AT), 0.5, "high"),
        (),
        r"\(high below low: 1\)",
        f"row {ROW}, column high",
    ),
    Case(
        "dates that may be day first or month first",
        lambda f: written(f.filter(DATE.dt.day() <= 12), "%d/%m/%Y", pl.lit(value=True)),
        (),
        "ambiguous date; found .* none has a day after the 12th",
        "'04/01/2021' is 2021-01-04 read day first, 2021-04-01 read month first",
    ),
    Case(
        "one date of another format",
        lambda f: written(f, "%d/%m/%Y", where(AT)),
        (),
        r"\(another date format: 1\)",
        f"row {ROW}, column session, value '05/08/2022'",
    ),
    Case(
        "an exact repetition",
        lambda f: add(f, AT),
        (),
        r"\(repeats: 1\)",
        rf"S001 {DAY}' \(repeats row {ROW}\)",
    ),
    Case(
        "a contradiction",
        lambda f: add(f, AT, volume=77.0),
        (),
        r"\(contradicts: 1\)",
        rf"S001 {DAY}' \(contradicts row {ROW}\)",
    ),
    Case(
        "repeated downloads",
        downloads,
        (),
        "repeated downloads were appended",
        "stand up to 4 times, with other closes on 2023-12-29",
    ),
    Case(
        "preliminary values kept",
        preliminary,
        (),
        "preliminary values were appended",
        "10 sessions from 2023-12-15",
    ),
    Case(
        "two instruments in one",
        mixed_in,
        (),
        "rows of another instrument or unit",
        "differ by a factor of 3",
    ),
    Case(
        "a running last bar by its stamp",
        stamped,
        (),
        "unfinished session: 1",
        "row 1506, column session, value '2023-12-29 16:48:07'",
    ),
]
