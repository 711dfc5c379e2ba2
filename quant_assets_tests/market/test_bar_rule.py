"""A bar rule is one object: what is registered is judged, told, configured and documented without another edit."""

import pkgutil
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from quant_assets.common.errors import ConfigurationError
from quant_assets.common.provenance import closure_of
from quant_assets.common.settings import UniverseConfig
from quant_assets.lineage.configured import load_settings, require_whole
from quant_assets.market import adjust_bars, read_bars
from quant_assets.market.actions import ACTIONS_SCHEMA
from quant_assets.market.rules import (
    BarRule,
    Judged,
    Limit,
    all_rules,
    bar_rules,
    catalogue,
    check_bars,
    check_quality,
    find_rule,
    quarantine,
    raw_rules,
    register,
    rule_modules,
    rules_table,
    unregister,
    with_limits,
)

SHIPPED = Path(__file__).resolve().parents[2] / "configs"
NONE = pl.DataFrame(schema=ACTIONS_SCHEMA)
DAY = date(2023, 3, 2)

HIGHEST = Limit("highest_close", 1000.0, "in the money of the bars", above=0, at_most=5000)
FEWEST = Limit("fewest_bars", 10, "bars of a symbol", at_least=1, at_most=400, whole=True)


def _too_dear(judged: Judged) -> pl.DataFrame:
    dear = judged.bars.with_columns(observed=pl.col("close"), limit=pl.lit(judged.limit(HIGHEST)))
    return dear.filter(pl.col("observed") > pl.col("limit"))


def _short_history(judged: Judged) -> tuple[pl.DataFrame, int]:
    lengths = judged.bars.group_by("symbol").agg(pl.col("session").min(), observed=pl.len())
    limit = judged.limit(FEWEST)
    return lengths.with_columns(limit=limit).filter(pl.col("observed") < limit), lengths.height


TOO_DEAR = BarRule(
    name="too_dear",
    judged_on="rows",
    rank=5,
    severity="QUARANTINE",
    description="The close is higher than anyone | would pay.",
    measure=_too_dear,
    evidence="close {written.close} of {symbol} is dear",
    limits=(HIGHEST,),
    may_be=("QUARANTINE", "WARN"),
    acceptable=True,
)
SHORT_HISTORY = BarRule(
    name="short_history",
    judged_on="panel",
    rank=45,
    severity="WARN",
    description="A symbol has fewer bars than so many.",
    measure=_short_history,
    evidence="{symbol} has {observed} bars",
    limits=(FEWEST,),
    may_be=("WARN", "ERROR"),
)


@pytest.fixture
def new_rules() -> Iterator[None]:
    register(TOO_DEAR)
    register(SHORT_HISTORY)
    yield
    unregister(TOO_DEAR)
    unregister(SHORT_HISTORY)


def universe(**quality: Any) -> UniverseConfig:
    return UniverseConfig.model_validate(
        {
            "name": "test",
            "source": {"kind": "synthetic", "seed": 5, "n_symbols": 3},
            "start": "2023-01-03",
            "end": "2023-12-29",
            "quality": quality,
        }
    )


def with_one_dear_bar() -> pl.DataFrame:
    """All five prices of one bar at 1,500: above the limit, and a leap as well."""
    bars = read_bars(universe()).bars
    here = (pl.col("symbol") == "S001") & (pl.col("session") == DAY)
    prices = ("open", "high", "low", "close", "adj_close")
    return bars.with_columns(pl.when(here).then(1500.0).otherwise(pl.col(n)).alias(n) for n in prices)


@pytest.mark.usefixtures("new_rules")
def test_a_new_raw_rule_takes_its_rows_out_in_its_place_with_its_sentence() -> None:
    names = [rule.name for rule in raw_rules(universe())]
    assert names[:2] == ["too_dear", "sessions_outside_calendar"]
    result = quarantine(with_one_dear_bar(), NONE, universe())
    assert [finding.rule for finding in result.findings] == names
    assert result.quarantined.select("symbol", "session", "rule", "observed", "limit").rows() == [
        ("S001", DAY, "too_dear", 1500.0, 1000.0)
    ]
    assert result.quarantined["evidence"][0].startswith("close 1500.0 of S001 is dear (also: ")
    finding = result.findings[0]
    assert (finding.passed, finding.severity, finding.n_offenders, finding.n_checked) == (
        False, "QUARANTINE", 1, 750,
    )  # fmt: skip
    assert finding.evidence[0].startswith("S001 2023-03-02: close 1500.0 of S001 is dear")


