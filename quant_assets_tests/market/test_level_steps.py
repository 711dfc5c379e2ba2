"""A level that steps overnight: a split never re-based, or a crash; and the planted events of the benchmark."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from quant_assets.common.settings import UniverseConfig
from quant_assets.market.actions import ACTIONS_SCHEMA
from quant_assets.market.calendar import sessions
from quant_assets.market.rules import QualityFinding, check_bars
from quant_assets_tests.benchmarks.planted_actions import KINDS, READ, lines_of, outcome, synthetic

CONFIG = UniverseConfig.model_validate(
    {"name": "steps", "source": {"kind": "synthetic", "seed": 1, "n_symbols": 1}, "start": "2022-01-03",
     "end": "2022-12-30"}
)  # fmt: skip
STEPS = ("split_never_rebased", "price_unit_change", "possible_split", "unexplained_jumps")
N, AT = 120, 60


def stepped(
    left: float,
    *,
    busy: float = 1.0,
    wide: float = 1.0,
    fade: float = 5.0,
    volume: float | None = None,
    n: int = N,
) -> pl.DataFrame:
    """120 quiet days at 100; from the 60th on ``left`` of that, on ``busy`` times the volume and ``wide`` ranges."""
    rng = np.random.default_rng(7)
    level = 100 * np.exp(np.cumsum(rng.normal(0, 0.008, N))) * np.where(np.arange(N) < AT, 1.0, left)
    after = np.arange(N) - AT
    news = np.where(after >= 0, np.exp(-np.maximum(after, 0) / fade), 0.0)
    half = 0.006 * np.exp(rng.normal(0, 0.2, N)) * (1 + (wide - 1) * news)
    traded = 1e6 * np.exp(rng.normal(0, 0.3, N)) * (1 + (busy - 1) * news)
    days = sessions("XNYS", CONFIG.start, CONFIG.end)[:N]
    frame = pl.DataFrame({"session": days, "open": level, "close": level * np.exp(half / 3)}).with_columns(
        symbol=pl.lit("A"), high=pl.Series(level * np.exp(half)), low=pl.Series(level * np.exp(-half)),
        volume=pl.Series(np.round(traded * np.where(after < 0, 1.0, volume or 1.0))),
    )  # fmt: skip
    return frame.head(n)


def found(bars: pl.DataFrame, **quality: Any) -> dict[str, QualityFinding]:
    none = pl.DataFrame(schema=ACTIONS_SCHEMA)
    config = CONFIG.model_copy(update={"quality": CONFIG.quality.model_validate(quality)})
    judged = {finding.rule: finding for finding in check_bars(bars, none, config)}
    return {name: judged[name] for name in STEPS if not judged[name].passed}


@pytest.mark.parametrize(
    ("left", "volume", "said"),
    [
        (1 / 2, 2.0, "a split 2:1 never re-based"),
        (1 / 5, 5.0, "a split 5:1 never re-based"),
        (1 / 20, 20.0, "a split 20:1 never re-based"),
        (1 / 5, 1.0, "a split 5:1 never re-based"),  # the vendor's volume is re-based, its price not
        (2 / 3, 1.5, "a split 3:2 never re-based"),
        (8.0, 1 / 8, "a split 1:8 never re-based"),
        (14.0, 1 / 14, "a split 1:14 never re-based"),
        (35.0, 1 / 35, "a split 1:35 never re-based"),
        (1 / 60, 60.0, "a split 60:1 never re-based"),
        (300.0, 1 / 300, "a split 1:300 never re-based"),
    ],
)
def test_a_level_that_steps_by_a_ratio_on_usual_trading_is_a_split(
    left: float, volume: float, said: str
) -> None:
    got = found(stepped(left, volume=volume))
    assert list(got) == ["split_never_rebased"]
    assert got["split_never_rebased"].severity == "ERROR"
    assert said in got["split_never_rebased"].evidence[0]


@pytest.mark.parametrize(
    ("left", "busy", "wide"),
    [
        (0.2, 30.0, 4.0),  # the field case: 80 % on 30 times the volume
        (0.25, 7.0, 3.0),  # after dividing by 4 the volume is hardly twice the usual
        (0.5, 8.0, 4.0),
        (0.1, 12.0, 6.0),
        (1 / 3, 20.0, 1.0),  # the range at its usual, the volume not
    ],
)
def test_a_crash_to_a_ratio_of_the_price_is_a_large_move_and_no_split(
    left: float, busy: float, wide: float
) -> None:
    got = found(stepped(left, busy=busy, wide=wide))
    assert list(got) == ["unexplained_jumps"]
    assert got["unexplained_jumps"].severity == "WARN"


@pytest.mark.parametrize(
    ("busy", "wide", "agree", "against"),
    [
        (1.0, 4.5, "the day's volume", "the day's range"),
        (4.0, 1.0, "the day's range", "their volume against two weeks later"),
    ],
)
def test_a_step_with_one_sign_against_it_is_a_possible_split(
    busy: float, wide: float, agree: str, against: str
) -> None:
    got = found(stepped(0.25, busy=busy, wide=wide, fade=1.0 if wide > 1 else 5.0))
    assert list(got) == ["possible_split"]
    assert got["possible_split"].severity == "WARN"
    usual, unusual = got["possible_split"].evidence[0].split("; not usual: ")
    assert agree in usual
    assert against in unusual
    assert "as after a split 4:1" in usual


@pytest.mark.parametrize(("left", "busy"), [(0.5, 8.0), (0.4, 12.0), (0.2, 30.0)])
def test_a_crash_whose_own_bars_are_missing_keeps_its_loss(left: float, busy: float) -> None:
    crash = stepped(left, busy=busy, wide=4.0, fade=1.0)
    without = crash.filter(~pl.int_range(pl.len()).is_between(AT, AT + 5))  # back on usual trading
    got = found(without)
    assert list(got) == ["possible_split"]
    assert got["possible_split"].severity == "WARN"
    assert got["possible_split"].evidence[0].endswith("not usual: no bar in the session before")


def test_without_volume_the_ranges_and_the_market_decide() -> None:
    quiet = stepped(0.5).with_columns(volume=pl.lit(None, dtype=pl.Float64))
    others = [
        stepped(1.0).with_columns(symbol=pl.lit(f"B{k}"), volume=pl.lit(None, dtype=pl.Float64))
        for k in range(6)
    ]
    # Two ranges alone are too few signs to stop anything; with a calm market beside them there are three.
    assert list(found(quiet)) == ["possible_split"]
    assert list(found(pl.concat([quiet, *others]))) == ["split_never_rebased"]
    assert list(found(quiet.with_columns(volume=pl.lit(0.0)))) == ["possible_split"]
    wide = stepped(0.5, wide=6.0).with_columns(volume=pl.lit(None, dtype=pl.Float64))
    assert list(found(wide)) == ["unexplained_jumps"]


def test_a_day_on_which_the_whole_market_gaps_is_a_sign_against_a_split() -> None:
    one = stepped(0.5)
    calm = [stepped(1.0).with_columns(symbol=pl.lit(f"B{k}")) for k in range(8)]
    gap = pl.when(pl.int_range(pl.len()) >= AT).then(0.9).otherwise(1.0)
    fallen = [f.with_columns(pl.col(n) * gap for n in ("open", "high", "low", "close")) for f in calm]
    assert list(found(pl.concat([one, *calm]))) == ["split_never_rebased"]
    assert list(found(pl.concat([one, *fallen]))) == ["possible_split"]


def test_a_step_on_the_last_bar_is_no_error_before_later_bars_tell() -> None:
    assert list(found(stepped(0.5, n=AT + 1))) == ["possible_split"]
    assert list(found(stepped(0.5, n=AT + 6))) == ["split_never_rebased"]


def test_a_change_of_unit_is_told_from_a_split_by_its_volume() -> None:
    assert list(found(stepped(0.01, volume=1.0))) == ["price_unit_change"]
    assert list(found(stepped(0.01, volume=100.0))) == ["split_never_rebased"]
    assert list(found(stepped(1000.0))) == ["price_unit_change"]


def test_planted_events_are_read_and_found_at_these_rates() -> None:
    # 20 names and 100 events of a seed that nothing was developed on; the whole matrix is in the README.
    result = outcome(synthetic(77, 20), 77)
    assert dict(result.planted) == dict.fromkeys(KINDS, 25)
    right = {"split": READ[0], "consolidation": READ[0], "spin_off": READ[2], "crash": READ[4]}
    assert sum(result.read[(kind, column)] for kind, column in right.items()) >= 92
    assert sum(n for (_, column), n in result.read.items() if column == "contradiction") == 0
    assert {kind: n for kind, n in result.elsewhere.items() if n} == {}
    assert result.found[("crash", "ERROR")] <= 1
    assert result.found[("split", "ERROR")] + result.found[("consolidation", "ERROR")] >= 36
    assert sum(line.startswith("| crash | 25 |") for line in lines_of(result)) == 2
