"""Quality rules: each planted fault is found by its own rule, and clean bars by none."""

import subprocess
import sys
from datetime import date
from typing import Any

import polars as pl
import pytest

from quant_assets.common.settings import UniverseConfig
from quant_assets.market.actions import ACTIONS_SCHEMA, adjust_bars, derive_corporate_actions
from quant_assets.market.rules import QualityFinding, bar_rules, check_bars
from quant_assets.market.rules.quality import OFFENDERS_SCHEMA
from quant_assets.market.sources.sources import read_bars


def universe(**fields: Any) -> UniverseConfig:
    whole = {
        "name": "test",
        "source": {"kind": "synthetic", "seed": 5, "n_symbols": 3},
        "start": "2023-01-03",
        "end": "2023-12-29",
    }
    return UniverseConfig.model_validate(whole | fields)


def checked(config: UniverseConfig) -> dict[str, QualityFinding]:
    raw = read_bars(config).bars
    actions = derive_corporate_actions(raw)
    return {f.rule: f for f in check_bars(adjust_bars(raw, actions, config.calendar), actions, config)}


def failed(findings: dict[str, QualityFinding]) -> list[str]:
    return [name for name, finding in findings.items() if not finding.passed]


def with_defect(kind: str, **quality: Any) -> dict[str, QualityFinding]:
    source = {
        "kind": "synthetic",
        "seed": 5,
        "n_symbols": 3,
        "defects": [{"kind": kind, "symbol": 1, "session": 40}],
    }
    return checked(universe(source=source, quality=quality))


def bars(**columns: list[Any]) -> pl.DataFrame:
    raw = read_bars(universe(symbols=["S000"])).bars
    adjusted = adjust_bars(raw, pl.DataFrame(schema=ACTIONS_SCHEMA), "XNYS").head(4)
    return adjusted.with_columns(pl.Series(name, values) for name, values in columns.items())


def findings_of(frame: pl.DataFrame, actions: pl.DataFrame | None = None) -> dict[str, QualityFinding]:
    none = pl.DataFrame(schema=ACTIONS_SCHEMA)
    return {f.rule: f for f in check_bars(frame, none if actions is None else actions, universe())}


def test_the_rules_and_their_severities_are_these() -> None:
    assert [(rule.name, rule.severity) for rule in bar_rules(universe())] == [
        ("nulls", "SET_ASIDE"),
        ("non_positive_prices", "SET_ASIDE"),
        ("ohlc_consistency", "SET_ASIDE"),
        ("duplicate_keys", "SET_ASIDE"),
        ("missing_fraction", "SET_ASIDE"),
        ("split_never_rebased", "SET_ASIDE"),
        ("price_unit_change", "SET_ASIDE"),
        ("missing_sessions", "WARN"),
        ("common_gap", "ERROR"),
        ("empty_sessions", "WARN"),
        ("thin_sessions", "WARN"),
        ("few_names_lately", "WARN"),
        ("long_gap", "WARN"),
        ("late_starts", "WARN"),
        ("early_ends", "WARN"),
        ("panel_edges", "WARN"),
        ("identical_symbols", "WARN"),
        ("stale_prices", "WARN"),
        ("flat_bars", "WARN"),
        ("possible_split", "WARN"),
        ("unexplained_jumps", "WARN"),
        ("zero_volume", "WARN"),
        ("actions_without_bar", "WARN"),
        ("accepted_without_match", "WARN"),
    ]
    assert all(rule.description.endswith(".") for rule in bar_rules(universe()))


def test_a_clean_market_breaks_no_rule() -> None:
    findings = checked(universe())
    assert failed(findings) == []
    assert tuple(findings) == tuple(rule.name for rule in bar_rules(universe()))
    assert findings["nulls"].n_checked == 3 * 250
    assert findings["missing_fraction"].n_checked == 3


def test_the_packaged_bars_break_two_rules_once_by_what_was_real() -> None:
    findings = checked(universe(source={"kind": "bokeh_sampledata"}, start="2000-03-01", end="2013-03-01"))
    assert failed(findings) == ["late_starts", "unexplained_jumps"]
    late = findings["late_starts"].offenders.rows()  # FB and GOOG went public then
    assert late == [("FB", date(2012, 5, 18), 3074.0, 21.0), ("GOOG", date(2004, 8, 19), 1122.0, 21.0)]
    jumps = findings["unexplained_jumps"]
    assert (jumps.severity, jumps.n_offenders, jumps.n_checked) == ("WARN", 1, 12154)
    assert jumps.offenders.schema == OFFENDERS_SCHEMA
    assert jumps.offenders.row(0) == ("AAPL", date(2000, 9, 29), pytest.approx(-0.5187, abs=5e-5), 0.4)