@pytest.mark.usefixtures("new_rules")
def test_a_new_panel_rule_is_judged_in_its_place_with_its_sentence() -> None:
    names = [rule.name for rule in bar_rules(universe())]
    assert names[names.index("short_history") - 1 :][:3] == [
        "duplicate_keys", "short_history", "missing_fraction",
    ]  # fmt: skip
    bars = adjust_bars(read_bars(universe()).bars, NONE, "XNYS")
    findings = {f.rule: f for f in check_bars(bars, NONE, universe(fewest_bars=251))}
    assert list(findings) == names
    short = findings["short_history"]
    assert (short.passed, short.severity, short.n_offenders, short.n_checked) == (False, "WARN", 3, 3)
    assert short.offenders["limit"].to_list() == [251.0] * 3
    assert short.evidence[0] == "S000 2023-01-03: S000 has 250 bars"
    assert {f.rule: f for f in check_bars(bars, NONE, universe())}["short_history"].passed


@pytest.mark.usefixtures("new_rules")
def test_a_new_rule_is_set_by_the_universe_file_and_shown_with_its_defaults(tmp_path: Path) -> None:
    configs = Path(shutil.copytree(SHIPPED, tmp_path / "configs"))
    file = configs / "universes" / "us_tech.yaml"
    whole = file.read_text()

    def read(quality: str) -> UniverseConfig:
        file.write_text(f"{whole}\nquality: {quality}\n")
        return require_whole(load_settings(configs, tmp_path / "home")).universes["us_tech"]

    config = read(
        "{highest_close: 2000, severity: {too_dear: WARN, short_history: ERROR}, accepted: "
        "[{symbol: AAPL, session: 2012-09-19, rule: too_dear, reason: seen on the tape}]}"
    )
    shown = config.model_dump(mode="json")["quality"]
    assert (shown["highest_close"], shown["fewest_bars"]) == (2000.0, 10)
    severities = {rule.name: rule.severity for rule in (*raw_rules(config), *bar_rules(config))}
    assert (severities["too_dear"], severities["short_history"]) == ("WARN", "ERROR")
    for quality, said in (
        ("{highest_close: 9000}", r"us_tech.yaml, key 'quality.highest_close'.*less than or equal to 5000"),
        ("{fewest_bars: 2.5}", r"us_tech.yaml, key 'quality.fewest_bars'.*valid integer"),
        ("{fewest_bar: 2}", r"unknown key 'fewest_bar'.*did you mean 'fewest_bars'"),
        ("{severity: {too_dear: ERROR}}", "'too_dear' can be QUARANTINE or WARN, not ERROR"),
        (
            "{accepted: [{symbol: A, session: 2012-09-19, rule: short_history, reason: seen on the tape}]}",
            "'short_history' is none of the rules",
        ),
    ):
        with pytest.raises(ConfigurationError, match=said):
            read(quality)


@pytest.mark.usefixtures("new_rules")
def test_a_bar_is_accepted_for_a_new_rule_by_name_and_reason() -> None:
    release = {"symbol": "S001", "session": DAY, "rule": "too_dear", "reason": "seen on the tape"}
    loose = {"severity": {"price_spike": "WARN", "range_spike": "WARN"}, "decimal_slip_tolerance": 0.01}
    result = quarantine(with_one_dear_bar(), NONE, universe(accepted=[release], **loose))
    assert result.accepted.select("symbol", "session", "rule", "reason").rows() == [tuple(release.values())]
    assert "too_dear" not in result.quarantined["rule"].to_list()


@pytest.mark.usefixtures("new_rules")
def test_a_new_rule_is_a_row_of_the_documentation() -> None:
    rows = rules_table().splitlines()
    assert (
        "| `too_dear` | rows | QUARANTINE (or WARN) | The close is higher than anyone \\| would pay. "
        "| `highest_close` 1000 (above 0 to 5000): in the money of the bars |"
    ) in rows
    assert "| `short_history` | panel | WARN (or ERROR) | A symbol has fewer bars than so many. " in "".join(
        rows
    )
    assert "(whole from 1 to 400)" in rules_table()


