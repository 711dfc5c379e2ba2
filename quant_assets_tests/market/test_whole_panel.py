"""Rules about the panel as a whole, on small panels: which sessions and names are told, with which numbers."""

from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest

from quant_assets.common.settings import UniverseConfig
from quant_assets.market.actions import ACTIONS_SCHEMA
from quant_assets.market.calendar import sessions
from quant_assets.market.rules.quality import QualityFinding, check_bars

START, END = date(2023, 1, 3), date(2023, 12, 29)
GRID = sessions("XNYS", START, END).to_list()  # 250 sessions
ALL = "(every name)"
NAMES = [f"S{i}" for i in range(8)]


def universe(**changes: Any) -> UniverseConfig:
    return UniverseConfig.model_validate(
        {
            "name": "panel",
            "source": {"kind": "csv", "path": "panel.csv"},
            "calendar": "XNYS",
            "start": START,
            "end": END,
            **changes,
        }
    )


def panel(spans: dict[str, tuple[int, int]] | None = None) -> pl.DataFrame:
    """Bars of each name on its sessions, first and last included; all of the year unless told."""
    frames = []
    for number, name in enumerate(NAMES):
        first, last = (spans or {}).get(name, (0, len(GRID) - 1))
        days = GRID[first : last + 1]
        price = [10.0 + number + (t % 7) / 10 for t in range(len(days))]
        frames.append(
            pl.DataFrame(
                {
                    "symbol": name,
                    "session": days,
                    "open": price,
                    "high": [p + 0.2 for p in price],
                    "low": [p - 0.2 for p in price],
                    "close": [p + 0.1 for p in price],
                    "volume": 1e6,
                }
            )
        )
    return pl.concat(frames)


def without(bars: pl.DataFrame, names: list[str], *at: int) -> pl.DataFrame:
    days = [GRID[t] for t in at]
    return bars.filter(~(pl.col("symbol").is_in(names) & pl.col("session").is_in(days)))


def found(bars: pl.DataFrame, aside: pl.DataFrame | None = None, **changes: Any) -> dict[str, QualityFinding]:
    none = pl.DataFrame(schema=ACTIONS_SCHEMA)
    return {f.rule: f for f in check_bars(bars, none, universe(**changes), quarantined=aside)}


def rows(finding: QualityFinding) -> list[tuple[Any, ...]]:
    return finding.offenders.rows()


WHOLE = (
    "common_gap", "empty_sessions", "thin_sessions", "few_names_lately", "late_starts", "early_ends", "panel_edges",
)  # fmt: skip


def test_a_full_panel_has_nothing_to_tell() -> None:
    findings = found(panel())
    assert [rule for rule in WHOLE if not findings[rule].passed] == []
    assert {findings[rule].severity for rule in WHOLE if rule != "common_gap"} == {"WARN"}
    assert findings["common_gap"].severity == "ERROR"


def test_a_hole_that_all_names_share_blocks_although_no_name_misses_much() -> None:
    findings = found(without(panel(), NAMES, *range(100, 105)), quality={"max_missing_fraction": 0.03})
    gap = findings["common_gap"]
    assert (gap.passed, gap.severity, gap.n_checked) == (False, "ERROR", 250)
    assert rows(gap) == [(ALL, GRID[100], 5.0, 5.0)]
    assert gap.evidence == (
        f"{ALL} {GRID[100]}: no name has a bar from {GRID[100]} to {GRID[104]}, 5 sessions of the calendar",
    )
    assert findings["empty_sessions"].passed
    assert findings["thin_sessions"].passed


def test_a_few_sessions_without_any_bar_are_shown_and_block_nothing() -> None:
    findings = found(without(panel(), NAMES, 50, 51, 52, 53, 120))
    assert findings["common_gap"].passed
    assert rows(findings["empty_sessions"]) == [(ALL, GRID[50], 4.0, 5.0), (ALL, GRID[120], 1.0, 5.0)]


