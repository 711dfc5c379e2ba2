"""Numbers as vendors write them: the decimal mark and the mark of thousands that a whole file proves.

1.234 is a thousand or one and a bit, and no cell says which. A style counts only when some cell can be read in no
other way, all columns with such marks fit it, and nothing speaks for another one. Otherwise the universe says it.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import polars as pl

from quant_assets.market.parsing import PRICES

COLUMNS = (*PRICES, "volume", "adj_close")
MOSTLY = 0.98  # of a column's cells fit its style; the rest is broken
_SPACES = "[ \u00a0\u202f]"


@dataclass(frozen=True)
class Style:
    """A decimal mark and a mark of thousands (empty: none)."""

    decimal: str
    thousands: str

    def __str__(self) -> str:
        parts = f", thousands parted by {self.thousands!r}" if self.thousands else ""
        return f"decimal {'comma' if self.decimal == ',' else 'point'}{parts}"

    @property
    def _mark(self) -> str:
        return _SPACES if self.thousands == " " else re.escape(self.thousands)

    @property
    def _rest(self) -> str:
        return rf"(?:{re.escape(self.decimal)}[0-9]+)?$"

    @property
    def grouped(self) -> str:
        """Numbers of which every thousand is parted, as a regular expression."""
        return (
            rf"^[+-]?[0-9]{{1,3}}(?:{self._mark}[0-9]{{3}})*{self._rest}" if self.thousands else self.number
        )

    @property
    def number(self) -> str:
        """Every number of this style, parted or not."""
        parted = rf"|[0-9]{{1,3}}(?:{self._mark}[0-9]{{3}})+" if self.thousands else ""
        return rf"^[+-]?(?:[0-9]+{parted}){self._rest}"

    @property
    def proof(self) -> str:
        """Numbers that can be read with this decimal mark alone."""
        decimal = re.escape(self.decimal)
        told = [
            rf"^[+-]?[0-9]+{decimal}(?:[0-9]{{1,2}}|[0-9]{{4,}})$",
            rf"^[+-]?(?:0|[0-9]{{4,}}){decimal}[0-9]+$",
        ]
        if self.thousands:
            parted = rf"[0-9]{{1,3}}(?:{self._mark}[0-9]{{3}})"
            told += [rf"^[+-]?{parted}+{decimal}[0-9]+$", rf"^[+-]?{parted}{{2,}}$"]
        return "|".join(told)

    def plain(self, name: str) -> pl.Expr:
        """The column with every number of this style as a program writes it, other cells as they are."""
        text = pl.col(name)
        bare = text.str.replace_all(self._mark, "") if self.thousands else text
        return (
            pl.when(text.str.contains(self.number))
            .then(bare.str.replace(self.decimal, ".", literal=True))
            .otherwise(text)
        )


STYLES = tuple(
    Style(decimal, thousands)
    for decimal, others in ((".", (",", " ", "'")), (",", (".", " ", "'", "")))
    for thousands in others
)


def plain_numbers(frame: pl.DataFrame, said: Style | None) -> tuple[pl.DataFrame, str | None]:
    """Conformed rows of text with plain numbers, and a note where that took a reading.

    Parameters
    ----------
    frame : polars.DataFrame
        Under our names. Columns that are no text are left alone, and text that no style reads.
    said : Style, optional
        What the universe says of the file; then nothing is guessed.
    """
    named = [name for name in COLUMNS if frame.schema.get(name) == pl.String]
    marked = [name for name in named if frame[name].str.contains("[, '\u00a0\u202f]|[.][0-9]+[.]").any()]
    if said is None and not marked:
        return frame, None
    frame = frame.with_columns(pl.col(name).str.strip_chars() for name in named)
    style = said if said is not None else _only(_proven(frame, named, marked))
    if style is None:
        return frame, None
    # A style that was found is of the whole file: where the comma is decimal, 1.234 is a thousand.
    changed = frame.with_columns(style.plain(name) for name in named)
    how = (
        "as the universe says" if said is not None else f"told from {', '.join(marked)} and the other columns"
    )
    return changed, f"numbers read with {style}, {how}"


def _proven(frame: pl.DataFrame, named: list[str], marked: list[str]) -> Iterator[Style]:
    """Styles that nearly every cell fits, the marked columns throughout, and that some cell proves."""
    cells = {name: frame[name].drop_nulls() for name in named}
    for style in STYLES:
        fits = all(
            _share(cell, style.grouped if name in marked else style.number) >= MOSTLY
            for name, cell in cells.items()
        )
        if fits and any(cell.str.contains(style.proof).any() for cell in cells.values()):
            yield style


def _share(cells: pl.Series, pattern: str) -> float:
    """Fraction of cells that are written so; 1 of none."""
    return int(cells.str.contains(pattern).sum()) / cells.len() if cells.len() else 1.0


def _only(styles: Iterable[Style]) -> Style | None:
    """The style, when all that are left have one decimal mark."""
    found = list(styles)
    return found[0] if len({style.decimal for style in found}) == 1 else None