def test_what_was_unregistered_is_gone() -> None:
    names = {rule.name for rule in all_rules()}
    assert not names & {"too_dear", "short_history"}
    with pytest.raises(ConfigurationError, match="unknown key 'highest_close'"):
        check_quality(universe(highest_close=1.0))


def test_the_documentation_has_one_row_for_each_rule_in_order() -> None:
    head, line, *rows = rules_table().splitlines()
    assert head == "| rule | judged on | severity | an offender | limits |"
    assert set(line) == {"|", "-", " "}
    cells = [row.split(" | ") for row in rows]
    assert [row[0].removeprefix("| ") for row in cells] == [f"`{rule.name}`" for rule in all_rules()]
    assert len(rows) == 41
    assert cells[8] == [
        "| `price_spike`",
        "rows",
        "QUARANTINE (or ERROR, WARN)",
        "The close leaps for one session and comes back (observed: the smaller leap, in logarithms).",
        "`spike_fraction` 0.2 (from 0.05 to 1): move away and back of a spike; "
        "`spike_multiple` 10 (from 3): of the usual move, for a spike below 50 % |",
    ]


@pytest.mark.parametrize(
    "other",
    [
        {"description": "Another meaning."},
        {"judged_on": "feed", "may_be": (), "severity": "ERROR"},
        {"judged_on": "panel", "may_be": ("ERROR",), "severity": "ERROR"},
        {"judged_on": "panel", "may_be": (), "severity": "ERROR", "description": "Another meaning."},
    ],
)
@pytest.mark.usefixtures("new_rules")
def test_two_rules_of_one_name_are_refused(other: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"bar rule 'too_dear'.*higher than anyone.*rename"):
        register(replace(TOO_DEAR, **other))
    assert all_rules().count(TOO_DEAR) == 1
    assert register(TOO_DEAR) is TOO_DEAR
    assert all_rules().count(TOO_DEAR) == 1


@pytest.mark.parametrize(
    ("limit", "found"),
    [
        (Limit("jump_fraction", 0.5, "of something else"), "another limit with it: .*close to close"),
        (replace(find_rule("stale_prices").limits[0], default=6), "another limit with it: unchanged OHLC"),
        (Limit("severity", 0.5, "how grave"), "a section of `quality:`"),
    ],
)
def test_two_limits_of_one_key_are_refused(limit: Limit, found: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"'too_dear', limit '{limit.key}'.*{found}"):
        register(replace(TOO_DEAR, limits=(limit,)))
    assert TOO_DEAR.name not in {rule.name for rule in all_rules()}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"name": "Too dear"}, "a name in lower case"),
        ({"may_be": ("ERROR", "WARN")}, "its severity among ERROR, WARN; found QUARANTINE"),
        ({"judged_on": "panel"}, "only single raw rows can be taken out"),
        ({"description": "dear"}, "a sentence"),
    ],
)
def test_a_rule_that_contradicts_itself_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        replace(TOO_DEAR, **wrong)


def test_a_misspelt_rule_is_answered_with_the_closest_name() -> None:
    assert find_rule("ohlc_consistency").judged_on == "rows"
    with pytest.raises(ConfigurationError, match=r"'price_spyke'.*did you mean 'price_spike'\?"):
        find_rule("price_spyke")


def test_every_module_of_the_catalogue_is_behind_the_judgement_of_bars() -> None:
    shipped = {f"{catalogue.__name__}.{module.name}" for module in pkgutil.iter_modules(catalogue.__path__)}
    assert shipped == set(rule_modules())
    for judge in (quarantine, check_bars):
        assert shipped <= set(closure_of(judge, rule_modules()).modules)


def test_what_a_universe_says_is_written_in_one_order_whatever_was_imported_first() -> None:
    code = (
        "import {first}\nfrom quant_assets.common.settings import UniverseConfig\n"
        "from quant_assets.market.rules import with_limits\n"
        "print(with_limits(UniverseConfig.model_validate_json({text!r})).model_dump_json())"
    )
    written = [
        subprocess.run(
            [
                sys.executable,
                "-c",
                code.format(first=first, text=universe(jump_fraction=0.3).model_dump_json()),
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for first in (
            "quant_assets.market.rules.catalogue.levels",
            "quant_assets.market.rules.catalogue.completeness",
        )
    ]
    assert written == [with_limits(universe(jump_fraction=0.3)).model_dump_json()] * 2