def test_a_bar_in_quarantine_is_no_hole() -> None:
    bars = panel()
    aside = bars.filter(pl.col("session") == GRID[50])
    findings = found(bars.filter(pl.col("session") != GRID[50]), aside)
    assert findings["empty_sessions"].passed
    assert findings["thin_sessions"].passed


@pytest.mark.parametrize(("n_missing", "told"), [(3, False), (4, False), (5, True), (7, True)])
def test_a_session_of_few_of_the_listed_names_is_thin(n_missing: int, told: bool) -> None:
    thin = found(without(panel(), NAMES[:n_missing], 60))["thin_sessions"]
    assert rows(thin) == ([(ALL, GRID[60], (8 - n_missing) / 8, 0.5)] if told else [])
    if told:
        assert thin.evidence == (f"{ALL} {GRID[60]}: {8 - n_missing} of 8 names have a bar",)


def test_names_that_are_not_listed_yet_or_any_more_make_no_session_thin() -> None:
    spans = dict.fromkeys(NAMES[:3], (120, 249)) | dict.fromkeys(NAMES[3:6], (0, 119))
    assert found(panel(spans))["thin_sessions"].passed


def test_names_that_stop_before_the_holdout_are_told_by_its_sessions() -> None:
    spans = dict.fromkeys(NAMES[:5], (0, 199))
    few = found(panel(spans))["few_names_lately"]
    # 8 are usual, 3 are left from session 200 on: 3/8 is below one half
    assert few.n_offenders == 50
    assert few.n_checked == 63
    assert rows(few)[0] == (ALL, GRID[200], 0.375, 0.5)
    assert few.evidence[0].endswith("3 names have a bar, 8.0 is usual before the newest 63 sessions")
    assert found(panel(spans), quality={"recent_names_fraction": 0.3})["few_names_lately"].passed
    assert found(panel(dict.fromkeys(NAMES[:4], (0, 199))))["few_names_lately"].passed


def test_late_starts_and_early_ends_are_told_name_by_name() -> None:
    findings = found(panel({"S1": (22, 249), "S2": (21, 249), "S3": (0, 227), "S4": (0, 228)}))
    assert rows(findings["late_starts"]) == [("S1", GRID[22], 22.0, 21.0)]
    assert rows(findings["early_ends"]) == [("S3", GRID[227], 22.0, 21.0)]
    assert findings["late_starts"].evidence == (
        f"S1 {GRID[22]}: its first bar is 22 sessions after the panel begins on {START}: listed later, or its "
        "history was cut off",
    )
    assert (
        "its last bar is 22 sessions before the panel ends on 2023-12-29"
        in findings["early_ends"].evidence[0]
    )


def test_a_name_that_was_looked_at_is_told_no_more() -> None:
    accepted = [
        {"symbol": "S1", "session": GRID[22], "rule": "late_starts", "reason": "went public that day"}
    ]
    findings = found(panel({"S1": (22, 249)}), quality={"accepted": accepted})
    assert findings["late_starts"].passed
    assert findings["accepted_without_match"].passed


def test_a_panel_that_covers_less_than_was_asked_for_says_so_at_both_edges() -> None:
    edges = found(panel(), start=START - timedelta(days=60), end=END + timedelta(days=60))["panel_edges"]
    assert [row[:2] for row in rows(edges)] == [(ALL, START), (ALL, END)]
    assert edges.evidence[0] == (
        f"{ALL} 2023-01-03: the panel begins on 2023-01-03, 39 sessions off `start: 2022-11-04`"
    )
    assert "the panel ends on 2023-12-29, 39 sessions off `end: 2024-02-27`" in edges.evidence[1]
    assert found(panel(), start=START - timedelta(days=20))["panel_edges"].passed


def test_no_bars_give_no_edges_and_still_pass_nothing_unseen() -> None:
    findings = found(panel().clear())
    assert not any(findings[rule].passed for rule in WHOLE)
    assert all(findings[rule].n_offenders == 0 for rule in WHOLE)
