"""A bar source of a desk's own: the same contract, its own errors, one call for all years."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from quant_assets.common.errors import BarContractError, SourceError
from quant_assets.common.settings import UniverseConfig
from quant_assets.market.sources.plugged import forget
from quant_assets.market.sources.sources import read_bars, read_year

GOOD = """
from quant_assets.testing.small_market import small_market
import polars as pl
CALLS = []
def prices(symbols, start, end, **options):
    CALLS.append((symbols, start, end, options))
    return small_market(3, 400).filter(pl.col("session").is_between(start, end))
"""


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., UniverseConfig]]:
    """Write a desk's source; give a universe of it."""
    (tmp_path / "configs").mkdir()
    monkeypatch.setenv("QUANT_ASSETS_CONFIGS", str(tmp_path / "configs"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    forget()

    def write(source: str, **told: Any) -> UniverseConfig:
        (tmp_path / "own_source.py").write_text(source)
        return UniverseConfig.model_validate(
            {
                "name": "own",
                "start": "2020-01-01",
                "end": "2021-06-30",
                "source": {"kind": "plugin", "use": "own_source:prices", **told},
            }
        )

    yield write
    sys.modules.pop("own_source", None)


def test_its_rows_become_bars_and_it_is_called_once_for_all_years(
    desk: Callable[..., UniverseConfig],
) -> None:
    universe = desk(GOOD, options={"folder": "x"})
    first, second = read_year(universe, "2020"), read_year(universe, "2021")
    assert first.bars.height + second.bars.height == read_bars(universe).bars.height
    assert first.provider == "plug-in own_source:prices"
    calls = sys.modules["own_source"].CALLS
    assert calls == [(None, universe.start, universe.end, {"folder": "x"})]


@pytest.mark.parametrize(
    ("source", "error", "says"),
    [
        ("def prices(symbols, start, end):\n    raise OSError('no line')\n", SourceError, "OSError: no line"),
        ("def prices(symbols, start, end):\n    return [1, 2]\n", SourceError, "found list"),
        ("def prices(symbols):\n    return None\n", SourceError, "TypeError"),
        (GOOD + "    .drop('close')\n", BarContractError, "close"),
        (GOOD + "    .with_columns(volume=pl.lit(-1.0))\n", BarContractError, "volume"),
    ],
)  # fmt: skip
def test_what_are_no_bars_is_refused(
    desk: Callable[..., UniverseConfig], source: str, error: type[Exception], says: str
) -> None:
    joined = source.replace("end))\n    .", "end)).")
    with pytest.raises(error, match=says):
        read_bars(desk(joined))


def test_a_column_under_another_name_is_mapped(desk: Callable[..., UniverseConfig]) -> None:
    renamed = GOOD.replace("end))", "end)).rename({'close': 'fixing'})")
    read = read_bars(desk(renamed, columns={"close": "fixing"}))
    assert read.column_mapping["close"] == "fixing"
