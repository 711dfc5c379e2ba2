"""Quarantine: suspicious rows are set aside with their evidence, and every row of the input is still there."""

from datetime import date
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from quant_assets.common.errors import BarContractError, ConfigurationError
from quant_assets.common.settings import StrategyConfig, UniverseConfig
from quant_assets.common.universe_settings import QualityConfig
from quant_assets.lineage.pipeline import bars_of
from quant_assets.market.actions import ACTIONS_SCHEMA, adjust_bars
from quant_assets.market.parsing import RAW_SCHEMA
from quant_assets.market.rules import (
    QualityFinding,
    Quarantine,
    all_rules,
    bar_rules,
    check_bars,
    check_quality,
    limits_of,
    quarantine,
    raw_rules,
)
from quant_assets.market.rules.quality import REASONS
from quant_assets.market.sources.sources import read_bars

NO_ACTIONS = pl.DataFrame(schema=ACTIONS_SCHEMA)
SPIKE = date(2023, 3, 2)
RELEASE = {"symbol": "S001", "session": SPIKE, "rule": "price_spike", "reason": "take-over bid, withdrawn"}


def universe(*defects: str, **quality: Any) -> UniverseConfig:
    planted = [{"kind": kind, "symbol": 1, "session": 40} for kind in defects]
    return UniverseConfig.model_validate(
        {
            "name": "test",
            "source": {"kind": "synthetic", "seed": 5, "n_symbols": 3, "defects": planted},
            "start": "2023-01-03",
            "end": "2023-12-29",
            "quality": quality,
        }
    )


def parted(config: UniverseConfig) -> Quarantine:
    return quarantine(read_bars(config).bars, NO_ACTIONS, config)


def failed(result: Quarantine) -> dict[str, QualityFinding]:
    return {finding.rule: finding for finding in result.findings if not finding.passed}


def test_a_clean_market_has_nothing_in_quarantine() -> None:
    config = universe()
    raw = read_bars(config).bars
    result = quarantine(raw, NO_ACTIONS, config)
    assert result.kept.equals(raw)
    assert result.quarantined.is_empty()
    assert result.quarantined.schema == {**RAW_SCHEMA, **REASONS}
    assert failed(result) == {}
    assert [f.rule for f in result.findings] == [rule.name for rule in raw_rules(config)]


def test_real_bars_of_thirteen_years_stay_as_they_are() -> None:
    config = universe().model_copy(update={"start": date(2000, 3, 1), "end": date(2013, 3, 1)})
    packaged = UniverseConfig.model_validate(
        config.model_dump()
        | {"source": {"kind": "bokeh_sampledata"}, "symbols": ["AAPL", "GOOG", "IBM", "MSFT"]}
    )
    raw = read_bars(packaged).bars
    assert quarantine(raw, NO_ACTIONS, packaged).kept.equals(raw)


def test_a_spike_is_set_aside_as_the_source_had_it_with_its_evidence() -> None:
    config = universe("price_spike")
    raw = read_bars(config).bars
    result = quarantine(raw, NO_ACTIONS, config)
    row = result.quarantined.row(0, named=True)
    source = raw.filter(pl.col("symbol") == "S001", pl.col("session") == SPIKE).row(0, named=True)
    assert result.quarantined.height == 1
    assert {name: row[name] for name in RAW_SCHEMA} == source
    assert (row["rule"], row["observed"] > row["limit"] > 0.18) == ("price_spike", True)
    assert row["evidence"].startswith(f"close {source['close']} stands between")
    (finding,) = failed(result).values()
    assert (finding.severity, finding.check_severity, finding.n_offenders) == ("QUARANTINE", "WARN", 1)
    assert finding.evidence == (f"S001 {SPIKE}: {row['evidence']}",)


def test_what_only_the_next_close_can_tell_is_known_then_and_not_before() -> None:
    config = universe("price_spike")
    raw = read_bars(config).bars
    assert quarantine(raw, NO_ACTIONS, config).quarantined["known_on"].to_list() == [date(2023, 3, 3)]
    # the feed as it was on that evening: nothing can be said of a leap that may still stay
    today = raw.filter(pl.col("session") <= SPIKE)
    assert quarantine(today, NO_ACTIONS, config).quarantined.is_empty()
    tomorrow = raw.filter(pl.col("session") <= date(2023, 3, 3))
    assert quarantine(tomorrow, NO_ACTIONS, config).quarantined["session"].to_list() == [SPIKE]


