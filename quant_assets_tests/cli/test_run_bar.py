"""The bar of a whole run: k of N assets, what is at work and how far, and the time that is left."""

from io import StringIO

import pytest
from rich.console import Console

from quant_assets.cli.terminal import RunBar


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def shown() -> StringIO:
    return StringIO()


@pytest.fixture
def bar(clock: Clock, shown: StringIO) -> RunBar:
    return RunBar(clock, Console(file=shown, force_terminal=True, width=120))


def state(bar: RunBar) -> tuple[str, str, str]:
    """What it says: how many, what is at work, what is left."""
    (task,) = bar._bar.tasks
    return task.fields["count"], task.description, task.fields["left"]


def test_it_counts_assets_and_says_how_far_the_one_at_work_is(bar: RunBar, clock: Clock) -> None:
    bar.on({"event": "plan", "names": ["m/raw_bars", "m/bars", "s/cpcv_predictions", "s/promotion"]})
    assert state(bar) == ("0 of 4 assets", "", "")
    bar.on({"event": "start", "asset_key": "m/raw_bars[2001]"})
    assert state(bar) == ("0 of 4 assets", "m/raw_bars", "")
    bar.on({"event": "asset", "asset_key": "m/raw_bars, 2 years", "status": "computed", "seconds": 1.0})
    assert state(bar)[0] == "1 of 4 assets"
    bar.on({"event": "asset", "asset_key": "m/bars", "status": "reused", "seconds": 0.0})
    clock.now = 10.0
    # Usual shares: 1 + 1 of 110 are done, and half of 100.
    bar.on({"event": "progress", "asset_key": "s/cpcv_predictions", "done": 5, "total": 10, "what": "splits"})
    assert state(bar) == ("2 of 4 assets", "s/cpcv_predictions: 5 of 10 splits", "about 11 s left")
    clock.now = 100.0
    bar.on({"event": "progress", "asset_key": "s/cpcv_predictions", "done": 5, "total": 10, "what": "splits"})
    assert state(bar)[2] == "about 2 min left"


def test_what_a_refusal_or_a_settled_strategy_leaves_out_is_no_more_to_be_done(bar: RunBar) -> None:
    bar.on({"event": "plan", "names": ["s/labels", "s/promotion", "s/champion"]})
    bar.on({"event": "ended", "names": ["s/labels", "s/promotion", "s/champion"]})
    assert state(bar)[0] == "3 of 3 assets"


def test_a_warning_is_a_line_above_the_bar_and_an_asset_is_none(bar: RunBar, shown: StringIO) -> None:
    bar.on({"event": "asset", "asset_key": "s/labels", "status": "computed", "seconds": 1.0})
    assert shown.getvalue() == ""
    bar.on({"event": "disk is slow", "level": "warning", "place": "[home]"})
    assert "disk is slow" in shown.getvalue()
