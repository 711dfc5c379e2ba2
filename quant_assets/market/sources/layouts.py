"""How a table lays bars out, and each layout as rows of one symbol and session.

Long (a row per symbol and session), one symbol without its name, or wide: a column for each field and symbol, under
two header rows, under names of both, or for one field only. What cannot be told is refused, never guessed.
"""

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field

import polars as pl

from quant_assets.common.errors import BarContractError, SourceError, brief
from quant_assets.common.source_settings import SYMBOL
from quant_assets.market.parsing import ALIASES, PRICES, is_date_like, text_of

MOST_HEADER_ROWS = 3
MOSTLY = 0.98
FIELDS = (*PRICES, "volume", "adj_close")
# What pandas and yfinance call the levels of their columns.
_LEVELS = frozenset(
    {"price", "prices", "ticker", "tickers", "symbol", "symbols", "attributes", "field", "fields"}
)
_UNNAMED = re.compile(
    r"^(|index|unnamed_?:? ?\d+(_level_\d+)?|__index_level_\d+__|column_\d+)$", re.IGNORECASE
)
_SEPARATORS = "_.|/: "
MAX_SHOWN = 200


def plain_name(name: str) -> str:
    """A column's name without case, spaces and punctuation."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def field_of(name: str) -> str | None:
    """Which of our columns a name is an alias of."""
    plain = plain_name(name)
    return next((ours for ours, known in ALIASES.items() if plain in known), None)


def header_height(lines: Sequence[Sequence[str]]) -> int:
    """How many of a table's first lines are header rows: one, or up to three of a wide table.

    A further header row names levels (``Ticker``, ``Date``) or symbols; it holds no date and, unless its first cell
    names a level, no number.
    """
    if len(lines) < 2 or _n_fields(lines[0]) + _n_fields(lines[1]) < len(PRICES):
        return 1
    height = 1
    for cells in lines[1:MOST_HEADER_ROWS]:
        if [plain_name(cell) for cell in cells] == [plain_name(cell) for cell in lines[0]]:
            break  # the header once more, as appended downloads have it: told of as a row
        first, rest = cells[0].strip(), [cell.strip() for cell in cells[1:]]
        named = plain_name(first) in _LEVELS or (not first and any(rest))
        index = field_of(first) == "session" and not any(rest)
        if not (named or index or (_has_no_value(cells) and _n_fields(cells) >= len(PRICES))):
            break
        height += 1
    return height


def _n_fields(cells: Sequence[str]) -> int:
    return len({field_of(cell) for cell in cells} & set(FIELDS))


def _has_no_value(cells: Sequence[str]) -> bool:
    return not any(re.fullmatch(r"\s*[+-]?\d[\d.,:/ -]*\s*", cell) for cell in cells)


@dataclass(frozen=True)
class Long:
    """Rows of bars, and how the table laid them out.

    Attributes
    ----------
    frame : polars.DataFrame
        As the source wrote the cells, a row per symbol and session.
    layout : str
        In words.
    notes : tuple of str
        What was left out on the way.
    names : dict of str to str
        What the file calls columns that have our names here already.
    """

    frame: pl.DataFrame
    layout: str
    notes: tuple[str, ...] = ()
    names: dict[str, str] = dataclass_field(default_factory=dict)


def long_form(
    frame: pl.DataFrame,
    header: Sequence[Sequence[str]],
    *,
    origin: str,
    columns: Mapping[str, str] | None = None,
    symbol: str | None = None,
) -> Long:
    """A table as rows of one symbol and session.

    Parameters
    ----------
    frame : polars.DataFrame
        The rows below the header, columns in the header's order under any names.
    header : sequence of sequence of str
        Its rows: one, or the levels of a wide table's columns.
    columns : mapping of str to str, optional
        What the source names by itself.
    symbol : str, optional
        How the one symbol of a table without symbols is called.

    Raises
    ------
    BarContractError
        When a name stands twice.
    SourceError
        When a wide table does not hold every field of a bar for each symbol.
    """
    levels = _levels(header)
    if len(levels) == 1:
        names = _unique(levels[0], origin)
        frame = frame.rename(dict(zip(frame.columns, names, strict=True)))
        flat = _flat_levels(names)
        if flat is None:
            return _long_or_refused(_with_index_named(frame, columns or {}), origin, columns or {}, symbol)
        levels = flat
    pairs = _pairs(levels, origin)
    return _unpivoted(frame, pairs, origin, n_header=len(header))


def _levels(header: Sequence[Sequence[str]]) -> list[list[str]]:
    """Rows of the header without the one that only names the index, whose name its first cell takes."""
    rows = [[cell.strip() for cell in row] for row in header]
    last = rows[-1]
    if len(rows) > 1 and last[0] and not any(last[1:]):
        rows = rows[:-1]
        rows[0][0] = last[0]
        for row in rows[1:]:
            row[0] = ""
    return rows


def _unique(names: Sequence[str], origin: str) -> list[str]:
    named = [name or f"column_{place}" for place, name in enumerate(names)]
    repeated = sorted({name for name in named if named.count(name) > 1})
    if repeated:
        raise BarContractError(
            f"{origin}, line 1",
            expected="each column once",
            found=f"repeated names {brief(repeated, MAX_SHOWN)} in {brief(', '.join(names), MAX_SHOWN)}",
            action="rename the columns in the file; where they are of several symbols, a second header row must name "
            "the symbol of each",
        )
    return named


def _flat_levels(names: Sequence[str]) -> list[list[str]] | None:
    """Two levels that were written into one name: ``('Close', 'AAPL')`` by pandas, ``Close_AAPL`` by people."""
    if sum(name.startswith("(") and name.endswith(")") for name in names) >= len(PRICES):
        split = [_tuple_of(name) for name in names]
        return [[first for first, _ in split], [second for _, second in split]]
    plain = {field_of(name) for name in names}
    if plain & {*FIELDS, "symbol"}:
        return None
    for separator in _SEPARATORS:
        for last in (False, True):
            parts = [_split(name, separator, last=last) for name in names]
            split_fields = [field_of(first) for first, _ in parts], [field_of(second) for _, second in parts]
            for fields, others in zip(
                split_fields, ([s for _, s in parts], [f for f, _ in parts]), strict=True
            ):
                symbols = [other for field, other in zip(fields, others, strict=True) if field in FIELDS]
                # `day_open` and `day_close` are of no symbol called day: tickers have no small letters.
                tickers = all(re.fullmatch(r"[A-Z0-9^][A-Z0-9.=^-]*", symbol) for symbol in symbols)
                if len(set(fields) & set(FIELDS)) >= len(PRICES) and tickers:
                    return [[first for first, _ in parts], [second for _, second in parts]]
    return None


def _split(name: str, separator: str, *, last: bool) -> tuple[str, str]:
    first, _, second = name.rpartition(separator) if last else name.partition(separator)
    return (first, second) if first and second else (name, "")


def _tuple_of(name: str) -> tuple[str, str]:
    try:
        read = ast.literal_eval(name) if name.startswith("(") else name
    except (ValueError, SyntaxError):
        read = name
    if isinstance(read, tuple) and len(read) == 2 and all(isinstance(part, str) for part in read):
        return read[0], read[1]
    return name, ""


def _pairs(levels: Sequence[Sequence[str]], origin: str) -> list[tuple[str | None, str]]:
    """For each column its field and symbol; None and its name where it belongs to no symbol (the session's)."""
    counts = [len({field_of(cell) for cell in row} & set(FIELDS)) for row in levels]
    if len(levels) != 2 or max(counts) < len(PRICES):
        raise SourceError(
            f"{origin}, header",
            expected="one row that names the fields (open, high, low, close, volume) and one that names symbols",
            found=f"{len(levels)} rows: {brief('; '.join(', '.join(row[:6]) for row in levels), MAX_SHOWN)}",
            action="write the table with one header row, or with these two",
        )
    fields, symbols = (levels[0], levels[1]) if counts[0] >= counts[1] else (levels[1], levels[0])
    pairs: list[tuple[str | None, str]] = []
    for place, (field, symbol) in enumerate(zip(fields, symbols, strict=True)):
        alone = field if not symbol else symbol if not field else None
        if place == 0 and (alone is not None or not (field or symbol) or plain_name(field) in _LEVELS):
            first = alone if alone is not None and field_of(alone) == "session" else "session"
            pairs.append((None, first))
        elif alone is not None:
            pairs.append((None, alone))
        else:
            pairs.append((field, symbol))
    return pairs


def _unpivoted(
    frame: pl.DataFrame, pairs: Sequence[tuple[str | None, str]], origin: str, *, n_header: int
) -> Long:
    of_symbol: dict[str, dict[str, str]] = {}
    shared: dict[str, str] = {}
    ignored: dict[str, None] = {}
    names = {"symbol": "the header"}
    for column, (field, symbol) in zip(frame.columns, pairs, strict=True):
        if field is None:
            shared[symbol] = column
        elif (ours := field_of(field)) is None or ours not in FIELDS:
            ignored[field] = None
        elif ours in of_symbol.setdefault(symbol, {}):
            raise SourceError(
                f"{origin}, header",
                expected="each field of a symbol once",
                found=f"{symbol} {field} twice",
                action="write each column once",
            )
        else:
            of_symbol[symbol][ours] = column
            names[ours] = field
    dates = [name for name in shared if field_of(name) == "session"]
    if len(dates) != 1:
        raise SourceError(
            f"{origin}, header",
            expected="one column of dates",
            found=f"{len(dates)} among {brief(', '.join(shared) or 'no column beside those of symbols', MAX_SHOWN)}",
            action="name the column of dates `Date` in the first header row",
        )
    fields = [name for name in FIELDS if any(name in held for held in of_symbol.values())]
    for symbol, held in of_symbol.items():
        lacking = [name for name in fields if name not in held]
        if lacking:
            raise SourceError(
                f"{origin}, columns of {symbol}",
                expected=f"{', '.join(fields)}, as other symbols have them",
                found=f"no {', '.join(lacking)}",
                action=f"add the column, or leave {symbol} out of the file",
            )
    parts = [
        frame.select(
            pl.lit(symbol).alias("symbol"),
            pl.col(shared[dates[0]]).alias("session"),
            *(pl.col(held[name]).alias(name) for name in fields),
        )
        for symbol, held in of_symbol.items()
    ]
    whole = pl.concat(parts, how="vertical_relaxed")
    nothing = pl.all_horizontal(
        (pl.col(name).is_nan() if whole.schema[name].is_float() else pl.lit(value=False)).fill_null(
            value=True
        )
        | text_of(name).str.to_lowercase().is_in(["nan", ""]).fill_null(value=True)
        for name in fields
    )
    kept = whole.filter(~nothing)
    notes = []
    if whole.height > kept.height:
        notes.append(
            f"{whole.height - kept.height} cells of days on which a symbol has no value at all are no bars"
        )
    if ignored:
        notes.append(f"columns ignored: {', '.join(ignored)}")
    how = f"{n_header} header rows" if n_header > 1 else "names of both in one header row"
    layout = f"wide: a column for each field and symbol ({len(of_symbol)} symbols, {how})"
    return Long(kept, layout, tuple(notes), {"session": dates[0], **names})


def _with_index_named(frame: pl.DataFrame, columns: Mapping[str, str]) -> pl.DataFrame:
    """A column without a name that holds dates or symbols, as the index of a pandas table, named so."""
    known = {field_of(name) for name in frame.columns} | set(columns)
    for name in [name for name in frame.columns if _UNNAMED.match(name) and name not in columns.values()]:
        if "session" not in known and _holds_dates(frame[name]):
            frame, known = frame.rename({name: "session"}), known | {"session"}
        elif "symbol" not in known and _holds_symbols(frame[name]):
            frame, known = frame.rename({name: "symbol"}), known | {"symbol"}
    return frame


def _holds_dates(column: pl.Series) -> bool:
    if column.dtype.is_temporal():
        return True
    if column.dtype != pl.String or not column.len():
        return False
    return float(column.to_frame("x").select(is_date_like("x").mean()).item() or 0.0) >= MOSTLY


def _holds_symbols(column: pl.Series) -> bool:
    """Whether text repeats as symbols in a long table do (an index of numbers has each once)."""
    if column.dtype not in (pl.String, pl.Categorical) or not column.len():
        return False
    different = column.cast(pl.String).drop_nulls().unique()
    return 0 < different.len() < column.len() and bool(different.str.contains(SYMBOL).all())


def _long_or_refused(
    frame: pl.DataFrame, origin: str, columns: Mapping[str, str], symbol: str | None
) -> Long:
    ours = {field_of(name) for name in frame.columns} | set(columns)
    if ours & {"open", "high", "low", "close"}:
        named = "symbol" in ours or any(plain_name(name) == "name" for name in frame.columns)
        return Long(
            frame,
            "long: a row for each symbol and session"
            if named or symbol is None
            else f"one symbol without a column of its name: {symbol!r}, as the file is called",
        )
    others = [name for name in frame.columns if field_of(name) != "session"]
    numeric = [name for name in others if _is_number(frame[name])]
    if "session" in ours and len(numeric) >= max(1, len(others) - 1) and "symbol" not in ours:
        raise SourceError(
            f"{origin}",
            expected="open, high, low, close and volume of each symbol",
            found=f"a pivot with one number for each name and day: {len(others)} columns "
            f"({', '.join(others[:5])}{', ...' if others[5:] else ''}); closes alone cannot be traded at an open, "
            "nor their costs be known",
            action="export every field: long (a row for each symbol and day), or wide with two header rows, of field "
            "and symbol",
        )
    return Long(frame, "unknown: no column is called as prices are")


def _is_number(column: pl.Series) -> bool:
    if column.dtype.is_numeric():
        return True
    text = column.drop_nulls()
    if column.dtype != pl.String:
        return False
    numbers = text.filter(text.str.contains(r"^\s*[+-]?[\d.,' ]+([eE][+-]?\d+)?\s*$"))
    return numbers.len() >= MOSTLY * text.len()


def with_time_of_day(frame: pl.DataFrame, columns: Mapping[str, str]) -> pl.DataFrame:
    """The time of day of a column of its own, after the date; a table whose rows all have one time is left alone."""
    named = columns.get("session") or next((n for n in frame.columns if field_of(n) == "session"), None)
    clocks = [name for name in frame.columns if plain_name(name) == "time" and name != named]
    if named is None or named not in frame.columns or len(clocks) != 1:
        return frame
    clock = frame[clocks[0]]
    if clock.n_unique() <= 1 or frame.schema[named] not in (pl.String, pl.Date, pl.Int64):
        return frame
    text = text_of(clocks[0])
    digits = text.str.replace_all(":", "").str.zfill(pl.when(text.str.len_chars() <= 4).then(4).otherwise(6))
    parted = digits.str.replace(r"^(\d{2})(\d{2})(\d{2})?.*$", "${1}:${2}:${3}").str.replace(r":$", ":00")
    day = text_of(named)
    day = (
        pl.when(day.str.contains(r"^\d{8}$"))
        .then(day.str.replace(r"^(\d{4})(\d{2})(\d{2})$", "${1}-${2}-${3}"))
        .otherwise(day)
    )
    return frame.with_columns((day + " " + parted).alias(named))