def test_what_the_bar_and_its_past_tell_is_known_at_its_own_close() -> None:
    slipped = parted(universe("decimal_slip")).quarantined
    # it also is a spike, which only the next close can tell: the earlier of the two counts
    assert slipped.select("session", "known_on").rows() == [(SPIKE, SPIKE)]


def test_a_huge_volume_is_known_when_the_window_around_it_is_complete() -> None:
    config = universe()
    raw = read_bars(config).bars
    there = (pl.col("symbol") == "S001") & (pl.col("session") == SPIKE)
    huge = raw.with_columns(
        volume=pl.when(there).then(pl.col("volume") * 1000).otherwise("volume"),
        close=pl.when(there).then(pl.col("close").shift(1).over("symbol")).otherwise("close"),
    )
    huge = huge.with_columns(
        high=pl.max_horizontal("high", "close", "open"), low=pl.min_horizontal("low", "close", "open")
    )
    own = raw.filter(pl.col("symbol") == "S001")["session"]
    out = quarantine(huge, NO_ACTIONS, config).quarantined
    assert out.select("rule", "known_on").rows() == [("volume_spike", own.filter(own > SPIKE)[9])]


def test_the_panel_says_when_a_bar_was_found_to_be_wrong_and_only_where_one_was() -> None:
    clean, spiked = (
        bars_of(read_bars(config).bars, config, StrategyConfig(name="any_name", universe="test"))
        for config in (universe(), universe("price_spike"))
    )
    assert "found_wrong_at" not in clean.columns
    wrong = spiked.filter(pl.col("found_wrong_at").is_not_null())
    next_close = clean.filter(pl.col("session") == date(2023, 3, 3))["known_at"][0]
    assert wrong.select("symbol", "session", "found_wrong_at").rows() == [("S001", SPIKE, next_close)]
    assert spiked.height == clean.height
    slipped = universe("decimal_slip")
    assert (
        bars_of(read_bars(slipped).bars, slipped, StrategyConfig(name="any_name", universe="test")).height
        == clean.height - 1
    )


def test_a_row_that_breaks_several_rules_is_told_under_the_first_with_the_others_named() -> None:
    result = parted(universe("decimal_slip"))
    assert result.quarantined["rule"].to_list() == ["decimal_slip"]
    assert result.quarantined["evidence"][0].endswith("(also: price_spike)")
    assert list(failed(result)) == ["decimal_slip"]


def test_a_row_that_a_person_accepts_is_kept_and_recorded_with_the_reason() -> None:
    config = universe("price_spike", accepted=[RELEASE])
    result = parted(config)
    assert result.quarantined.is_empty()
    assert failed(result) == {}
    row = result.accepted.row(0, named=True)
    assert (row["symbol"], row["session"], row["rule"]) == ("S001", SPIKE, "price_spike")
    assert row["reason"] == "take-over bid, withdrawn"


@pytest.mark.parametrize(
    "changed",
    [{"session": date(2023, 3, 3)}, {"symbol": "S002"}, {"rule": "volume_spike"}, {"symbol": "XYZ"}],
)
def test_an_acceptance_that_matches_nothing_is_shown_and_releases_nothing(changed: dict[str, Any]) -> None:
    result = parted(universe("price_spike", accepted=[RELEASE | changed]))
    assert list(failed(result)) == ["price_spike", "accepted_without_match"]
    stale = failed(result)["accepted_without_match"]
    assert (stale.severity, stale.n_offenders) == ("WARN", 1)
    assert result.quarantined.height == 1
    assert result.accepted.is_empty()


def test_an_acceptance_for_one_rule_does_not_silence_another() -> None:
    result = parted(universe("decimal_slip", accepted=[RELEASE | {"rule": "decimal_slip"}]))
    assert result.quarantined["rule"].to_list() == ["price_spike"]
    assert result.accepted.is_empty()


