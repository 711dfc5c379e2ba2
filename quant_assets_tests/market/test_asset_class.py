"""An asset class lowers what trading may cost: what its own market contradicts is refused."""

import pytest
from pydantic import ValidationError

from quant_assets.common.settings import UniverseConfig

MADE = {"name": "made", "start": "2020-01-02", "end": "2023-12-29",
        "source": {"kind": "synthetic", "seed": 1, "n_symbols": 4}}  # fmt: skip


@pytest.mark.parametrize(
    ("said", "because"),
    [
        ({"asset_class": "fx"}, "trades around the clock, calendar XNYS"),
        ({"asset_class": "crypto", "calendar": "XLON"}, "trades around the clock, calendar XLON"),
        ({"asset_class": "fx", "calendar": "NASDAQ"}, "trades around the clock, calendar NASDAQ"),
        (
            {"asset_class": "fx", "calendar": "XBOM", "extra_sessions": ["2020-11-14"]},
            "trades around the clock, calendar XBOM",
        ),
        ({"asset_class": "future"}, "asset_class future without `rolls:` on XNYS"),
        (
            {"asset_class": "future", "calendar": "CMES", "listings": {"kind": "csv", "path": "l.csv"}},
            "`listings:` are of shares, asset_class is future",
        ),
    ],
)
def test_a_class_that_its_market_contradicts_is_refused(said: dict[str, object], because: str) -> None:
    with pytest.raises(ValidationError, match=because):
        UniverseConfig.model_validate(MADE | said)


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"asset_class": "fx", "calendar": "24/5"},
        {"asset_class": "crypto", "calendar": "24/7"},
        {"asset_class": "future", "calendar": "CMES"},
        {"listings": {"kind": "csv", "path": "l.csv"}},
    ],
)
def test_a_class_on_a_market_of_its_own_is_taken(said: dict[str, object]) -> None:
    UniverseConfig.model_validate(MADE | said)
