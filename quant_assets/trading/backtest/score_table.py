"""The long table of scores and outcomes: which column is which, and one matrix per column."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.common.errors import SourceError, ValidationError
from quant_assets.common.hashing import bytes_digest, frame_digest
from quant_assets.market.parsing import ALIASES as BAR_ALIASES
from quant_assets.market.parsing import dtype_problem, number_of, session_of, text_of
from quant_assets.market.sources.delimited import read_delimited
from quant_assets.trading.account import Matrix

# -------------------------------------------------------------------------------------- which column is which


# Compared without case, spaces and punctuation, as the bar contract does.
ALIASES: dict[str, frozenset[str]] = {
    **{name: BAR_ALIASES[name] for name in ("symbol", "session")},
    "score": frozenset({"score", "prediction", "predictions", "pred", "yhat", "ypred", "signal", "alpha"}),
    "forward_return": frozenset(
        {
            "forwardreturn", "forwardreturns", "fwdreturn", "fwdret", "futurereturn", "nextreturn",
            "realizedreturn", "realisedreturn", "actualreturn",
        }
    ),
    **{name: BAR_ALIASES[name] for name in ("open", "close", "adj_close", "volume")},
    "market_cap": frozenset({"marketcap", "mktcap", "mcap", "marketcapitalization", "marketcapitalisation"}),
}  # fmt: skip
REQUIRED = ("symbol", "session", "score")
NUMBERS = tuple(name for name in ALIASES if name not in ("symbol", "session"))


def resolve_columns(
    columns: Sequence[str], *, origin: str, mapping: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Our name to the file's, for every column that the backtest can use.

    Parameters
    ----------
    columns : sequence of str
        Of the file.
    origin : str
        File, for messages.
    mapping : mapping of str to str, optional
        Our name to the file's, where no usual name fits. It wins over every alias.

    Raises
    ------
    ValidationError
        When a needed column is missing, two columns could be the same one, or ``mapping`` names no column.
    """
    found = dict(mapping or {})
    for ours, theirs in found.items():
        if ours not in ALIASES or theirs not in columns:
            raise ValidationError(
                f"{origin}: column option {ours}={theirs}",
                expected=f"one of {', '.join(ALIASES)} = a column of the file",
                found=f"columns {list(columns)}",
                action="correct the option",
            )
    for ours, aliases in ALIASES.items():
        if ours in found:
            continue
        candidates = [c for c in columns if _plain(c) in aliases and c not in found.values()]
        if len(candidates) > 1:
            raise ValidationError(
                f"{origin}: column {ours!r}",
                expected="one column that can be it",
                found=f"{' and '.join(map(repr, candidates))} among {list(columns)}",
                action=f"name the right one with --column {ours}={candidates[0]}",
            )
        if candidates:
            found[ours] = candidates[0]
    missing = [name for name in REQUIRED if name not in found]
    if not {"forward_return", "close"} & found.keys():
        missing.append("forward_return (or close)")
    if missing:
        raise ValidationError(
            f"{origin}: column {', '.join(missing)}",
            expected="symbol, session, score, and forward_return or close (or usual names for them)",
            found=f"columns {list(columns)}",
            action=f"rename it in the file, or pass --column {missing[0].split()[0]}=<name in the file>",
        )
    return {name: found[name] for name in ALIASES if name in found}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


# -------------------------------------------------------------------------------------- the table as matrices


# What pandas, R and databases write for "no value"; any other text in a number column is refused.
_ABSENT = ("", "na", "n/a", "nan", "null", "none")


@dataclass(frozen=True)
class DataFacts:
    """What the report says about its input: no path and no time, so that it is the same everywhere.

    Attributes
    ----------
    columns : tuple of (str, str)
        Our name and the file's, for each column read.
    """

    name: str
    sha256: str
    rows: int
    columns: tuple[tuple[str, str], ...]
    ignored_columns: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Panel:
    """Sessions x symbols, both ascending. NaN where the file has no row or no value.

    Attributes
    ----------
    listed : array of bool, shape (sessions, symbols)
        The file has a row.
    score, forward_return, open, close, volume, market_cap : array or None
        Shape (sessions, symbols); None when the file has no such column. Prices and volume are adjusted when
        the file has ``adj_close``. ``forward_return`` is a simple return (fraction, >= -1).
    """

    facts: DataFacts
    sessions: NDArray[np.datetime64]
    symbols: tuple[str, ...]
    listed: NDArray[np.bool_]
    score: Matrix
    forward_return: Matrix | None
    open: Matrix | None
    close: Matrix | None
    volume: Matrix | None
    market_cap: Matrix | None