def test_a_real_split_left_in_the_prices_is_named_and_blocks() -> None:
    config = universe(
        source={"kind": "bokeh_sampledata"}, symbols=["MSFT"], start="2003-01-02", end="2003-12-31"
    )
    raw = read_bars(config).bars.with_columns(adj_close=pl.lit(None, dtype=pl.Float64))
    actions = derive_corporate_actions(raw)
    findings = {f.rule: f for f in check_bars(adjust_bars(raw, actions, "XNYS"), actions, config)}
    assert failed(findings) == ["split_never_rebased"]
    split = findings["split_never_rebased"]
    assert (split.severity, split.offenders["limit"].to_list()) == ("ERROR", [0.5])
    assert split.evidence[0] == (
        "MSFT 2003-02-18: the close before was 48.3, the open is 24.62 and the price stays: "
        "a split 2:1 never re-based"
    )
    assert split.evidence[1].startswith(
        "1 of 1 symbols are broken, 0 may be set aside: correct the feed, or "
    )


def test_a_planted_jump_is_found() -> None:
    findings = with_defect("unexplained_jump")
    assert failed(findings) == ["unexplained_jumps"]
    offender = findings["unexplained_jumps"].offenders.row(0, named=True)
    assert (offender["symbol"], offender["session"]) == ("S001", date(2023, 3, 2))
    assert offender["observed"] == pytest.approx(-0.45, abs=0.05)
    assert failed(with_defect("unexplained_jump", jump_fraction=0.6)) == []


def test_a_planted_split_is_found_unless_a_person_says_that_it_was_news() -> None:
    findings = with_defect("split_never_rebased")
    assert failed(findings) == ["split_never_rebased"]
    split = findings["split_never_rebased"].offenders.row(0, named=True)
    assert (split["symbol"], split["session"], split["limit"]) == ("S001", date(2023, 3, 2), 0.5)
    news = {
        "symbol": "S001",
        "session": "2023-03-02",
        "rule": "split_never_rebased",
        "reason": "court ruling",
    }
    assert failed(with_defect("split_never_rebased", accepted=[news])) == []
    other = news | {"session": "2023-03-03"}
    stale = with_defect("split_never_rebased", accepted=[other])
    assert failed(stale) == ["split_never_rebased", "accepted_without_match"]
    assert stale["accepted_without_match"].offenders.row(0) == ("S001", date(2023, 3, 3), 0.0, 1.0)
    softer = with_defect("split_never_rebased", severity={"split_never_rebased": "WARN"})
    assert softer["split_never_rebased"].severity == "WARN"


def test_halving_on_heavy_trading_is_news_and_no_split() -> None:
    raw = read_bars(universe(symbols=["S000"])).bars.drop("adj_close")
    later = pl.int_range(pl.len()) >= 100
    halved = [
        pl.when(later).then(pl.col(n) / 2).otherwise(pl.col(n)).alias(n)
        for n in ("open", "high", "low", "close")
    ]
    busy = pl.when(pl.int_range(pl.len()) == 100).then(pl.col("volume") * 8).otherwise(pl.col("volume"))
    none = pl.DataFrame(schema=ACTIONS_SCHEMA)
    calm = adjust_bars(raw.with_columns(halved), none, "XNYS")
    assert failed(findings_of(calm)) == ["split_never_rebased"]
    assert failed(findings_of(calm.with_columns(volume=busy))) == ["unexplained_jumps"]


def test_a_step_that_does_not_stay_is_no_split() -> None:
    raw = read_bars(universe(symbols=["S000"])).bars.drop("adj_close")
    two_days = pl.int_range(pl.len()).is_between(100, 101)
    halved = [
        pl.when(two_days).then(pl.col(n) / 2).otherwise(pl.col(n)).alias(n)
        for n in ("open", "high", "low", "close")
    ]
    bars_now = adjust_bars(raw.with_columns(halved), pl.DataFrame(schema=ACTIONS_SCHEMA), "XNYS")
    assert failed(findings_of(bars_now)) == ["unexplained_jumps"]


def test_what_was_quarantined_is_not_missing() -> None:
    config = universe()
    raw = read_bars(config).bars
    none = pl.DataFrame(schema=ACTIONS_SCHEMA)
    out = raw.slice(100, 1)
    kept = adjust_bars(raw.join(out, on=["symbol", "session"], how="anti"), none, "XNYS")
    assert failed({f.rule: f for f in check_bars(kept, none, config)}) == ["missing_sessions"]
    assert failed({f.rule: f for f in check_bars(kept, none, config, quarantined=out)}) == []


def test_a_planted_zero_volume_is_found() -> None:
    findings = with_defect("zero_volume")
    assert failed(findings) == ["zero_volume"]
    assert findings["zero_volume"].offenders.row(0) == ("S001", date(2023, 3, 2), 0.0, 0.0)


def test_a_planted_stale_price_is_found_with_the_length_of_its_run() -> None:
    findings = with_defect("stale_price")
    assert failed(findings) == ["stale_prices"]
    assert findings["stale_prices"].offenders.row(0) == ("S001", date(2023, 3, 1), 10.0, 5.0)
    assert failed(with_defect("stale_price", stale_sessions=10)) == ["stale_prices"]
    assert failed(with_defect("stale_price", stale_sessions=11)) == []


