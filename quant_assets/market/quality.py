"""Quality rules of adjusted bars, as data: what is checked, how severe it is, and which rows offend.

The row contract (`quant_assets.market.contract`) has refused rows that cannot be bars before any of this runs.
These rules judge what is possible but suspicious. ERROR blocks what comes after; WARN is shown and let through.
Nothing is repaired or deleted.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import polars as pl

from quant_assets.common.settings import QualityConfig, UniverseConfig
from quant_assets.market.calendar import sessions

Severity = Literal["ERROR", "WARN"]

PRICES = ("open", "high", "low", "close")
KEY = ("symbol", "session")
MAX_OFFENDERS = 50

OFFENDERS_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "symbol": pl.String,
    "session": pl.Date,
    "observed": pl.Float64,
    "limit": pl.Float64,
}


@dataclass(frozen=True)
class QualityRule:
    """A rule by name: its severity, and in one sentence what an offender is."""

    name: str
    severity: Severity
    description: str


@dataclass(frozen=True)
class QualityFinding:
    """What one rule found.

    ``n_checked`` counts the things judged (bars; sessions or symbols for the completeness rules);
    ``offenders`` holds the first 50 by symbol and session, with what was observed and the limit it broke.
    """

    rule: str
    severity: Severity
    passed: bool
    n_offenders: int
    n_checked: int
    offenders: pl.DataFrame


RULES: tuple[QualityRule, ...] = (
    QualityRule(
        "nulls", "ERROR", "A bar has a price or volume that is null, NaN or infinite (observed: how many)."
    ),
    QualityRule("non_positive_prices", "ERROR", "A bar's lowest price is zero or less."),
    QualityRule(
        "ohlc_consistency",
        "ERROR",
        "Open or close lies outside low to high by more than a fraction of the close.",
    ),
    QualityRule(
        "duplicate_keys", "ERROR", "A symbol has more than one bar in a session (observed: how many)."
    ),
    QualityRule(
        "missing_fraction",
        "ERROR",
        "A symbol misses more than a fraction of the sessions between its first and last bar.",
    ),
    QualityRule(
        "missing_sessions",
        "WARN",
        "A session between a symbol's first and last bar has no bar (observed: 0 bars).",
    ),
    QualityRule(
        "stale_prices",
        "WARN",
        "Open, high, low, close stay the same for so many sessions (observed: the run).",
    ),
    QualityRule(
        "unexplained_jumps",
        "WARN",
        "The close moves by such a fraction of the one before, adjusted for corporate actions.",
    ),
    QualityRule("zero_volume", "WARN", "A bar says that nothing was traded."),
    QualityRule(
        "actions_without_bar",
        "WARN",
        "A corporate action falls on a day without a bar (observed: price factor).",
    ),
)


@dataclass(frozen=True)
class _Inputs:
    bars: pl.DataFrame
    actions: pl.DataFrame
    universe: UniverseConfig

    @property
    def limits(self) -> QualityConfig:
        return self.universe.quality


def check_bars(
    bars: pl.DataFrame, actions: pl.DataFrame, universe: UniverseConfig
) -> tuple[QualityFinding, ...]:
    """Judge adjusted bars by every rule, in the order of `RULES`.

    Parameters
    ----------
    bars : polars.DataFrame
        Adjusted bars, as `quant_assets.market.actions.adjust_bars` gives them.
    actions : polars.DataFrame
        The corporate actions that they were adjusted for.
    universe : UniverseConfig
        Calendar and limits.

    Returns
    -------
    tuple of QualityFinding
        One per rule. A rule passes iff it has no offender and, so that nothing passes unseen, there are bars.

    Raises
    ------
    CalendarError
        When the universe's calendar is unknown.
    """
    inputs = _Inputs(bars.sort(KEY), actions, universe)
    findings = []
    for rule in RULES:
        offenders, n_checked = _MEASURES[rule.name](inputs)
        shaped = offenders.select(pl.col(name).cast(dtype) for name, dtype in OFFENDERS_SCHEMA.items()).sort(
            KEY
        )
        passed = bool(shaped.height == 0 and bars.height > 0)
        findings.append(
            QualityFinding(
                rule.name, rule.severity, passed, shaped.height, n_checked, shaped.head(MAX_OFFENDERS)
            )
        )
    return tuple(findings)


def _nulls(inputs: _Inputs) -> tuple[pl.DataFrame, int]:
    absent = pl.sum_horizontal(
        (~pl.col(name).is_finite()).fill_null(value=True) for name in (*PRICES, "volume")
    )
    return inputs.bars.with_columns(observed=absent, limit=0).filter(
        pl.col("observed") > 0
    ), inputs.bars.height


def _non_positive_prices(inputs: _Inputs) -> tuple[pl.DataFrame, int]:
    lowest = inputs.bars.with_columns(observed=pl.min_horizontal(PRICES), limit=0.0)
    return lowest.filter(pl.col("observed") <= 0), inputs.bars.height


def _ohlc_consistency(inputs: _Inputs) -> tuple[pl.DataFrame, int]:
    top, bottom = pl.max_horizontal("open", "close", "low"), pl.min_horizontal("open", "close", "high")
    excess = pl.max_horizontal(top - pl.col("high"), pl.col("low") - bottom) / pl.col("close").abs()
    limit = inputs.limits.ohlc_tolerance_fraction
    return (
        inputs.bars.with_columns(observed=excess, limit=limit).filter(pl.col("observed") > limit),
        inputs.bars.height,
    )


def _duplicate_keys(inputs: _Inputs) -> tuple[pl.DataFrame, int]:
    counted = inputs.bars.group_by(KEY).agg(observed=pl.len(), limit=1)
    return counted.filter(pl.col("observed") > 1), inputs.bars.height


def _absent(inputs: _Inputs) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Sessions that should have a bar, and those of them that have none."""
    spans = inputs.bars.group_by("symbol").agg(
        first=pl.col("session").min(), last=pl.col("session").max(), n_bars=pl.col("session").n_unique()
    )
    if spans.is_empty():
        empty = pl.DataFrame(schema={"symbol": pl.String, "session": pl.Date})
        return empty, empty
    first, last = inputs.bars.select(
        pl.col("session").min().alias("first"), pl.col("session").max().alias("last")
    ).row(0)
    calendar = sessions(inputs.universe.calendar, first, last)
    expected = (
        spans.select("symbol", "first", "last")
        .join(calendar.to_frame("session"), how="cross")
        .filter(pl.col("session").is_between("first", "last"))
        .select(KEY)
    )
    return expected, expected.join(inputs.bars, on=KEY, how="anti")


