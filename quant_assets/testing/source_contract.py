"""What the platform relies on of a desk's own bar source, as tests to inherit."""

from datetime import date
from typing import Any, ClassVar

from quant_assets.common.settings import UniverseConfig
from quant_assets.market.sources.plugged import forget
from quant_assets.market.sources.sources import read_bars


class SourceContract:
    """Tests of a bar source::

        class TestPrices(SourceContract):
            plugin = "my_desk.sources:prices"
            symbols = ("AAA", "BBB")
            start, end = date(2020, 1, 1), date(2020, 12, 31)

    Attributes
    ----------
    plugin : str or mapping
        ``module:object``, or ``{"use": ..., "options": {...}}``.
    symbols : tuple of str or None
    start, end : datetime.date
    calendar : str
    """

    plugin: ClassVar[Any]
    symbols: ClassVar[tuple[str, ...] | None] = None
    start: ClassVar[date]
    end: ClassVar[date]
    calendar: ClassVar[str] = "XNYS"

    def universe(self) -> UniverseConfig:
        """A universe that is read from the source."""
        told = {"use": self.plugin} if isinstance(self.plugin, str) else dict(self.plugin)
        return UniverseConfig.model_validate(
            {
                "name": "contract",
                "source": {"kind": "plugin", **told},
                "symbols": self.symbols,
                "calendar": self.calendar,
                "start": self.start,
                "end": self.end,
            }
        )

    def test_its_rows_are_bars(self) -> None:
        """Columns, types and values, by the contract that every source is held to."""
        read = read_bars(self.universe())
        assert read.bars.height
        assert not read.aside.height, f"rows that are no bars: {read.aside}"

    def test_it_has_every_symbol_within_the_dates(self) -> None:
        """Nothing missing, nothing from outside."""
        bars = read_bars(self.universe()).bars
        assert self.symbols is None or set(bars["symbol"].unique()) == set(self.symbols)
        assert bars["session"].is_between(self.start, self.end).all()

    def test_the_same_question_has_the_same_answer(self) -> None:
        """What differs between two readings is a revision, and is recorded as one."""
        first = read_bars(self.universe()).bars
        forget()
        assert first.equals(read_bars(self.universe()).bars)