def test_one_missing_session_is_shown_and_too_many_block() -> None:
    few = with_defect("missing_session")
    assert failed(few) == ["missing_sessions"]
    assert few["missing_sessions"].offenders.row(0) == ("S001", date(2023, 3, 2), 0.0, 1.0)
    assert few["missing_sessions"].n_checked == 750
    # 1 of 250 sessions is 0.4 %.
    many = with_defect("missing_session", max_missing_fraction=0.0039)
    assert failed(many) == ["missing_fraction", "missing_sessions"]
    assert many["missing_fraction"].severity == "ERROR"
    assert many["missing_fraction"].offenders.row(0) == (
        "S001",
        date(2023, 3, 2),
        pytest.approx(1 / 250),
        0.0039,
    )
    assert failed(with_defect("missing_session", max_missing_fraction=0.004)) == ["missing_sessions"]


def test_sessions_before_the_first_and_after_the_last_bar_are_not_missing() -> None:
    config = universe(
        source={"kind": "bokeh_sampledata"}, symbols=["FB", "IBM"], start="2012-01-03", end="2013-03-01"
    )
    assert failed(checked(config)) == ["late_starts"]


def test_nulls_and_not_a_numbers_are_counted() -> None:
    findings = findings_of(bars(close=[None, float("nan"), 1.0, 1.0], volume=[None, 1.0, 1.0, float("inf")]))
    assert findings["nulls"].offenders["observed"].to_list() == [2.0, 1.0, 1.0]
    assert findings["nulls"].severity == "ERROR"
    assert not findings["nulls"].passed


def test_a_price_of_zero_or_less_is_found_by_its_lowest_value() -> None:
    findings = findings_of(bars(low=[0.0, -1.0, 1.0, 1.0]))
    assert findings["non_positive_prices"].offenders["observed"].to_list() == [0.0, -1.0]


def test_an_open_outside_the_range_offends_beyond_the_tolerance_only() -> None:
    frame = bars(open=[100.005, 100.02, 99.98, 90.0], high=[100.0] * 4, low=[100.0, 100.0, 100.0, 89.0])
    findings = findings_of(frame.with_columns(close=pl.lit(100.0)))
    offenders = findings["ohlc_consistency"].offenders
    assert offenders["session"].to_list() == frame["session"].to_list()[1:3]
    assert offenders["observed"].to_list() == [pytest.approx(2e-4), pytest.approx(2e-4)]


def test_high_below_low_and_a_close_outside_offend() -> None:
    prices = {"open": [10.0] * 4, "close": [10.0, 10.0, 12.0, 8.0]}
    findings = findings_of(bars(**prices, high=[11.0, 9.0, 11.0, 11.0], low=[9.0, 11.0, 9.0, 9.0]))
    assert findings["ohlc_consistency"].n_offenders == 3
    assert findings["ohlc_consistency"].check_severity == "ERROR"


def test_a_repeated_bar_is_counted() -> None:
    frame = bars()
    findings = findings_of(pl.concat([frame, frame.slice(2, 1)]))
    assert failed(findings) == ["duplicate_keys", "panel_edges"]
    assert findings["duplicate_keys"].offenders["observed"].to_list() == [2.0]


def test_an_action_without_a_bar_is_shown() -> None:
    action = ("S000", date(2024, 1, 5), "split", 2.0, 0.5, None)
    findings = findings_of(bars(), pl.DataFrame([action], schema=ACTIONS_SCHEMA, orient="row"))
    assert failed(findings) == ["panel_edges", "actions_without_bar"]
    assert findings["actions_without_bar"].offenders.row(0) == ("S000", date(2024, 1, 5), 0.5, 1.0)


def test_no_bars_at_all_pass_nothing() -> None:
    assert failed(findings_of(bars().clear())) == [rule.name for rule in bar_rules(universe())]


def test_at_most_fifty_offenders_are_kept_and_all_are_counted() -> None:
    config = universe()
    raw = read_bars(config).bars.with_columns(volume=pl.lit(0.0))
    none = pl.DataFrame(schema=ACTIONS_SCHEMA)
    findings = {f.rule: f for f in check_bars(adjust_bars(raw, none, "XNYS"), none, config)}
    assert findings["zero_volume"].n_offenders == 750
    assert findings["zero_volume"].offenders.height == 50


def test_importing_the_rules_loads_no_calendar_and_no_pandas() -> None:
    code = (
        "import sys, quant_assets.market, quant_assets.market.sources, quant_assets.market.revisions\n"
        "from quant_assets.market.rules import rules_table\n"
        "rules_table()\n"
        "heavy = {'pandas', 'exchange_calendars', 'bokeh_sampledata', 'scipy', 'dagster', 'mlflow'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
