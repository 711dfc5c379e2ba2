"""A clean feed of two symbols, one way to spoil it for each named defect, and what the product says about it."""

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import polars as pl

from quant_assets.common.errors import QuantAssetsError
from quant_assets.common.settings import SyntheticSource, UniverseConfig
from quant_assets.market.actions import adjust_bars, read_actions
from quant_assets.market.rules.quality import check_bars, quarantine
from quant_assets.market.sources.sources import read_bars
from quant_assets.market.synthetic import generate

START, END = date(2021, 1, 4), date(2023, 12, 29)
SPOILT = "S001"
SESSIONS = 753
AT = 400  # session of S001 that is spoilt
PRICES = ("open", "high", "low", "close", "adj_close")
Spoil = Callable[[pl.DataFrame], pl.DataFrame | bytes]


@dataclass(frozen=True)
class Case:
    """One defect. ``cause`` must be said of it, and of no case with another ``cause``; ``where`` must be said too.

    ``rules`` are the rules that find it, or () when the feed is refused.
    """

    name: str
    spoil: Spoil
    rules: tuple[str, ...]
    cause: str
    where: str
    file: str = "feed.csv"
    source: dict[str, Any] = field(default_factory=dict)


@lru_cache(maxsize=1)
def clean() -> pl.DataFrame:
    """Two symbols, 2021 to 2023, no dividend, no split: 753 sessions each."""
    source = SyntheticSource(kind="synthetic", seed=11, n_symbols=2)
    return generate(source, "XNYS", START, END)


def as_csv(frame: pl.DataFrame, **options: Any) -> bytes:
    """The frame as a CSV file's bytes."""
    buffer = io.BytesIO()
    frame.write_csv(buffer, **options)
    return buffer.getvalue()


def as_parquet(frame: pl.DataFrame) -> bytes:
    """The frame as a Parquet file's bytes."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def row_of(k: int) -> int:
    """Data row (from 1) of the spoilt symbol's session ``k``."""
    return SESSIONS + k + 1


def position() -> pl.Expr:
    """Session number within the symbol."""
    return pl.int_range(pl.len()).over("symbol")


def where(first: int, last: int | None = None) -> pl.Expr:
    """Sessions ``first`` to ``last`` (included) of the spoilt symbol."""
    return (pl.col("symbol") == SPOILT) & position().is_between(first, first if last is None else last)


def put(rows: pl.Expr, **values: Any) -> Spoil:
    """Write values (expressions, numbers or text) into columns of these rows."""

    def spoil(frame: pl.DataFrame) -> pl.DataFrame:
        changed = []
        for name, value in values.items():
            new = value if isinstance(value, pl.Expr) else pl.lit(value)
            old = pl.col(name).cast(pl.String) if isinstance(value, str) else pl.col(name)
            changed.append(pl.when(rows).then(new).otherwise(old).alias(name))
        return frame.with_columns(changed)

    return spoil


def scale(rows: pl.Expr, factor: float, *names: str, volume: float = 1.0) -> Spoil:
    """Multiply columns (all prices unless named) of these rows."""
    chosen = names or PRICES
    return put(rows, **{n: pl.col(n) * factor for n in chosen}, volume=(pl.col("volume") * volume).round())


def add(frame: pl.DataFrame, like: int, **values: Any) -> pl.DataFrame:
    """Append a row: the spoilt symbol's session ``like`` with other values."""
    extra = frame.filter(where(like)).with_columns(
        (value if isinstance(value, pl.Expr) else pl.lit(value)).alias(name) for name, value in values.items()
    )
    return pl.concat([frame, extra.select(frame.columns)])


def lines(frame: pl.DataFrame) -> list[str]:
    """The CSV's lines, the header first."""
    return as_csv(frame).decode().splitlines()


def text(new: list[str]) -> bytes:
    """Lines as a file."""
    return ("\n".join(new) + "\n").encode()


def outcome(case: Case, folder: Path, *, strict: bool = True) -> tuple[tuple[str, ...], str]:
    """Rules that failed (none when refused) and everything that was said, of the spoilt feed."""
    spoilt = case.spoil(clean())
    file = folder / case.file
    if isinstance(spoilt, bytes):
        file.write_bytes(spoilt)
    else:
        file.write_bytes(as_parquet(spoilt) if file.suffix == ".parquet" else as_csv(spoilt))
    kind = "parquet" if file.suffix == ".parquet" else "csv"
    return diagnose(universe(file, kind=kind, strict=strict, **case.source))


def universe(file: Path, *, kind: str = "csv", strict: bool = False, **source: Any) -> UniverseConfig:
    """A universe of one file."""
    return UniverseConfig.model_validate(
        {
            "name": "spoilt",
            "source": {"kind": kind, "path": str(file)} | source,
            "start": START,
            "end": END,
            "quality": {"strict": strict},
        }
    )


def diagnose(config: UniverseConfig) -> tuple[tuple[str, ...], str]:
    """The whole way of a feed: read, derive actions, quarantine, adjust, check."""
    try:
        read = read_bars(config)
        known = read_actions(read.bars)
        actions = known.actions
        parted = quarantine(read.bars, actions, config, doubts=known.doubts, no_bars=read.aside)
        bars = adjust_bars(parted.kept, actions, config.calendar)
    except QuantAssetsError as error:
        return (), str(error)
    findings = [
        *parted.findings,
        *check_bars(bars, actions, config, quarantined=parted.listed),
    ]
    failed = [finding for finding in findings if not finding.passed]
    said = [
        f"{finding.severity} {finding.rule} {finding.evidence} {finding.offenders.rows()}"
        for finding in failed
    ]
    rules = [finding.rule for finding in failed]
    for symbol, session, kind, evidence, candidates, _ in known.doubts.iter_rows():
        rules.append("actions_in_doubt")
        said.append(f"{symbol} {session} {kind}: {evidence} ({candidates})")
    return tuple(dict.fromkeys(rules)), "\n".join(said)