@pytest.mark.parametrize(("severity", "check"), [("ERROR", "ERROR"), ("WARN", "WARN")])
def test_a_rule_of_another_severity_takes_nothing_out(severity: str, check: str) -> None:
    result = parted(universe("price_spike", severity={"price_spike": severity}))
    assert result.quarantined.is_empty()
    assert failed(result)["price_spike"].check_severity == check


def test_too_many_rows_of_a_symbol_in_quarantine_block() -> None:
    # 1 of 250 bars is 0.4 %.
    assert "quarantined_fraction" not in failed(
        parted(universe("price_spike", max_quarantined_fraction=0.004))
    )
    finding = failed(parted(universe("price_spike", max_quarantined_fraction=0.0039)))["quarantined_fraction"]
    assert finding.severity == "ERROR"
    assert finding.offenders.row(0) == ("S001", SPIKE, pytest.approx(0.004), 0.0039)
    assert finding.n_checked == 3


def test_prices_are_compared_across_a_split_that_is_known() -> None:
    raw = read_bars(universe()).bars
    own = pl.col("symbol") == "S001"
    before = own & (pl.col("session") <= SPIKE)
    names = ("open", "high", "low", "close")
    split = raw.with_columns(pl.when(before).then(pl.col(n) * 2).otherwise(pl.col(n)).alias(n) for n in names)
    action = ("S001", date(2023, 3, 3), "split", 2.0, 0.5, None)
    actions = pl.DataFrame([action], schema=ACTIONS_SCHEMA, orient="row")
    assert quarantine(split, actions, universe()).kept.equals(split)
    # A spike on the last session before the split comes back only when the split is allowed for.
    spike = split.with_columns(
        pl.when(own & (pl.col("session") == SPIKE)).then(pl.col(n) * 1.6).otherwise(pl.col(n)).alias(n)
        for n in names
    )
    out = quarantine(spike, actions, universe()).quarantined
    assert out.select("session", "rule").rows() == [(SPIKE, "price_spike")]
    assert quarantine(spike, NO_ACTIONS, universe()).quarantined.is_empty()


def test_a_leap_that_does_not_come_back_is_kept() -> None:
    assert parted(universe("unexplained_jump")).quarantined.is_empty()
    assert parted(universe("split_never_rebased")).quarantined.is_empty()


def test_a_half_day_is_no_partial_bar() -> None:
    config = universe().model_copy(update={"end": date(2023, 11, 24)})  # closes at 13:00
    raw = read_bars(config).bars
    last = pl.col("session") == date(2023, 11, 24)
    usual = raw.filter(pl.col("symbol") == "S000")["volume"].tail(22).head(21).median()

    def with_part(part: float) -> list[str]:
        thin = raw.with_columns(
            volume=pl.when(last & (pl.col("symbol") == "S000")).then(usual * part).otherwise("volume"),
            high=pl.when(last).then(pl.max_horizontal("open", "close")).otherwise("high"),
            low=pl.when(last).then(pl.min_horizontal("open", "close")).otherwise("low"),
        )
        return quarantine(thin, NO_ACTIONS, config).quarantined["rule"].to_list()

    # 3.5 of 6.5 hours: the limit of 20 % of the usual volume is 10.8 % there.
    assert with_part(0.115) == []
    assert with_part(0.100) == ["partial_last_bar"]


def test_a_frame_without_a_column_of_the_contract_is_refused() -> None:
    raw = read_bars(universe()).bars.drop("volume")
    with pytest.raises(BarContractError, match="universe test, column 'volume'"):
        quarantine(raw, NO_ACTIONS, universe())


