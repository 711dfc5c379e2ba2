"""Files as tables: one reader for each format, found by a file's first bytes or said by its source.

Every reader ends in the same place: header rows as text, and below them columns as the file has them.
"""

import glob
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import polars as pl
from pydantic import ValidationError

from quant_assets.common.errors import ConfigurationError, SourceError, UndecidedTableError, brief
from quant_assets.common.files import control_character
from quant_assets.common.source_settings import (
    ArrowSource,
    BokehSource,
    CsvSource,
    ExcelSource,
    ParquetSource,
)
from quant_assets.market.parsing import bytes_cause
from quant_assets.market.sources.delimited import MAX_COLUMNS, delimited_rows
from quant_assets.market.sources.layouts import MOST_HEADER_ROWS, header_height
from quant_assets.market.sources.plain_text import read_text

if TYPE_CHECKING:
    import pyarrow

NamedFiles = ParquetSource | ArrowSource | ExcelSource | CsvSource
FileSource = BokehSource | NamedFiles
Kind = Literal["parquet", "arrow", "excel", "csv"]
SUFFIXES: dict[str, Kind] = {
    ".parquet": "parquet", ".pq": "parquet", ".feather": "arrow", ".arrow": "arrow", ".ipc": "arrow",
    ".xlsx": "excel", ".xlsm": "excel", ".csv": "csv", ".txt": "csv", ".tsv": "csv", ".gz": "csv", ".zip": "csv",
}  # fmt: skip

MAX_PARQUET_BYTES = 8 << 30
MAX_FOOTER_BYTES = 16 << 20
MAX_EXCEL_BYTES = 64 << 20
MAX_EXCEL_UNPACKED = 1 << 30


@dataclass(frozen=True)
class RawTable:
    """A file's table as it stands there.

    Attributes
    ----------
    header : tuple of tuple of str
        Its header rows: one, or the levels of a wide table's columns.
    frame : polars.DataFrame
        The rows below, in the header's order of columns.
    encoding, packing, delimiter, sheet : str, optional
        Of text what it is written and packed in and what parts its cells, of a workbook the sheet.
    """

    kind: Kind
    header: tuple[tuple[str, ...], ...]
    frame: pl.DataFrame
    encoding: str | None = None
    packing: str = ""
    delimiter: str | None = None
    sheet: str | None = None


def kind_of(file: Path) -> Kind:
    """What format a file has, by its first bytes; text where they tell nothing.

    Raises
    ------
    SourceError
        For formats that no reader here knows.
    """
    with file.open("rb") as stream:
        head = stream.read(8)
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"ARROW1"):
        return "arrow"
    if head.startswith(b"PK\x03\x04") and _is_workbook(file):
        return "excel"
    if head.startswith((b"FEA1", b"\xd0\xcf\x11\xe0")):
        raise SourceError(
            f"{file}",
            expected="Parquet, Arrow (Feather version 2), xlsx, or delimited text (plain, gzip or zip)",
            found=bytes_cause(head, file.stat().st_size) or "another format",
            action="save it in one of these formats",
        )
    return "csv"


def _is_workbook(file: Path) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            return any(name.startswith("xl/") for name in archive.namelist())
    except zipfile.BadZipFile:  # what reads it as text says so, with its path
        return False


def open_table(file: Path, source: FileSource) -> RawTable:
    """Read a file as its source's kind says.

    Raises
    ------
    SourceError
        When the bytes are of another kind, damaged, or no table.
    BarContractError
        When a line of text has not as many cells as the header.
    ConfigurationError
        When the reader of a format is not installed.
    """
    match source:
        case ParquetSource():
            frame = read_parquet(file)
        case ArrowSource():
            frame = _read_arrow(file)
        case ExcelSource():
            return _read_excel(file, source.sheet)
        case CsvSource() | BokehSource():
            text = read_text(file)
            delimiter = source.delimiter if isinstance(source, CsvSource) else ","
            rows = delimited_rows(text.text, origin=str(file), delimiter=delimiter)
            return RawTable("csv", rows.header, rows.frame, text.encoding, text.packing, rows.delimiter)
    return RawTable(source.kind, (tuple(frame.columns),), frame)


# -------------------------------------------------------------------------------------------- Parquet and Arrow


