"""The desk: one hypothesis a trial, what has no row and why, and a page that says it safely."""

import base64
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from quant_assets.common.errors import LedgerError
from quant_assets.common.hashing import json_digest
from quant_assets.ledgers.trials import Trial, TrialLedger, trial_of
from quant_assets.reports.desk import (
    DeskReport,
    Listed,
    absent_table,
    desk_statistics,
    render_desk,
    strategy_table,
)
from quant_assets.statistics.multiple_testing import (
    false_discovery_rates,
    haircut_sharpe,
    rademacher_bounds,
    stepwise_superior_trials,
)
from quant_assets.statistics.sharpe import probabilistic_sharpe_ratio
from quant_assets_tests.reports.page_structure import require_fits
from quant_assets_tests.reports.test_tear_sheet import Page

Table = NDArray[np.float64]
YEAR = 252.0


def days(n: int, first: str = "2019-06-03") -> NDArray[np.datetime64]:
    return np.busday_offset(first, np.arange(n), roll="forward")


def stream(seed: int, n: int = 700, sharpe_annual: float = 0.0) -> Table:
    """Returns with exactly this annual Sharpe ratio."""
    noise = np.random.default_rng(seed).normal(size=n)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    return 0.01 * (noise + sharpe_annual / np.sqrt(YEAR))


def count(
    home: Path,
    book: str,
    strategy: str,
    returns: Table,
    *,
    first: str = "2019-06-03",
    at: str = "2026-01-02",
    idea: str = "",
    sketch: Iterable[int] = (),
) -> Trial:
    """Enter a trial by hand."""
    ledger, sessions = TrialLedger(home), days(len(returns), first)
    fingerprint = json_digest([book, strategy, idea, at, returns.tolist()])
    described = trial_of(
        book, fingerprint, returns, sessions, run_id="run", recorded_at=f"{at}T00:00:00+00:00"
    )
    kept = ledger.keep_sketch(np.array(list(sketch), dtype=np.uint64)) if sketch else ""
    trial = replace(
        described,
        strategy=strategy,
        idea=idea or f"idea of {strategy} at {at}",
        panel_until=str(sessions[-1]),
        sketch_sha256=kept,
    )
    return ledger.append(trial, returns, sessions)


def listed(*names: str, book: str = "us.forward") -> list[Listed]:
    return [Listed(name, book, YEAR, frozenset({f"today's {name}"})) for name in names]


def judged(home: Path, strategies: list[Listed]) -> DeskReport:
    return desk_statistics(home, strategies, standard="2025")


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """Two books: three trials in one, of which one is older; two in the other."""
    count(tmp_path, "us.forward", "momentum", stream(1, sharpe_annual=0.3), at="2026-01-02")
    count(tmp_path, "us.forward", "momentum", stream(2, sharpe_annual=3.5), at="2026-02-02")
    count(tmp_path, "us.forward", "value", stream(3, sharpe_annual=0.4), at="2026-01-05")
    count(tmp_path, "eu.forward", "carry", stream(4, 600, 0.9), at="2026-01-07", first="2019-06-03")
    count(tmp_path, "eu.forward", "retired", stream(5, 300, 1.2), at="2026-01-06", first="2020-01-06")
    return tmp_path


def on_the_desk() -> list[Listed]:
    return [*listed("momentum", "value", "new"), *listed("carry", book="eu.forward")]


# -------------------------------------------------------------------------------------------- what it computes


def test_every_trial_of_every_book_is_one_test_and_the_newest_track_is_the_strategys(desk: Path) -> None:
    report = judged(desk, on_the_desk())
    assert report.trials == 5
    assert [row.strategy for row in report.rows] == ["momentum", "carry", "value"]
    momentum, carry, value = report.rows
    assert (momentum.recorded_at[:10], momentum.sessions, momentum.book_trials) == ("2026-02-02", 700, 3)
    assert momentum.sharpe_annual == pytest.approx(3.5)
    assert (carry.book_trials, carry.sessions, value.book_trials) == (2, 600, 3)
    assert (report.since, {b.name: b.since for b in report.books}["eu.forward"]) == (
        "2026-01-02",
        "2026-01-06",
    )