cell = st.one_of(st.none(), st.floats(width=64), st.sampled_from([0.0, -1.0, 1e-300, 1e300, 10.0, 100.0]))


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from("AB"), st.integers(0, 40), cell, cell, cell, cell, cell), max_size=40
    ),
    split=st.booleans(),
)
def test_kept_and_quarantined_are_the_input_to_the_bit(rows: list[tuple[Any, ...]], split: bool) -> None:
    names = ["symbol", "day", "open", "high", "low", "close", "volume"]
    schema = {n: pl.String if n == "symbol" else pl.Int64 if n == "day" else pl.Float64 for n in names}
    bars = (
        pl.DataFrame(rows, schema=schema, orient="row")
        .with_columns(session=pl.date(2023, 1, 1) + pl.duration(days="day"), number=pl.int_range(pl.len()))
        .drop("day")
    )
    action = ("A", date(2023, 1, 20), "split", 2.0, 0.5, None)
    actions = pl.DataFrame([action] if split else [], schema=ACTIONS_SCHEMA, orient="row")
    result = quarantine(bars, actions, universe())
    out = result.quarantined.drop(*REASONS)
    together = pl.concat([result.kept, out]).sort("number")
    as_bits = [
        pl.col(n).fill_null(-7.0).reinterpret(signed=True) for n in ("open", "high", "low", "close", "volume")
    ]
    assert together.schema == bars.schema
    assert together.drop_nulls().select(as_bits).equals(bars.drop_nulls().select(as_bits))
    assert together.equals(bars)
    assert result.kept["number"].is_sorted()
    assert out["number"].is_sorted()
    assert result.quarantined.select(*REASONS).null_count().sum_horizontal().item() == 0


def test_the_severities_that_a_universe_can_change_are_these() -> None:
    assert {rule.name: rule.may_be for rule in all_rules() if rule.may_be} == {
        "sessions_outside_calendar": ("QUARANTINE", "ERROR"),
        "outside_listing": ("QUARANTINE", "ERROR"),
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
        "split_never_rebased": ("SET_ASIDE", "ERROR", "WARN"),
        "price_unit_change": ("SET_ASIDE", "ERROR", "WARN"),
        "missing_sessions": ("WARN", "ERROR"),
        "common_gap": ("ERROR", "WARN"),
        "empty_sessions": ("WARN", "ERROR"),
        "thin_sessions": ("WARN", "ERROR"),
        "few_names_lately": ("WARN", "ERROR"),
        "long_gap": ("WARN", "ERROR"),
        "late_starts": ("WARN", "ERROR"),
        "early_ends": ("WARN", "ERROR"),
        "panel_edges": ("WARN", "ERROR"),
        "identical_symbols": ("WARN", "ERROR"),
        "stale_prices": ("WARN", "ERROR"),
        "flat_bars": ("WARN", "ERROR"),
        "possible_split": ("WARN", "ERROR"),
        "unexplained_jumps": ("WARN", "ERROR"),
        "zero_volume": ("WARN", "ERROR"),
        "contradictory_actions": ("SET_ASIDE", "ERROR"),
        "actions_without_bar": ("WARN", "ERROR"),
    }
    assert all(rule.may_be[0] == rule.severity for rule in all_rules() if rule.may_be)
    summaries = {
        "shifted_sessions", "quarantined_fraction", "accepted_without_match", "row_contract", "symbols_set_aside",
    }  # fmt: skip
    assert {rule.name for rule in all_rules()} - {rule.name for rule in all_rules() if rule.may_be} == {
        "nulls", "non_positive_prices", "duplicate_keys", "missing_fraction", *summaries,
    }  # fmt: skip


def test_every_rule_can_be_accepted_but_those_about_what_can_be_in_no_panel() -> None:
    assert {rule.name for rule in all_rules()} - {rule.name for rule in all_rules() if rule.acceptable} == {
        "sessions_outside_calendar",  # the calendar has no close for such a bar
        "outside_listing",  # of no instrument
        "nulls", "non_positive_prices", "duplicate_keys",  # no value that could be let through, or two
        "row_contract", "symbols_set_aside", "accepted_without_match",  # they tell of what others did
        # They find sessions of the whole panel: a severity lets them through, no acceptance of one name does.
        "common_gap", "empty_sessions", "thin_sessions", "few_names_lately", "panel_edges",
    }  # fmt: skip


