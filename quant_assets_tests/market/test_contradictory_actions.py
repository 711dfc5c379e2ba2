"""A name whose adjusted closes contradict its closes is set aside; the others go on, and a person can settle it."""

from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest

from quant_assets.common.settings import UniverseConfig
from quant_assets.market.actions import read_actions
from quant_assets.market.rules.quality import Quarantine, quarantine
from quant_assets.market.rules.whole_symbols import set_aside_sentences

N = 60
DAYS = [date(2024, 1, 1) + timedelta(days=t) for t in range(N)]
RULE = "contradictory_actions"


def bars(symbol: str, *, adjusted: float | None = None, back_on: int = N) -> pl.DataFrame:
    """Prices that wander by tenths; from day 30 to ``back_on`` the adjusted close is another download's."""
    close = [20.0 + (t * 7 % 11) / 10 for t in range(N)]
    adj = [c * (adjusted if adjusted and 30 <= t < back_on else 1.0) for t, c in enumerate(close)]
    return pl.DataFrame(
        {
            "symbol": symbol,
            "session": DAYS,
            "open": close,
            "high": [c + 0.3 for c in close],
            "low": [c - 0.3 for c in close],
            "close": close,
            "volume": [1e6 + 1000.0 * (t % 5) for t in range(N)],
            "adj_close": adj,
        }
    )


def parted(raw: pl.DataFrame, **quality: Any) -> Quarantine:
    universe = UniverseConfig.model_validate(
        {
            "name": "feed",
            "source": {"kind": "csv", "path": "u.csv"},
            "calendar": "24/7",
            "start": DAYS[0],
            "end": DAYS[-1],
            "quality": quality,
        }
    )
    read = read_actions(raw)
    return quarantine(raw, read.actions, universe, doubts=read.doubts)


GOOD = [bars(f"G{k:02d}") for k in range(10)]


def test_one_name_of_eleven_is_set_aside_and_the_ten_others_go_on() -> None:
    found = parted(pl.concat([*GOOD, bars("BAD", adjusted=0.5)]))
    assert found.kept["symbol"].n_unique() == 10
    assert found.quarantined.select("symbol", "rule").unique().rows() == [("BAD", RULE)]
    assert found.quarantined.height == N
    assert next(f for f in found.findings if f.rule == RULE).passed
    lines = set_aside_sentences(found.listed)
    assert len(lines) == 1
    assert "BAD" in lines[0]
    assert "adj_close/close x 0.5" in lines[0]
    assert "settle it under `actions:`" in lines[0]


def test_where_too_many_names_contradict_themselves_nothing_is_taken_and_the_check_blocks() -> None:
    found = parted(pl.concat([*GOOD, bars("BAD", adjusted=0.5), bars("WORSE", adjusted=0.25)]))
    finding = next(f for f in found.findings if f.rule == RULE)
    assert (finding.passed, finding.check_severity, finding.n_offenders) == (False, "ERROR", 2)
    assert found.kept["symbol"].n_unique() == 12
    assert "2 of 12 symbols are broken, 1 may be set aside" in finding.evidence[-1]


def test_a_name_that_was_looked_at_stays() -> None:
    accepted = [{"symbol": "BAD", "rule": RULE, "reason": "the vendor confirmed its closes"}]
    found = parted(pl.concat([*GOOD, bars("BAD", adjusted=0.5)]), accepted=accepted)
    assert found.kept["symbol"].n_unique() == 11


def test_a_name_may_stop_its_universe_where_a_universe_says_so() -> None:
    found = parted(pl.concat([*GOOD, bars("BAD", adjusted=0.5)]), severity={RULE: "ERROR"})
    assert not next(f for f in found.findings if f.rule == RULE).passed
    assert found.kept["symbol"].n_unique() == 11


@pytest.mark.parametrize("adjusted", [2.0, 10.0])
def test_a_price_that_slipped_for_one_bar_costs_that_bar_and_not_the_name(adjusted: float) -> None:
    slipped = bars("SLIP").with_columns(
        pl.when(pl.col("session") == DAYS[30]).then(pl.col(name) * adjusted).otherwise(name).alias(name)
        for name in ("open", "high", "low", "close")
    )
    found = parted(pl.concat([*GOOD, slipped]))
    taken = found.quarantined.select("symbol", "session").rows()
    assert taken == [("SLIP", DAYS[30])]
    assert found.symbols.is_empty()
