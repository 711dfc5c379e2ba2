"""What a universe may say about the quality of its bars: limits, severities, and bars that were accepted."""

from datetime import date
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from quant_assets.common.config_model import Config

Severity = Literal["ERROR", "QUARANTINE", "WARN"]

# What a universe may make of each rule, its own severity first. A rule that is not here is fixed: rows that are
# impossible stay errors. What spoils every later row (a calendar, a level) cannot be let through unseen either.
ADJUSTABLE_RULES: dict[str, tuple[Severity, ...]] = {
    "sessions_outside_calendar": ("QUARANTINE", "ERROR"),
    "padded_before_listing": ("QUARANTINE", "ERROR", "WARN"),
    "padded_after_delisting": ("QUARANTINE", "ERROR", "WARN"),
    "repeated_bar": ("QUARANTINE", "ERROR", "WARN"),
    "decimal_slip": ("QUARANTINE", "ERROR"),
    "ohlc_consistency": ("QUARANTINE", "ERROR"),
    "range_spike": ("QUARANTINE", "ERROR", "WARN"),
    "price_spike": ("QUARANTINE", "ERROR", "WARN"),
    "volume_spike": ("QUARANTINE", "ERROR", "WARN"),
    "partial_last_bar": ("QUARANTINE", "ERROR", "WARN"),
    "fractional_volume": ("WARN", "QUARANTINE", "ERROR"),
    "split_never_rebased": ("ERROR", "WARN"),
    "price_unit_change": ("ERROR", "WARN"),
    "missing_sessions": ("WARN", "ERROR"),
    "long_gap": ("WARN", "ERROR"),
    "stale_prices": ("WARN", "ERROR"),
    "flat_bars": ("WARN", "ERROR"),
    "unexplained_jumps": ("WARN", "ERROR"),
    "zero_volume": ("WARN", "ERROR"),
    "actions_without_bar": ("WARN", "ERROR"),
}
# Rules about one bar that a person may look at and let through, by name and with a reason.
ACCEPTABLE_RULES = frozenset(ADJUSTABLE_RULES) - {
    "sessions_outside_calendar", "missing_sessions", "long_gap", "actions_without_bar",
}  # fmt: skip


class AcceptedBar(Config):
    """A bar that one rule finds suspicious and a person has found right, with the reason."""

    symbol: str = Field(min_length=1)
    session: date
    rule: str
    reason: str = Field(min_length=10)

    @field_validator("rule")
    @classmethod
    def _rule_can_be_accepted(cls, rule: str) -> str:
        if rule not in ACCEPTABLE_RULES:
            raise ValueError(f"{rule!r} is none of the rules {', '.join(sorted(ACCEPTABLE_RULES))}")
        return rule


class QualityConfig(Config):
    """Limits of the bar quality rules, their severities, and the bars that were looked at and accepted."""

    jump_fraction: float = Field(default=0.4, gt=0, le=1, description="|close to close| that is a jump")
    stale_sessions: int = Field(default=5, ge=2, description="unchanged OHLC in a row")
    flat_sessions: int = Field(default=5, ge=2, description="bars in a row whose high is their low")
    ohlc_tolerance_fraction: float = Field(default=1e-4, ge=0, le=0.01)
    max_missing_fraction: float = Field(default=0.01, ge=0, le=1, description="missing sessions per symbol")
    long_gap_sessions: int = Field(default=10, ge=2, description="missing sessions in a row")
    spike_fraction: float = Field(default=0.2, ge=0.05, le=1, description="move away and back of a spike")
    spike_multiple: float = Field(default=10.0, ge=3, description="of the usual move, for a spike below 50 %")
    range_factor: float = Field(default=2.0, ge=1.2, description="high or low over everything around it")
    decimal_slip_tolerance: float = Field(default=0.25, gt=0, le=0.5, description="around 10, 100, 1000")
    volume_spike_factor: float = Field(default=100.0, ge=20, description="of the usual volume")
    partial_volume_fraction: float = Field(default=0.2, ge=0, le=0.5, description="of the usual volume")
    split_tolerance: float = Field(default=0.04, gt=0, le=0.1, description="of the overnight gap to n:m")
    split_max_activity: float = Field(default=3.0, ge=1, description="volume and range over their usual")
    max_quarantined_fraction: float = Field(default=0.02, ge=0, le=0.2, description="per symbol")
    severity: dict[str, Severity] = Field(default_factory=dict)
    accepted: tuple[AcceptedBar, ...] = ()

    @field_validator("severity")
    @classmethod
    def _severities_within_bounds(cls, severity: dict[str, Severity]) -> dict[str, Severity]:
        for rule, chosen in severity.items():
            allowed = ADJUSTABLE_RULES.get(rule)
            if allowed is None:
                raise ValueError(
                    f"the severity of {rule!r} cannot be set; it can for {', '.join(ADJUSTABLE_RULES)}"
                )
            if chosen not in allowed:
                raise ValueError(f"{rule!r} can be {' or '.join(allowed)}, not {chosen}")
        return severity

    @model_validator(mode="after")
    def _accepted_once(self) -> Self:
        keys = [(bar.symbol, bar.session, bar.rule) for bar in self.accepted]
        twice = sorted(
            {
                f"{symbol} {session} {rule}"
                for symbol, session, rule in keys
                if keys.count((symbol, session, rule)) > 1
            }
        )
        if twice:
            raise ValueError(f"accepted more than once: {', '.join(twice)}")
        return self