def read_parquet(file: Path) -> pl.DataFrame:
    """The table of a Parquet file, checked cell by cell before polars sees it.

    Read by pyarrow: of 2,000 damaged files polars 2.1.0 panics on some, and takes what is in a cut page of others.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        limit = {
            "thrift_string_size_limit": MAX_FOOTER_BYTES,
            "thrift_container_size_limit": MAX_FOOTER_BYTES,
        }
        with pyarrow.parquet.ParquetFile(file, page_checksum_verification=True, **limit) as parquet:
            claimed = parquet.metadata
            size = sum(claimed.row_group(n).total_byte_size for n in range(claimed.num_row_groups))
            if claimed.num_columns > MAX_COLUMNS or not 0 <= size <= MAX_PARQUET_BYTES:
                raise SourceError(
                    f"{file}",
                    expected=f"at most {MAX_COLUMNS} columns and {MAX_PARQUET_BYTES} bytes when unpacked",
                    found=f"{claimed.num_columns} columns and {size} bytes",
                    action="write only the columns of the bars, or split the file by year",
                )
            table = parquet.read()
        return _checked(table, file)
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, pl.exceptions.PolarsError) as error:
        raise _damaged(file, "Parquet", error) from error


def _read_arrow(file: Path) -> pl.DataFrame:
    """The table of an Arrow file, checked cell by cell before polars sees it."""
    import pyarrow
    import pyarrow.ipc

    try:
        with pyarrow.OSFile(str(file)) as stream, pyarrow.ipc.open_file(stream) as reader:
            if len(reader.schema) > MAX_COLUMNS or file.stat().st_size > MAX_PARQUET_BYTES:
                raise SourceError(
                    f"{file}",
                    expected=f"at most {MAX_COLUMNS} columns and {MAX_PARQUET_BYTES} bytes",
                    found=f"{len(reader.schema)} columns and {file.stat().st_size} bytes",
                    action="write only the columns of the bars, or split the file by year",
                )
            table = reader.read_all()
        return _checked(table, file)
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, pl.exceptions.PolarsError) as error:
        raise _damaged(file, "Arrow", error) from error


def _checked(table: "pyarrow.Table", file: Path) -> pl.DataFrame:
    table.validate(full=True)
    frame = pl.DataFrame(pl.from_arrow(table))
    if problem := control_character("".join(frame.columns)):
        raise SourceError(
            f"{file}", expected="plain names of columns", found=problem, action="rename them at the source"
        )
    return frame


def _damaged(file: Path, kind: str, error: Exception) -> SourceError:
    return SourceError(
        f"{file}",
        expected=f"a complete {kind} file",
        found=f"{_what_it_is(file, kind)} ({' '.join(str(error).split())[:200]})",
        action="write the file again (it may be truncated), or set the right `kind:`",
    )


def _what_it_is(file: Path, kind: str) -> str:
    with file.open("rb") as stream:
        cause = bytes_cause(stream.read(200), file.stat().st_size)
    if cause is None:
        return "bytes that are not"
    return f"{cause}, cut off or damaged" if kind in cause else cause


# -------------------------------------------------------------------------------------------------------- Excel


def _read_excel(file: Path, sheet: str | None) -> RawTable:
    """The one sheet of a workbook that holds a table, every cell as text."""
    try:
        import fastexcel
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{file}",
            expected="the reader of workbooks",
            found="fastexcel is not installed",
            action="install the extra `excel` (pip install 'quant_assets[excel]'), or save the sheet as CSV",
        ) from error
    _require_small_workbook(file)
    try:
        book = fastexcel.read_excel(str(file))
        names = list(book.sheet_names)
        if sheet is not None and sheet not in names:
            raise SourceError(
                f"{file}",
                expected=f"the sheet {sheet!r}",
                found=f"sheets {brief(', '.join(names), 200)}",
                action="correct `sheet:`",
            )
        tables = {}
        for name in [sheet] if sheet is not None else names:
            cells = book.load_sheet(name, header_row=None, dtypes="string").to_polars()
            if cells.height > 1 and cells.width > 1:
                tables[name] = cells
    except fastexcel.FastExcelError as error:
        raise SourceError(
            f"{file}",
            expected="a complete workbook (xlsx)",
            found=" ".join(str(error).split())[:200],
            action="save it again in Excel, or save the sheet as CSV",
        ) from error
    if not tables:
        raise SourceError(
            f"{file}",
            expected="one sheet with a table",
            found=f"none among the sheets {brief(', '.join(names), 200)}",
            action="save the bars in one sheet, a header in its first row",
        )
    if len(tables) > 1:
        raise UndecidedTableError(
            f"{file}",
            expected="one sheet with a table",
            found=f"{len(tables)} among the sheets {brief(', '.join(names), 200)}",
            action="name the one that is meant: --sheet, or `sheet:` in an excel source of the universe YAML",
            option="--sheet NAME",
        )
    name, cells = next(iter(tables.items()))
    text = "".join(cells.head(MOST_HEADER_ROWS + 1).fill_null("").rows()[0])
    if problem := control_character(text):
        raise SourceError(
            f"{file}", expected="plain names of columns", found=problem, action="rename them at the source"
        )
    header, body = _below_header(cells)
    return RawTable("excel", header, body, sheet=name)


def _below_header(cells: pl.DataFrame) -> tuple[tuple[tuple[str, ...], ...], pl.DataFrame]:
    """Header rows, and the rows below without those that are empty."""
    filled = cells.filter(~pl.all_horizontal(pl.all().str.strip_chars().fill_null("") == ""))
    first = [
        tuple((cell or "").strip() for cell in row) for row in filled.head(MOST_HEADER_ROWS + 1).iter_rows()
    ]
    height = header_height(first)
    # A column without a name and without a cell is the room beside the table.
    kept = [
        name
        for place, name in enumerate(filled.columns)
        if any(row[place] for row in first[:height])
        or filled[name][height:].str.strip_chars().fill_null("").ne("").any()
    ]
    places = [filled.columns.index(name) for name in kept]
    header = tuple(tuple(row[place] for place in places) for row in first[:height])
    return header, filled.select(kept)[height:]


def _require_small_workbook(file: Path) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
    except zipfile.BadZipFile as error:
        with file.open("rb") as stream:
            cause = bytes_cause(stream.read(200), file.stat().st_size)
        raise SourceError(
            f"{file}",
            expected="a workbook (xlsx)",
            found=cause or f"{file.stat().st_size} bytes that are none",
            action="set the `kind:` that the file is, or save it again",
        ) from error
    if file.stat().st_size > MAX_EXCEL_BYTES or unpacked > MAX_EXCEL_UNPACKED:
        raise SourceError(
            f"{file}",
            expected=f"a workbook of at most {MAX_EXCEL_BYTES} bytes, {MAX_EXCEL_UNPACKED} unpacked",
            found=f"{file.stat().st_size} and {unpacked}",
            action="write the table as Parquet or CSV",
        )


# ------------------------------------------------------------------------------------ a path as people name it


def source_of(path: Path, said: Mapping[str, Any] | None = None) -> NamedFiles:
    """The source of a file, or of the files of one format in a folder, with what a person says of its cells.

    Parameters
    ----------
    said : mapping, optional
        ``date_format``, ``time_zone``, ``resample``, ``sheet``, ``columns`` as `TableSource` and `ExcelSource` have
        them.

    Raises
    ------
    SourceError
        When there is no such file, or none in the folder that may hold bars.
    ConfigurationError
        When what is said is no such value, or not for this format.
    """
    if path.is_dir():
        ending, first = _of_folder(path)
        pattern = f"{glob.escape(str(path))}/*{ending}"
    elif path.is_file():
        pattern, first = glob.escape(str(path)), path
    else:
        raise SourceError(
            f"{path}",
            expected="a file of daily bars (CSV, Parquet, Arrow, xlsx), or a folder of such files",
            found="no such file",
            action="correct the path",
        )
    kinds: dict[Kind, type[NamedFiles]] = {
        "parquet": ParquetSource,
        "arrow": ArrowSource,
        "excel": ExcelSource,
        "csv": CsvSource,
    }
    kind = kind_of(first)
    try:
        return kinds[kind].model_validate({"kind": kind, "path": pattern, **(said or {})})
    except ValidationError as error:
        found = error.errors()[0]
        key = ".".join(map(str, found["loc"]))
        raise ConfigurationError(
            f"option --{key.replace('_', '-')}",
            expected=f"no such option of a file of kind {kind}"
            if found["type"] == "extra_forbidden"
            else found["msg"].removeprefix("Value error, "),
            found=brief(found["input"]),
            action=f"correct it, or leave it out ({first.name} is a file of kind {kind})",
        ) from error


def files_beside(path: Path) -> tuple[str, ...]:
    """Names of the files in a folder that are not read as bars."""
    if not path.is_dir():
        return ()
    ending, _ = _of_folder(path)
    return tuple(sorted(file.name for file in path.iterdir() if file.is_file() and _ending(file) != ending))


def _of_folder(folder: Path) -> tuple[str, Path]:
    """The ending that most files have which may hold bars, and the first of them."""
    found: dict[str, list[Path]] = {}
    for file in sorted(folder.iterdir()):
        if file.is_file() and not file.name.startswith(".") and _ending(file):
            found.setdefault(_ending(file), []).append(file)
    if not found:
        raise SourceError(
            f"{folder}",
            expected=f"files that end with one of {', '.join(SUFFIXES)}",
            found="none",
            action="name the folder in which the files themselves are",
        )
    ending = max(found, key=lambda one: len(found[one]))
    return ending, found[ending][0]


def _ending(file: Path) -> str:
    name = file.name
    while (ending := Path(name).suffix).lower() in SUFFIXES:
        name = name[: -len(ending)]
    return file.name[len(name) :]