def read_panel(file: Path, columns: Mapping[str, str] | None = None) -> Panel:
    """Read a CSV (plain or gzip) or Parquet file.

    Parameters
    ----------
    file : pathlib.Path
    columns : mapping of str to str, optional
        Our name to the file's, where no usual name fits.

    Raises
    ------
    SourceError
        When the file is missing or its bytes are not what its name says.
    BarContractError
        When a CSV line has not as many cells as the header.
    ValidationError
        When the table breaks its contract; names row, column and value.
    """
    try:
        digest = bytes_digest(file.read_bytes())
    except OSError as error:
        raise SourceError(
            f"{file}",
            expected="a readable file",
            found=f"{error.strerror or error}",
            action="correct the path (relative ones count from the current folder)",
        ) from error
    if file.suffix == ".parquet":
        try:
            frame = pl.read_parquet(file, columns=_usable(pl.read_parquet_schema(file), str(file), columns))
        except pl.exceptions.PolarsError as error:
            raise SourceError(
                f"{file}",
                expected="a complete Parquet file",
                found=f"bytes that are not ({error})",
                action="write the file again (it may be truncated)",
            ) from error
        names = list(pl.read_parquet_schema(file))
    else:
        frame = read_delimited(file, delimiter=",")
        names = frame.columns
    return _panel(frame, names, origin=str(file), name=file.name, sha256=digest, mapping=columns)


def panel_of(frame: pl.DataFrame, *, name: str, columns: Mapping[str, str] | None = None) -> Panel:
    """The same from a frame in memory, whose digest is that of its logical content.

    Raises
    ------
    ValidationError
        As `read_panel`.
    """
    return _panel(frame, frame.columns, origin=name, name=name, sha256=frame_digest(frame), mapping=columns)


def _usable(schema: Mapping[str, pl.DataType], origin: str, mapping: Mapping[str, str] | None) -> list[str]:
    return list(resolve_columns(list(schema), origin=origin, mapping=mapping).values())


def _panel(
    frame: pl.DataFrame,
    names: list[str],
    *,
    origin: str,
    name: str,
    sha256: str,
    mapping: Mapping[str, str] | None,
) -> Panel:
    found = resolve_columns(names, origin=origin, mapping=mapping)
    written = frame.select(pl.col(theirs).alias(ours) for ours, theirs in found.items())
    typed = _typed(written, found, origin)
    _refuse_broken_cells(written, typed, found, origin)
    symbols = tuple(typed["symbol"].unique().sort().to_list())
    days = typed["session"].to_physical().to_numpy()
    first = int(days.min())
    present = np.flatnonzero(np.bincount(days - first))
    row_of_day = np.full(int(present[-1]) + 1, -1)
    row_of_day[present] = np.arange(len(present))
    codes = typed["symbol"].cast(pl.Enum(symbols)).to_physical().to_numpy().astype(np.int64)
    shape = (len(present), len(symbols))
    cell = row_of_day[days - first] * shape[1] + codes
    count = np.bincount(cell, minlength=shape[0] * shape[1])
    if count.max() > 1:
        raise _duplicate(typed, cell, origin)
    matrices: dict[str, Matrix] = {}
    for column in (c for c in NUMBERS if c in found):
        values = np.full(shape[0] * shape[1], np.nan)
        values[cell] = typed[column].fill_null(np.nan).to_numpy()
        matrices[column] = values.reshape(shape)
    _adjust(matrices)
    return Panel(
        facts=DataFacts(
            name=name,
            sha256=sha256,
            rows=frame.height,
            columns=tuple(sorted(found.items())),
            ignored_columns=tuple(c for c in names if c not in found.values()),
        ),
        sessions=(present + first).astype("datetime64[D]"),
        symbols=symbols,
        listed=(count > 0).reshape(shape),
        score=matrices["score"],
        **{
            column: matrices.get(column)
            for column in ("forward_return", "open", "close", "volume", "market_cap")
        },
    )


def _typed(written: pl.DataFrame, found: Mapping[str, str], origin: str) -> pl.DataFrame:
    if written.is_empty():
        raise ValidationError(
            origin, expected="at least one row", found="a header only", action="write the table again"
        )
    for ours, dtype in written.schema.items():
        problem = dtype_problem(ours, dtype)
        if problem:
            raise ValidationError(
                f"{origin}: column {found[ours]!r}",
                expected=problem,
                found=f"values of type {dtype}",
                action="convert the column in the file",
            )
    return written.select(
        text_of("symbol"),
        _sessions(written["session"]),
        *(number_of(name, written.schema[name]).alias(name) for name in written.columns if name in NUMBERS),
    )