def test_the_figures_are_those_of_the_statistics_over_all_trials(desk: Path) -> None:
    report = judged(desk, on_the_desk())
    annual = {"momentum": 3.5, "carry": 0.9, "value": 0.4}
    ratios = np.array([3.5, 0.9, 0.4, 0.3, 1.2]) / np.sqrt(YEAR)
    expected = haircut_sharpe(ratios, [700, 600, 700, 700, 300])
    for place, row in enumerate(report.rows):
        assert row.sharpe_annual == pytest.approx(annual[row.strategy])
        assert row.two_sided_p_value == pytest.approx(expected.p_values[place])
        for method, left in expected.sharpes.items():
            assert row.haircut_sharpe_annual[method] == pytest.approx(left[place] * np.sqrt(YEAR), abs=1e-9)
            assert row.haircut_fraction[method] == pytest.approx(expected.haircuts[method][place], abs=1e-9)
    single = [row.p_value for row in report.rows]
    np.testing.assert_allclose(
        [r.q_value for r in report.rows], false_discovery_rates(np.array(single, float))
    )
    # A normal's moments are close enough to those of the draws: the order of size is what is held here.
    plain = 1.0 - probabilistic_sharpe_ratio(ratios[:3], [700, 600, 700], standard="2025")
    np.testing.assert_allclose(np.array(single, float)[1:], plain[1:], rtol=0.3)


def test_stepm_and_bounds_are_over_the_sessions_that_all_tracks_share(desk: Path) -> None:
    report = judged(desk, on_the_desk())
    shared = report.together
    # 600 sessions of the shortest track; the retired trial began later and is left out.
    assert (shared.sessions, shared.trials, shared.left_out, shared.reason) == (600, 4, 1, "")
    assert (shared.first_session, shared.last_session) == ("2019-06-03", str(days(600)[-1]))
    streams = [stream(2, sharpe_annual=3.5), stream(4, 600, 0.9), stream(3, sharpe_annual=0.4)]
    matrix = np.column_stack([s[:600] for s in (*streams, stream(1, sharpe_annual=0.3))])
    bounds = rademacher_bounds(matrix)
    for place, row in enumerate(report.rows):
        # The columns come in another order, and the bootstrap and the complexity do not see it.
        assert row.superior == (place in stepwise_superior_trials(matrix).superior)
        assert row.bound_per_period == pytest.approx(bounds.lower[place])
        assert row.bound_annual == pytest.approx(bounds.lower[place] * np.sqrt(YEAR))
    assert [row.superior for row in report.rows] == [True, False, False]


def test_books_on_the_same_bars_count_together_and_no_trial_counts_twice(tmp_path: Path) -> None:
    count(tmp_path, "us.forward", "momentum", stream(1), sketch=range(100))
    count(tmp_path, "copy.forward", "twin", stream(2), sketch=range(90))
    report = judged(tmp_path, [*listed("momentum"), *listed("twin", book="copy.forward")])
    assert [row.book_trials for row in report.rows] == [2, 2]
    assert report.trials == 2
    assert {b.name: b.kin for b in report.books} == {
        "copy.forward": ("us.forward",),
        "us.forward": ("copy.forward",),
    }
    # Without its own strategy the copy's book still counts, through its kin.
    alone = judged(tmp_path, listed("momentum"))
    assert (alone.trials, [b.name for b in alone.books]) == (2, ["copy.forward", "us.forward"])
    assert alone.other_books == ()


