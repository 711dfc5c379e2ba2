"""The quality rules as data: name, severity, and in one sentence what an offender is.

ERROR blocks what comes after. QUARANTINE takes the row out, with its evidence. WARN is shown and let through.
A universe may change a severity within `quant_assets.common.universe_settings.ADJUSTABLE_RULES`; a rule that is
not listed there is fixed.
"""

from dataclasses import dataclass, replace
from typing import Literal

import polars as pl

from quant_assets.common.settings import UniverseConfig
from quant_assets.common.universe_settings import AcceptedBar, Severity
from quant_assets.market.sources.parsing import sentence

MAX_OFFENDERS = 50
SENTENCES = 5
KEY = ("symbol", "session")

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

    @property
    def check_severity(self) -> Literal["ERROR", "WARN"]:
        """Severity of the asset check: what was taken out is shown (WARN), it blocks nothing."""
        return "ERROR" if self.severity == "ERROR" else "WARN"


@dataclass(frozen=True)
class QualityFinding:
    """What one rule found.

    ``n_checked`` counts the things judged (bars; sessions or symbols for the completeness rules);
    ``offenders`` holds the first 50 by symbol and session, with what was observed and the limit it broke;
    ``evidence`` has a sentence on each of the first 5 where the rule gives one.
    """

    rule: str
    severity: Severity
    passed: bool
    n_offenders: int
    n_checked: int
    offenders: pl.DataFrame
    evidence: tuple[str, ...] = ()

    @property
    def check_severity(self) -> Literal["ERROR", "WARN"]:
        """Severity of the asset check: what was taken out is shown (WARN), it blocks nothing."""
        return "ERROR" if self.severity == "ERROR" else "WARN"


# Judged on raw bars, the most telling first: a row that breaks several is quarantined under the first.
RAW_RULES: tuple[QualityRule, ...] = (
    QualityRule(
        "sessions_outside_calendar",
        "QUARANTINE",
        "A bar lies on a day without a session: a weekend or holiday (observed: sessions that day).",
    ),
    QualityRule(
        "padded_before_listing",
        "QUARANTINE",
        "Before a symbol's first trade the feed repeats one price without volume (observed: bars).",
    ),
    QualityRule(
        "padded_after_delisting",
        "QUARANTINE",
        "After a symbol's last trade the feed repeats one price without volume (observed: bars).",
    ),
    QualityRule(
        "repeated_bar",
        "QUARANTINE",
        "All prices and the volume are those of the bar before (observed: equal values).",
    ),
    QualityRule(
        "decimal_slip",
        "QUARANTINE",
        "One bar's price is 10, 100 or 1000 times its neighbours', or such a part (observed: the factor).",
    ),
    QualityRule(
        "ohlc_consistency",
        "QUARANTINE",
        "Open or close lies outside low to high by more than a fraction of the close.",
    ),
    QualityRule(
        "range_spike",
        "QUARANTINE",
        "High or low is so many times away from the bar's open and close and both closes around it.",
    ),
    QualityRule(
        "price_spike",
        "QUARANTINE",
        "The close leaps for one session and comes back (observed: the smaller leap, in logarithms).",
    ),
    QualityRule(
        "volume_spike",
        "QUARANTINE",
        "One session's volume is a huge multiple of those around it, and the price hardly moves.",
    ),
    QualityRule(
        "partial_last_bar",
        "QUARANTINE",
        "The feed's last bar has a small part of the usual volume and less than the usual range.",
    ),
    QualityRule("fractional_volume", "WARN", "One of a symbol's rare volumes that are no whole number."),
)

# Judged on all rows of a symbol, or on the configuration, after the row rules.
SUMMARY_RULES: tuple[QualityRule, ...] = (
    QualityRule(
        "shifted_sessions",
        "ERROR",
        "A symbol's dates fit the calendar only when moved by a day (observed: days, later positive).",
    ),
    QualityRule(
        "quarantined_fraction",
        "ERROR",
        "More than a fraction of a symbol's bars was quarantined: the feed is wrong, not some rows of it.",
    ),
    QualityRule(
        "accepted_without_match",
        "WARN",
        "A bar accepted in the configuration is not suspicious, or not there (observed: matches).",
    ),
)

# Judged on the adjusted bars that were kept.
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
        "split_never_rebased",
        "ERROR",
        "Overnight the price steps to an n:m of itself on usual trading and stays (observed: the gap).",
    ),
    QualityRule(
        "price_unit_change",
        "ERROR",
        "Overnight the price steps by 10, 100 or 1000 and stays, the volume does not (observed: the gap).",
    ),
    QualityRule(
        "missing_sessions",
        "WARN",
        "A session between a symbol's first and last bar has no bar (observed: 0 bars).",
    ),
    QualityRule("long_gap", "WARN", "So many sessions in a row have no bar (observed: the run)."),
    QualityRule(
        "stale_prices",
        "WARN",
        "Open, high, low, close stay the same for so many sessions (observed: the run).",
    ),
    QualityRule(
        "flat_bars",
        "WARN",
        "High equals low for so many sessions while the price moves: closes only (observed: the run).",
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
    QualityRule(
        "accepted_without_match",
        "WARN",
        "A bar accepted in the configuration is not suspicious, or not there (observed: matches).",
    ),
)


def bar_rules(universe: UniverseConfig) -> tuple[QualityRule, ...]:
    """`RULES` with the universe's severities: what `quant_assets.market.rules.quality.check_bars` judges by."""
    # Suspicious raw rows are gone by then: what is still inconsistent blocks, whatever the severity says.
    return tuple(
        replace(rule, severity=universe.quality.severity.get(rule.name, rule.severity))
        if rule.name != "ohlc_consistency"
        else rule
        for rule in RULES
    )


def raw_rules(universe: UniverseConfig) -> tuple[QualityRule, ...]:
    """Row rules, then summary rules, as `quant_assets.market.rules.quarantine.quarantine` judges by them."""
    chosen = universe.quality.severity
    rows = (replace(rule, severity=chosen.get(rule.name, rule.severity)) for rule in RAW_RULES)
    return (*rows, *SUMMARY_RULES)


def accepted_frame(accepted: tuple[AcceptedBar, ...], rules: tuple[QualityRule, ...]) -> pl.DataFrame:
    """The accepted bars of these rules: symbol, session, rule, reason."""
    names = {rule.name for rule in rules}
    rows = [(bar.symbol, bar.session, bar.rule, bar.reason) for bar in accepted if bar.rule in names]
    schema = {"symbol": pl.String, "session": pl.Date, "rule": pl.String, "reason": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def finding_of(rule: QualityRule, offenders: pl.DataFrame, n_checked: int, n_bars: int) -> QualityFinding:
    """Shape what a rule found. It passes iff it has no offender and, so that nothing passes unseen, bars."""
    ordered = offenders.sort(KEY)
    shaped = ordered.select(pl.col(name).cast(dtype) for name, dtype in OFFENDERS_SCHEMA.items())
    passed = bool(shaped.height == 0 and n_bars > 0)
    sentences: tuple[str, ...] = ()
    if "evidence" in ordered.columns and ordered.height:
        told = ordered.head(SENTENCES).select(sentence("{} {}: {}", *KEY, "evidence"))
        sentences = tuple(told.to_series().to_list())
    return QualityFinding(
        rule.name, rule.severity, passed, shaped.height, n_checked, shaped.head(MAX_OFFENDERS), sentences
    )
