"""Bar sources: files, databases and seeds, mapped to one row contract or refused with one message."""

from typing import TYPE_CHECKING

from quant_assets.common.lazy import lazy_exports

if TYPE_CHECKING:
    from quant_assets.market.sources.adoption import FileSummary, adopt_file, describe_file
    from quant_assets.market.sources.bar_source import BarSource, Holdings, SourceOutcome, SourceRead
    from quant_assets.market.sources.contract import Conformed, conform, validate_bars
    from quant_assets.market.sources.sources import open_source, read_all, read_bars, read_year
else:
    __getattr__, __dir__ = lazy_exports(__name__)

__all__ = [
    "BarSource",
    "Conformed",
    "FileSummary",
    "Holdings",
    "SourceOutcome",
    "SourceRead",
    "adopt_file",
    "conform",
    "describe_file",
    "open_source",
    "read_all",
    "read_bars",
    "read_year",
    "validate_bars",
]
