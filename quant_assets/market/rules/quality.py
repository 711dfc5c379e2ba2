"""Quality rules of adjusted bars: which rows or symbols offend each rule of `quality_rules.RULES`.

The row contract (`quant_assets.market.sources.contract`) has refused rows that cannot be bars, and
`quant_assets.market.rules.quarantine` has set suspicious rows aside, before any of this runs. These rules
judge what is left as a whole. ERROR blocks what comes after; WARN is shown and let through. Nothing is repaired
or deleted.
"""

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from quant_assets.common.settings import QualityConfig, UniverseConfig
from quant_assets.market.calendar import sessions
from quant_assets.market.rules.level_shifts import level_shifts
from quant_assets.market.rules.prepared_bars import PRICES
from quant_assets.market.rules.quality_rules import (
    KEY,
    MAX_OFFENDERS,
    OFFENDERS_SCHEMA,
    RULES,
    QualityFinding,
    QualityRule,
    accepted_frame,
    bar_rules,
    finding_of,
)
from quant_assets.market.rules.row_measures import range_excess

__all__ = [
    "MAX_OFFENDERS", "OFFENDERS_SCHEMA", "RULES", "QualityFinding", "QualityRule", "check_bars",
]  # fmt: skip


@dataclass(frozen=True)
class _Inputs:
    bars: pl.DataFrame
    actions: pl.DataFrame
    universe: UniverseConfig
    aside: pl.DataFrame

    @property
    def limits(self) -> QualityConfig:
        return self.universe.quality


def check_bars(
    bars: pl.DataFrame,
    actions: pl.DataFrame,
    universe: UniverseConfig,
    *,
    quarantined: pl.DataFrame | None = None,
) -> tuple[QualityFinding, ...]:
    """Judge adjusted bars by every rule, in the order of `RULES`, with the universe's severities.

    Parameters
    ----------
    bars : polars.DataFrame
        Adjusted bars, as `quant_assets.market.actions.adjust_bars` gives them.
    actions : polars.DataFrame
        The corporate actions that they were adjusted for.
    universe : UniverseConfig
        Calendar and limits.
    quarantined : polars.DataFrame, optional
        Rows that were set aside: their sessions are not missing, and `Quarantine.findings` tells of them.

    Returns
    -------
    tuple of QualityFinding
        One per rule. A rule passes iff it has no offender and, so that nothing passes unseen, there are bars.
        Bars that the configuration accepts for a rule are no offenders of it.

    Raises
    ------
    CalendarError
        When the universe's calendar is unknown.
    """
    aside = bars.clear().select(KEY) if quarantined is None else quarantined.select(KEY)
    inputs = _Inputs(bars.sort(KEY), actions, universe, aside)
    rules = bar_rules(universe)
    accepted = accepted_frame(universe.quality.accepted, rules)
    matched = pl.DataFrame(schema=accepted.schema)
    findings = []
    for rule in rules:
        if rule.name == "accepted_without_match":
            offenders, n_checked = _without_match(accepted, matched), accepted.height
        else:
            found, n_checked = _MEASURES[rule.name](inputs)
            released = accepted.filter(pl.col("rule") == rule.name)
            matched = matched.vstack(released.join(found, on=KEY, how="semi"))
            offenders = found.join(released, on=KEY, how="anti")
        findings.append(finding_of(rule, offenders, n_checked, bars.height))
    return tuple(findings)


