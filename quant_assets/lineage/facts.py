"""What people see of a result beside numbers, texts and tables: pictures, pages, files, formatted text."""

from dataclasses import dataclass

import polars as pl

from quant_assets.common.files import Location


@dataclass(frozen=True)
class Picture:
    """A PNG as a ``data:`` address, and its title."""

    data_uri: str
    title: str


@dataclass(frozen=True)
class Markdown:
    """Text with Markdown in it."""

    text: str


@dataclass(frozen=True)
class Link:
    """An address to open."""

    address: str


@dataclass(frozen=True)
class File:
    """A file on this machine, or an object of a bucket."""

    path: Location


@dataclass(frozen=True)
class LongTable:
    """A table that is shown with more rows than usual."""

    frame: pl.DataFrame
    max_rows: int