def test_raw_rules_are_judged_in_this_order_the_most_telling_first() -> None:
    assert [(rule.name, rule.severity) for rule in raw_rules(universe())] == [
        ("sessions_outside_calendar", "QUARANTINE"),
        ("outside_listing", "QUARANTINE"),
        ("padded_before_listing", "QUARANTINE"),
        ("padded_after_delisting", "QUARANTINE"),
        ("repeated_bar", "QUARANTINE"),
        ("decimal_slip", "QUARANTINE"),
        ("ohlc_consistency", "QUARANTINE"),
        ("range_spike", "QUARANTINE"),
        ("price_spike", "QUARANTINE"),
        ("volume_spike", "QUARANTINE"),
        ("partial_last_bar", "QUARANTINE"),
        ("fractional_volume", "WARN"),
        ("contradictory_actions", "SET_ASIDE"),
        ("shifted_sessions", "SET_ASIDE"),
        ("quarantined_fraction", "SET_ASIDE"),
        ("accepted_without_match", "WARN"),
        ("row_contract", "WARN"),
        ("symbols_set_aside", "WARN"),
    ]


def test_severities_reach_the_rules_and_nothing_loosens_what_blocks() -> None:
    config = universe(severity={"zero_volume": "ERROR", "ohlc_consistency": "ERROR", "volume_spike": "WARN"})
    assert {r.name: r.severity for r in bar_rules(config)}["zero_volume"] == "ERROR"
    assert {r.name: r.severity for r in raw_rules(config)}["volume_spike"] == "WARN"
    assert {r.name: r.severity for r in raw_rules(config)}["ohlc_consistency"] == "ERROR"
    assert {r.name: r.severity for r in bar_rules(universe())}["ohlc_consistency"] == "SET_ASIDE"
    assert {r.name: r.severity for r in bar_rules(universe(strict=True))}["ohlc_consistency"] == "ERROR"


@pytest.mark.parametrize(
    ("quality", "message"),
    [
        ({"accepted": [RELEASE | {"reason": "ok"}]}, "at least 10 characters"),
        ({"accepted": [RELEASE, RELEASE]}, "accepted more than once: S001 2023-03-02 price_spike"),
        ({"severity": {"price_spike": "LOUD"}}, "severity.price_spike"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused_when_it_is_read(
    quality: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        QualityConfig.model_validate(quality)


@pytest.mark.parametrize(
    ("quality", "message"),
    [
        ({"severity": {"nulls": "WARN"}}, "severity of 'nulls' cannot be set"),
        ({"severity": {"decimal_slip": "WARN"}}, "'decimal_slip' can be QUARANTINE or ERROR, not WARN"),
        ({"severity": {"unexplained_jumps": "QUARANTINE"}}, "can be WARN or ERROR, not QUARANTINE"),
        ({"severity": {"price_spyke": "WARN"}}, "did you mean 'price_spike'"),
        ({"accepted": [RELEASE | {"rule": "nulls"}]}, "'nulls' is none of the rules"),
        ({"accepted": [RELEASE | {"rule": "price_spikes"}]}, "accepted.0.rule.*did you mean 'price_spike'"),
        ({"max_quarantined_fraction": 0.5}, "less than or equal to 0.2.*found 0.5"),
        ({"spike_multiple": 2}, "greater than or equal to 3"),
        ({"split_tolerance": 0.0}, "greater than 0"),
        ({"stale_sessions": 2.5}, "valid integer"),
        ({"jump_fraction": float("nan")}, "finite number"),
        ({"jump_fraction": "often"}, "'quality.jump_fraction'.*valid number.*'often'"),
        ({"jump_fracton": 0.5}, "'quality.jump_fracton'.*unknown key.*0.5.*did you mean 'jump_fraction'"),
        ({"severty": {"nulls": "WARN"}}, "did you mean 'severity'"),
    ],
)
def test_a_configuration_that_would_hide_defects_is_refused(quality: dict[str, Any], message: str) -> None:
    config = universe(**quality)
    raw = read_bars(universe()).bars
    for judge in (
        lambda: check_quality(config),
        lambda: limits_of(config),
        lambda: raw_rules(config),
        lambda: bar_rules(config),
        lambda: quarantine(raw, NO_ACTIONS, config),
        lambda: check_bars(adjust_bars(raw, NO_ACTIONS, "XNYS"), NO_ACTIONS, config),
    ):
        with pytest.raises(ConfigurationError, match=f"universe test.*{message}"):
            judge()