def _without_match(accepted: pl.DataFrame, matched: pl.DataFrame) -> pl.DataFrame:
    # The rule about single raw bars answers for its own: here its rows are gone or were accepted there.
    stale = accepted.filter(pl.col("rule") != "ohlc_consistency").join(matched, on=[*KEY, "rule"], how="anti")
    return stale.with_columns(observed=0.0, limit=1.0)


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
    limit = inputs.limits.ohlc_tolerance_fraction
    return (
        inputs.bars.with_columns(observed=range_excess(), limit=limit).filter(pl.col("observed") > limit),
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
    absent = expected.join(inputs.bars, on=KEY, how="anti")
    return expected, absent.join(inputs.aside, on=KEY, how="anti")


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


def _long_gap(inputs: _Inputs) -> tuple[pl.DataFrame, int]:
    expected, absent = _absent(inputs)
    position = expected.sort(KEY).with_columns(position=pl.int_range(pl.len()).over("symbol"))
    limit = inputs.limits.long_gap_sessions
    # Consecutive positions minus a running count are equal within a run.
    runs = (
        absent.join(position, on=KEY)
        .sort(KEY)
        .with_columns(run=(pl.col("position") - pl.int_range(pl.len())).over("symbol"))
        .group_by("symbol", "run")
        .agg(session=pl.col("session").min(), observed=pl.len(), limit=limit)
    )
    return runs.filter(pl.col("observed") >= limit), expected.height


def _stale_prices(inputs: _Inputs) -> tuple[pl.DataFrame, int]:
    changed = pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift()) for name in PRICES)
    limit = inputs.limits.stale_sessions
    runs = (
        inputs.bars.with_columns(run=changed.cum_sum().over("symbol"))
        .group_by("symbol", "run")
        .agg(session=pl.col("session").first(), observed=pl.len(), limit=limit)
    )
    return runs.filter(pl.col("observed") >= limit), inputs.bars.height


def _flat_bars(inputs: _Inputs) -> tuple[pl.DataFrame, int]:
    flat = pl.col("high") == pl.col("low")
    limit = inputs.limits.flat_sessions
    runs = (
        inputs.bars.with_columns(flat=flat, run=flat.rle_id().over("symbol"))
        .filter("flat")
        .group_by("symbol", "run")
        .agg(
            session=pl.col("session").first(),
            observed=pl.len(),
            n_prices=pl.col("close").n_unique(),
            limit=limit,
        )
    )
    # One price all along is stale, not flat.
    return runs.filter((pl.col("observed") >= limit) & (pl.col("n_prices") > 1)), inputs.bars.height


def _split_never_rebased(inputs: _Inputs) -> tuple[pl.DataFrame, int]:
    return level_shifts(inputs.bars, inputs.limits).filter(~pl.col("unit_change")), inputs.bars.height


def _price_unit_change(inputs: _Inputs) -> tuple[pl.DataFrame, int]:
    return level_shifts(inputs.bars, inputs.limits).filter("unit_change"), inputs.bars.height


def _unexplained_jumps(inputs: _Inputs) -> tuple[pl.DataFrame, int]:
    # Bars are adjusted, so a split that is known leaves no jump; what still jumps, nothing explains. A jump that
    # looks like a split or a change of unit is named so instead.
    move = (pl.col("close") / pl.col("close").shift() - 1).over("symbol")
    limit = inputs.limits.jump_fraction
    jumps = inputs.bars.with_columns(observed=move, limit=limit).filter(pl.col("observed").abs() >= limit)
    return jumps.join(level_shifts(inputs.bars, inputs.limits), on=KEY, how="anti"), inputs.bars.height


def _zero_volume(inputs: _Inputs) -> tuple[pl.DataFrame, int]:
    idle = inputs.bars.with_columns(observed=pl.col("volume"), limit=0.0).filter(pl.col("volume") <= 0)
    return idle, inputs.bars.height


def _actions_without_bar(inputs: _Inputs) -> tuple[pl.DataFrame, int]:
    strays = inputs.actions.join(inputs.bars, on=KEY, how="anti").join(inputs.aside, on=KEY, how="anti")
    return strays.with_columns(observed=pl.col("price_factor"), limit=1.0), inputs.actions.height


_MEASURES: dict[str, Callable[[_Inputs], tuple[pl.DataFrame, int]]] = {
    "nulls": _nulls,
    "non_positive_prices": _non_positive_prices,
    "ohlc_consistency": _ohlc_consistency,
    "duplicate_keys": _duplicate_keys,
    "missing_fraction": _missing_fraction,
    "split_never_rebased": _split_never_rebased,
    "price_unit_change": _price_unit_change,
    "missing_sessions": _missing_sessions,
    "long_gap": _long_gap,
    "stale_prices": _stale_prices,
    "flat_bars": _flat_bars,
    "unexplained_jumps": _unexplained_jumps,
    "zero_volume": _zero_volume,
    "actions_without_bar": _actions_without_bar,
}
