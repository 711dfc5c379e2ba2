from datetime import date
from pathlib import Path

from quant_assets.testing import SourceContract


class TestPrices(SourceContract):
    """Rows that keep the bar contract, inside the dates, of the symbols asked for."""

    plugin = {
        "use": "my_desk.sources:prices",
        "options": {"folder": str(Path(__file__).parent / "vendor")},
    }
    symbols = ("AAA", "BBB")
    start, end = date(2024, 1, 2), date(2024, 3, 28)