def _missing_fraction(inputs: _Inputs) -> tuple[pl.DataFrame, int]:
    expected, absent = _absent(inputs)
    n_expected = expected.group_by("symbol").agg(n_expected=pl.len())
    gaps = absent.group_by("symbol").agg(n_absent=pl.len(), session=pl.col("session").min())
    limit = inputs.limits.max_missing_fraction
    share = gaps.join(n_expected, on="symbol").with_columns(
        observed=pl.col("n_absent") / pl.col("n_expected"), limit=limit
    )
    return share.filter(pl.col("observed") > limit), n_expected.height


def _missing_sessions(inputs: _Inputs) -> tuple[pl.DataFrame, int]:
    expected, absent = _absent(inputs)
    return absent.with_columns(observed=0, limit=1), expected.height


def _stale_prices(inputs: _Inputs) -> tuple[pl.DataFrame, int]:
    changed = pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift()) for name in PRICES)
    limit = inputs.limits.stale_sessions
    runs = (
        inputs.bars.with_columns(run=changed.cum_sum().over("symbol"))
        .group_by("symbol", "run")
        .agg(session=pl.col("session").first(), observed=pl.len(), limit=limit)
    )
    return runs.filter(pl.col("observed") >= limit), inputs.bars.height


def _unexplained_jumps(inputs: _Inputs) -> tuple[pl.DataFrame, int]:
    # Bars are adjusted, so a split that is known leaves no jump; what still jumps, nothing explains.
    move = (pl.col("close") / pl.col("close").shift() - 1).over("symbol")
    limit = inputs.limits.jump_fraction
    jumps = inputs.bars.with_columns(observed=move, limit=limit).filter(pl.col("observed").abs() >= limit)
    return jumps, inputs.bars.height


def _zero_volume(inputs: _Inputs) -> tuple[pl.DataFrame, int]:
    idle = inputs.bars.with_columns(observed=pl.col("volume"), limit=0.0).filter(pl.col("volume") <= 0)
    return idle, inputs.bars.height


def _actions_without_bar(inputs: _Inputs) -> tuple[pl.DataFrame, int]:
    strays = inputs.actions.join(inputs.bars, on=KEY, how="anti")
    return strays.with_columns(observed=pl.col("price_factor"), limit=1.0), inputs.actions.height


_MEASURES: dict[str, Callable[[_Inputs], tuple[pl.DataFrame, int]]] = {
    "nulls": _nulls,
    "non_positive_prices": _non_positive_prices,
    "ohlc_consistency": _ohlc_consistency,
    "duplicate_keys": _duplicate_keys,
    "missing_fraction": _missing_fraction,
    "missing_sessions": _missing_sessions,
    "stale_prices": _stale_prices,
    "unexplained_jumps": _unexplained_jumps,
    "zero_volume": _zero_volume,
    "actions_without_bar": _actions_without_bar,
}
