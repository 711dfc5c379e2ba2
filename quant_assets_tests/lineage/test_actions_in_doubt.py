"""The stage of corporate actions and its checks: doubts warn, and declarations settle them."""

from datetime import date, timedelta

import polars as pl
import pytest

from quant_assets.common.store import Table
from quant_assets.common.universe_settings import ActionsConfig
from quant_assets.lineage.artifact import Held, Partitions
from quant_assets.lineage.declaring import CheckResult
from quant_assets.lineage.stages import action_stages

DAYS = [date(2024, 1, 2) + timedelta(days=k) for k in range(6)]
NONE = ActionsConfig()
WHY = "notice of the exchange"


def bars(symbol: str, close: list[float], adjusted: list[float]) -> pl.DataFrame:
    prices = dict.fromkeys(("open", "high", "low", "close"), close)
    return pl.DataFrame({"symbol": symbol, "session": DAYS, **prices, "volume": 100.0, "adj_close": adjusted})


SPLIT = bars("GOOD", [100.0] * 3 + [50.0] * 3, [50.0] * 6)
# 8.00 less 1.00 in cash, or eight shares for seven; and a split that the raw close never shows.
QUOTED = [8.01, 7.98, 8.0, 7.03, 6.97, 7.01]
DOUBTFUL = bars("HALF", QUOTED, [7.00875, 6.9825, 7.0, *QUOTED[3:]])
PASTED = bars("BAD", [100.0] * 6, [50.0] * 3 + [100.0] * 3)


def judged(raw: pl.DataFrame, actions: ActionsConfig = NONE) -> tuple[pl.DataFrame, CheckResult, CheckResult]:
    panel = Held("u/raw_bars", Table(raw))
    product = action_stages.corporate_actions(panel, actions=actions)
    made = Held("u/corporate_actions", product.value)
    doubt = action_stages.actions_in_doubt(made)
    return product.value.frame, doubt, action_stages.actions_declared(panel, actions=actions)


def test_without_a_doubt_both_checks_pass_and_the_table_carries_nothing_else() -> None:
    actions, doubt, declared = judged(SPLIT)
    assert actions.select("symbol", "kind", "ratio").rows() == [("GOOD", "split", 2.0)]
    assert (doubt.passed, declared.passed) == (True, True)


@pytest.mark.parametrize(
    ("spoilt", "severity", "told"),
    [(DOUBTFUL, "WARN", "HALF 2024-01-05 ambiguous"), (PASTED, "WARN", "BAD 2024-01-05 contradiction")],
)
def test_ambiguities_and_contradictions_are_shown_and_stop_no_other_name(
    spoilt: pl.DataFrame, severity: str, told: str
) -> None:
    actions, doubt, _ = judged(pl.concat([SPLIT, spoilt]))
    assert ("GOOD", "split") in actions.select("symbol", "kind").rows()
    assert (doubt.passed, doubt.severity) == (False, severity)
    assert told in doubt.description


def test_a_declaration_settles_a_contradiction_and_one_without_a_bar_is_told() -> None:
    settled = {"symbol": "BAD", "session": "2024-01-05", "kind": "none", "reason": WHY}
    stray = {"symbol": "ZZZ", "session": "2024-01-05", "kind": "split", "ratio": 2, "reason": WHY}
    config = ActionsConfig.model_validate([settled, stray])
    _, doubt, declared = judged(pl.concat([SPLIT, PASTED]), config)
    assert doubt.passed
    assert (declared.passed, declared.severity) == (False, "WARN")
    assert "ZZZ 2024-01-05: the universe has no bars of this symbol" in declared.description


def test_partitions_are_read_as_one_panel() -> None:
    whole = Partitions({"2024": Held("u/raw_bars", Table(SPLIT))})
    product = action_stages.corporate_actions(whole, actions=NONE)
    assert product.value.frame.height == 1


def test_a_declared_action_of_which_the_feed_shows_nothing_is_told() -> None:
    """The attack: twenty spin-offs that nobody saw made +125 % of a year of +23 %, and every check passed."""
    made_up = {
        "symbol": "GOOD",
        "session": "2024-01-03",
        "kind": "spin_off",
        "price_factor": 0.97,
        "reason": WHY,
    }
    true = {"symbol": "GOOD", "session": "2024-01-05", "kind": "split", "ratio": 2, "reason": WHY}
    nothing = {"symbol": "GOOD", "session": "2024-01-04", "kind": "none", "reason": WHY}
    _, _, declared = judged(SPLIT, ActionsConfig.model_validate([made_up, true, nothing]))
    assert (declared.passed, declared.severity) == (False, "WARN")
    assert declared.description.startswith("1 declared actions")
    assert "GOOD 2024-01-03: adj_close shows no spin_off there" in declared.description
    # A feed without adjusted closes says nothing about anybody's actions.
    silent = SPLIT.with_columns(adj_close=pl.lit(None, dtype=pl.Float64))
    assert judged(silent, ActionsConfig.model_validate([made_up]))[2].passed