def test_tracks_that_share_less_than_a_year_have_no_stepm_and_the_report_says_why(tmp_path: Path) -> None:
    count(tmp_path, "us.forward", "early", stream(1, 400))
    count(tmp_path, "us.forward", "late", stream(2, 400), first=str(days(401)[400 - 200]))
    report = judged(tmp_path, listed("early", "late"))
    assert report.together.reason == "the tracks share 200 sessions, and 252 are needed"
    assert [(row.superior, row.bound_annual) for row in report.rows] == [(None, None)] * 2
    assert all(row.haircut_sharpe_annual["holm"] is not None for row in report.rows)
    assert (
        "No StepM and no Rademacher bounds: the tracks share 200 sessions" in Page(render_desk(report)).text
    )
    assert strategy_table(report)["stepm"].to_list() == ["not run"] * 2


def test_a_track_without_variance_is_no_evidence(tmp_path: Path) -> None:
    count(tmp_path, "us.forward", "idle", np.zeros(300))
    (idle,) = judged(tmp_path, listed("idle")).rows
    assert (idle.p_value, idle.q_value, idle.sharpe_annual, idle.haircut_fraction["mean"]) == (
        None,
        1.0,
        0.0,
        None,
    )
    count(tmp_path, "us.forward", "busy", stream(1, 300))
    report = judged(tmp_path, listed("idle", "busy"))
    rows = {row.strategy: row for row in report.rows}
    assert (rows["idle"].superior, rows["idle"].bound_annual) == (False, None)
    assert rows["busy"].bound_annual is not None
    Page(render_desk(report))


# -------------------------------------------------------------------------------------- what has no row, and why


def test_a_strategy_without_a_row_is_listed_with_the_reason(desk: Path) -> None:
    count(desk, "us.forward", "value", stream(9), at="2026-01-04", idea="today's copied")
    count(desk, "adopted_later", "adopted_later", stream(8))
    strategies = [*on_the_desk(), *listed("copied", "adopted_later")]
    absent = {row.strategy: row.reason for row in judged(desk, strategies).absent}
    assert absent == {
        "new": "never evaluated: no trial of us.forward bears its name",
        "copied": "its idea was first looked at as value: one idea is one track, under that name",
        "adopted_later": "only 1 in a ledger of its own, of before books: it is taken over at its next look",
    }
    assert absent_table(judged(desk, strategies))["strategy"].to_list() == ["new", "copied", "adopted_later"]


def test_a_desk_that_tried_nothing_has_a_page_that_says_so(tmp_path: Path) -> None:
    for strategies in ([], listed("new")):
        report = judged(tmp_path, strategies)
        assert (report.trials, report.rows, report.since) == (0, (), "")
        assert report.together.reason == "no strategy has a track"
        assert "Nothing was tried yet" in Page(render_desk(report)).text
        assert strategy_table(report).is_empty()
        assert report.to_json()["trials"] == 0


def test_a_book_that_no_strategy_counts_in_is_named_and_in_no_figure(desk: Path) -> None:
    report = judged(desk, listed("momentum", "value"))
    assert (report.trials, report.other_books) == (3, ("eu.forward",))
    assert "In no figure: eu.forward" in Page(render_desk(report)).text


# ------------------------------------------------------------------------------------------------ damage and loss


def test_a_damaged_ledger_is_refused(desk: Path) -> None:
    (trial,) = (t for t in TrialLedger(desk).trials("us.forward") if t.strategy == "value")
    file = desk / "trials" / "us.forward" / f"{trial.fingerprint}.json"
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b'"n_obs":700', b'"n_obs":699'))
    with pytest.raises(LedgerError, match=r"us\.forward"):
        judged(desk, on_the_desk())
    file.write_bytes(whole)
    (desk / "objects" / trial.returns_sha256[:2] / trial.returns_sha256).unlink()
    with pytest.raises(LedgerError, match="stream of trial"):
        judged(desk, on_the_desk())


