"""Bar files: finding them, reading one of them, and mapping and judging what is inside."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import polars as pl

from quant_assets.common.errors import SourceError
from quant_assets.common.settings import BokehSource, CsvSource, ParquetSource
from quant_assets.market.contract import conform, validate_bars
from quant_assets.market.delimited import read_delimited
from quant_assets.market.diagnosis import bytes_cause
from quant_assets.market.parsing import has_time_of_day

FileSource = BokehSource | ParquetSource | CsvSource

_GLOB_CHARACTERS = frozenset("*?[")


@dataclass(frozen=True)
class BarFile:
    """One file's validated bars, its column mapping (ours to the file's), and notes about the reading."""

    bars: pl.DataFrame
    column_mapping: dict[str, str]
    notes: tuple[str, ...]


def files_of(source: FileSource) -> list[Path]:
    """The files that a source names, in order of their path.

    Raises
    ------
    SourceError
        When there is none.
    """
    return [_bokeh_file()] if isinstance(source, BokehSource) else _expand(source.path)


def read_bar_file(file: Path, source: FileSource) -> BarFile:
    """Read one file, map its columns and refuse rows that are no bars.

    Raises
    ------
    SourceError
        When the bytes are not what the source's kind says.
    BarContractError
        When a column is missing or ambiguous, or a row breaks the contract.
    """
    match source:
        case ParquetSource():
            frame, mapping = _read_parquet(file), source.columns
        case CsvSource():
            frame, mapping = read_delimited(file, delimiter=source.delimiter), source.columns
        case BokehSource():
            frame, mapping = read_delimited(file, delimiter=","), {}
    conformed = conform(frame, origin=str(file), mapping=mapping, symbol=_stem(file))
    notes = []
    if conformed.ignored_columns:
        notes.append(
            f"{len(conformed.ignored_columns)} columns ignored: {', '.join(conformed.ignored_columns)}"
        )
    if "symbol" not in conformed.column_mapping:
        notes.append("no symbol column: each file is one symbol, named by its stem")
    if conformed.bars.select(has_time_of_day("session", conformed.bars.schema["session"])).item():
        notes.append("session: the time of day was dropped, in the column's own time zone")
    bars = validate_bars(conformed.bars, origin=str(file))
    return BarFile(bars, conformed.column_mapping, tuple(notes))


def _stem(file: Path) -> str:
    return file.name.removesuffix(".gz").removesuffix(".csv").removesuffix(".parquet")


def _read_parquet(file: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(file)
    except pl.exceptions.PolarsError as error:
        raise SourceError(
            f"{file}",
            expected="a complete Parquet file",
            found=f"{_what_it_is(file)} ({error})",
            action="write the file again (it may be truncated), or set the right `kind:`",
        ) from error


def _what_it_is(file: Path) -> str:
    with file.open("rb") as stream:
        cause = bytes_cause(stream.read(200), file.stat().st_size)
    if cause is None:
        return "bytes that are not"
    return f"{cause}, cut off or damaged" if "Parquet" in cause else cause


def _bokeh_file() -> Path:
    spec = find_spec("bokeh_sampledata")  # located, not imported: the package's modules parse their data
    folder = Path(spec.origin).parent if spec is not None and spec.origin else Path("bokeh_sampledata")
    file = folder / "_data" / "stocks.csv.gz"
    if not file.exists():
        raise SourceError(
            "source bokeh_sampledata",
            expected=f"the package's data file {file}",
            found="nothing there",
            action="install bokeh_sampledata>=2026.1 (`make setup`)",
        )
    return file


def _expand(path: str) -> list[Path]:
    pattern = Path(path)
    depth = next((n for n, part in enumerate(pattern.parts) if _GLOB_CHARACTERS & set(part)), None)
    if depth is None:
        files = [pattern] if pattern.is_file() else []
    else:
        found = Path(*pattern.parts[:depth]).glob(str(Path(*pattern.parts[depth:])))
        files = sorted(file for file in found if file.is_file())
    if not files:
        raise SourceError(
            f"source {path}",
            expected="at least one file",
            found=f"none (relative paths count from {Path.cwd()})",
            action="correct `path:` in the universe YAML",
        )
    return files