def _sessions(cells: pl.Series) -> pl.Series:
    """Session dates. A panel repeats each text for every symbol, so each is parsed once."""
    parse = session_of("session", cells.dtype).alias("session")
    if cells.dtype != pl.String:
        return cells.to_frame().select(parse).to_series()
    codes = cells.cast(pl.Categorical)
    once = codes.unique().cast(pl.String)
    parsed = once.to_frame().select(pl.col("session").cast(pl.Categorical).alias("text"), parse)
    return (
        codes.alias("text")
        .to_frame()
        .join(parsed, on="text", how="left", maintain_order="left", nulls_equal=True)["session"]
    )


def _unread(cells: pl.Series, values: pl.Series) -> pl.Series:
    """Cells with a text that is neither a number nor one of the ways to write that there is none."""
    rows = values.is_null().arg_true()
    text = cells.gather(rows).str.strip_chars().str.to_lowercase()
    unread = np.zeros(len(cells), dtype=bool)
    unread[rows.to_numpy()] = ~text.fill_null("").is_in(_ABSENT).to_numpy()
    return pl.Series(unread)


def _refuse_broken_cells(
    written: pl.DataFrame, typed: pl.DataFrame, found: Mapping[str, str], origin: str
) -> None:
    """Refuse keys that are absent and values that can be no score, return, price, volume or size."""
    sessions = typed["session"].is_null()
    absent = (
        sessions & written.select(text_of("session").is_null()).to_series() if sessions.any() else sessions
    )
    checks: list[tuple[str, str, pl.Series]] = [
        ("symbol", "a symbol in every row", typed["symbol"].is_null()),
        ("session", "a session in every row", absent),
        ("session", "dates written year first, as 2024-07-03", sessions),
    ]
    for name in (n for n in NUMBERS if n in found):
        values = typed[name]
        if written.schema[name] == pl.String:
            checks.append((name, "a number with a decimal point, or nothing", _unread(written[name], values)))
        checks.append((name, "a finite number, or nothing", values.is_infinite()))
        if name == "forward_return":
            checks.append((name, "a simple return as a fraction, not below -1 (-100 %)", values < -1.0))
        elif name == "volume":
            checks.append((name, "a volume of zero or more", values < 0.0))
        elif name != "score":
            checks.append((name, "a number above zero", values <= 0.0))
    if {"close", "adj_close"} <= found.keys():
        gaps = typed["adj_close"].fill_nan(None).is_null() & typed["close"].fill_nan(None).is_not_null()
        checks.append(("adj_close", "an adjusted close beside every close", gaps))
    for name, expected, broken in checks:
        count = int(broken.sum())
        if count:
            row = int(broken.fill_null(value=False).arg_true()[0])
            value = written[name][row]
            raise ValidationError(
                f"{origin}: row {row + 1}, column {found[name]!r}",
                expected=expected,
                found=f"{'nothing' if value is None or value == '' else repr(value)}"
                + (f", and {count - 1} more such rows" if count > 1 else ""),
                action="correct these rows (row 1 is the first after the header); nothing was computed",
            )


def _duplicate(typed: pl.DataFrame, cell: NDArray[np.int64], origin: str) -> ValidationError:
    order = np.argsort(cell, kind="stable")
    again = order[1:][cell[order][1:] == cell[order][:-1]]
    row = int(again.min())
    earlier = int(np.flatnonzero(cell == cell[row])[0])
    return ValidationError(
        f"{origin}: row {row + 1}",
        expected="one row for each symbol and session",
        found=f"{typed['symbol'][row]} on {typed['session'][row]}, which row {earlier + 1} has"
        + (f", and {len(again) - 1} more repeated rows" if len(again) > 1 else ""),
        action="remove the repeated rows; nothing was computed",
    )


def _adjust(matrices: dict[str, Matrix]) -> None:
    """Bring prices and volume to the scale of ``adj_close``; traded value stays what it was."""
    adjusted = matrices.pop("adj_close", None)
    if adjusted is None or "close" not in matrices:
        return
    factor = adjusted / matrices["close"]
    matrices["close"] = adjusted
    if "open" in matrices:
        matrices["open"] = matrices["open"] * factor
    if "volume" in matrices:
        matrices["volume"] = matrices["volume"] / factor


__all__ = ["ALIASES", "DataFacts", "Matrix", "Panel", "panel_of", "read_panel"]