def test_a_shortened_ledger_is_refused_until_the_loss_is_acknowledged_and_lost_trials_keep_counting(
    desk: Path,
) -> None:
    before = judged(desk, on_the_desk())
    ledger = TrialLedger(desk)
    (value,) = (t for t in ledger.trials("us.forward") if t.strategy == "value")
    last = desk / "trials" / "us.forward" / "chain" / f"{3:08d}.json"
    (desk / "trials" / "us.forward" / f"{value.fingerprint}.json").unlink()
    last.unlink()
    with pytest.raises(LedgerError, match=r"trial ledger of us\.forward"):
        judged(desk, on_the_desk())
    ledger.anchors.acknowledge(
        "us.forward", ledger.heads, (), by="A. Person", reason="disk lost, no backup", at="2026-03-01"
    )
    after = judged(desk, on_the_desk())
    assert (after.trials, after.lost) == (5, 1)
    assert [row.book_trials for row in after.rows if row.book == "us.forward"] == [3]
    # Nothing is known of the lost trial, so it has taken nothing off what the others pay.
    first, second = before.rows[0], after.rows[0]
    assert second.haircut_sharpe_annual["bonferroni"] == first.haircut_sharpe_annual["bonferroni"]
    assert second.haircut_sharpe_annual["bhy"] <= first.haircut_sharpe_annual["bhy"]


def test_a_book_of_its_own_that_lost_its_end_is_refused(tmp_path: Path) -> None:
    kept, gone = (count(tmp_path, "us.forward", n, stream(i)) for i, n in enumerate(("momentum", "value")))
    folder = tmp_path / "trials" / "us.forward"
    (folder / f"{gone.fingerprint}.json").unlink()
    (folder / "chain" / f"{2:08d}.json").unlink()
    assert TrialLedger(tmp_path).trials("us.forward") == (kept,)  # the chain alone does not show it
    with pytest.raises(LedgerError, match=r"trial ledger of us\.forward: expected 2 linked trials"):
        judged(tmp_path, listed("momentum"))


# -------------------------------------------------------------------------------------------------------- the page


def test_the_same_ledgers_give_the_same_bytes_in_whatever_order_strategies_are_listed(desk: Path) -> None:
    strategies = on_the_desk()
    first, again = judged(desk, strategies), judged(desk, strategies)
    assert render_desk(first) == render_desk(again)
    assert [r.strategy for r in judged(desk, strategies[::-1]).rows] == [r.strategy for r in first.rows]


def test_the_page_stands_alone_and_says_what_each_column_is(desk: Path) -> None:
    html = render_desk(judged(desk, on_the_desk()))
    page = Page(html)
    sources = [attributes["src"] or "" for tag, attributes in page.elements if tag == "img"]
    assert len(sources) == 1
    assert base64.b64decode(sources[0].removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")
    assert "script" not in {tag for tag, _ in page.elements}
    require_fits(html, beside={"index.html"})
    for text in (
        "Information, not gates",
        "momentum",
        "1 of 3 strategies is better than doing nothing",
        "Harvey and Liu 2015",
        "Romano and Wolf",
        "Benjamini and Yekutieli",
        "Rademacher anti-serum",
        "counted since",
        "2026-01-02",
        "never evaluated",
        "1 have not every session",
    ):
        assert text in page.text, text
    heads = re.search(r"<thead>(.*?)</thead>", html, re.DOTALL)
    assert heads is not None
    words = re.findall(r"<th[^>]*>(.*?)</th>", heads[1])
    terms = " ".join(re.findall(r"<dt>(.*?)</dt>", html))
    assert len(words) == 14
    assert [word for word in words if word not in terms] == []


def test_names_cannot_put_anything_into_the_page(tmp_path: Path) -> None:
    hostile = (
        r"<img src=x onerror=alert(1)>$\frac$"  # the second half is no formula: drawn as one it is an error
    )
    count(tmp_path, "us.forward", hostile, stream(1, 300))
    html = render_desk(judged(tmp_path, [*listed(hostile), *listed("<script>alert(2)</script>")]))
    assert "<script" not in html
    assert "<img src=x" not in html
    assert hostile in Page(html).text
