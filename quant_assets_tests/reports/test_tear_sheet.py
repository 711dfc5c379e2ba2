"""The tear sheet: what it says, that it says it safely, and that it says it twice in the same bytes."""

import base64
import dataclasses
import hashlib
import os
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from quant_assets.common.pages import figure_png, new_figure, png_data_uri, sentence, themed_figure
from quant_assets.common.settings import DelistingConfig, StrategyConfig
from quant_assets.gates.evidence import judge_candidate
from quant_assets.gates.gate import gate_names
from quant_assets.gates.limits import GatesConfig
from quant_assets.gates.verdicts import Verdict
from quant_assets.ledgers.trials import TrialLedger, TrialSnapshot, trial_of
from quant_assets.reports.tear_sheet import (
    TearSheetInputs,
    candidate_tear_sheet,
    cost_table,
    render_tear_sheet,
    yearly_table,
)

SUBJECT = "5" * 64


def example(sharpe_annual: float = 0.5, n: int = 700, **changes: Any) -> TearSheetInputs:
    """A candidate of three paths, with one trial in its ledger."""
    rng = np.random.default_rng(4)
    days = np.busday_offset("2019-06-03", np.arange(n), roll="forward")
    frames = []
    for path, extra in enumerate((-0.2, 0.0, 0.2)):
        noise = rng.normal(size=n)
        noise = (noise - noise.mean()) / noise.std(ddof=1)
        net = 0.005 * (noise + (sharpe_annual + extra) / np.sqrt(252)) if sharpe_annual else np.zeros(n)
        costs = {
            "commission": np.full(n, 2e-5),
            "spread_cost": np.full(n, 3e-5),
            "impact_cost": np.full(n, 5e-5),
            "borrow_cost": np.zeros(n),
            "risk_free": np.zeros(n),
        }
        frames.append(
            pl.DataFrame(
                {"path": pl.Series([path] * n, dtype=pl.Int32), "session": days, "gross_return": net + 1e-4}
                | costs
                | {"net_return": net, "net_return_at_twice_costs": net - 1e-4, "turnover": np.full(n, 0.4)}
            )
        )
    returns = pl.concat(frames)
    snapshot = TrialSnapshot("s", (sharpe_annual / np.sqrt(252),), (0,), 1.0, "d" * 64, 1, "h" * 64)
    inputs = TearSheetInputs(
        strategy="us_tech_daily",
        report=judge_candidate(SUBJECT, returns, snapshot, GatesConfig(), 252.0),
        path_returns=returns,
        information_coefficients=pl.DataFrame(
            {
                "path": [0, 1],
                "mean_rank_ic": [0.0123, None],
                "rank_ic_sd": [0.2, None],
                "t_statistic": [2.0, None],
                "p_value": [0.046, None],
            }
        ).with_columns(n_sessions=pl.Series([700, 1])),
        feature_importance={f"feature_{i:02d}": (i + 1) / 300 for i in range(24)},
        caveats=("With 4 names this is a demonstration.",),
        provenance={"bars": "b" * 64},
    )
    return dataclasses.replace(inputs, **changes)


class Page(HTMLParser):
    """Tags, attributes and text of a page; refuses tags that are not closed in order."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def refused() -> str:
    return render_tear_sheet(example())


# ---------------------------------------------------------------------------------------------- what it says


def test_a_refused_model_reads_why_for_every_closed_gate(refused: str) -> None:
    page = Page(refused).text
    assert "REFUSED" in page
    assert "PROMOTABLE" not in page
    assert "4 of 6 gates are closed" in page
    for verdict in example().report.verdicts:
        said = sentence(verdict.reason)
        # once among the reasons if it is closed, and once on its card
        assert page.count(said) == (2 if verdict.status == "fail" else 1)
        if verdict.status == "fail":
            assert verdict.remedy[0].upper() + verdict.remedy[1:] in page


def test_an_admitted_model_is_promotable_and_says_what_is_judged_elsewhere() -> None:
    page = Page(render_tear_sheet(example(3.0))).text
    assert "PROMOTABLE" in page
    assert "REFUSED" not in page
    assert "All 6 gates" in page
    assert (
        "Judged separately before promotion: Walk-forward track, ONNX parity, INT8 parity, Feature drift"
        in page
    )


def test_a_gate_without_a_verdict_refuses_and_has_its_card() -> None:
    page = Page(render_tear_sheet(example(3.0, required_gates=gate_names()))).text
    assert "REFUSED" in page
    assert "4 of 10 gates are closed" in page
    assert page.count("the gate is closed") == 4


def test_verdicts_about_another_version_do_not_make_it_promotable() -> None:
    borrowed = Verdict("onnx_parity", "6" * 64, "pass", 1.0, 0.0, ">=", "it holds", "nothing")
    page = Page(
        render_tear_sheet(
            example(3.0, verdicts=(borrowed,), required_gates=(*gate_names("validation"), "onnx_parity"))
        )
    ).text
    assert "REFUSED" in page
    assert "Judged another model version (666666666666)" in page


def test_an_underpowered_gate_is_a_refusal_that_says_how_long_to_wait() -> None:
    inputs = example(4.0, n=200)
    page = Page(render_tear_sheet(inputs)).text
    assert "REFUSED" in page
    assert "underpowered" in page
    missing = (inputs.report.details["minimum_track_record_sessions"] - 200) / 252
    assert f"Needs {np.ceil(missing * 10) / 10:.1f} more years of record" in page
    assert missing == pytest.approx(304 / 252)  # 504 sessions at the least


def test_the_sheet_shows_trials_limits_caveats_and_where_it_came_from(refused: str) -> None:
    page = Page(refused).text
    for words in (
        "trials recorded (N) 1",
        "effective number of trials 1.0",
        "With 4 names this is a demonstration.",
        "Limits: Sharpe ≥ 1.2, PSR ≥ 0.95, DSR ≥ 0.95, drawdown ≥ −20% at 10% volatility, probability of loss ≤ 0.05",
        "Sharpe inference 2025",
        SUBJECT,
        "b" * 64,
    ):
        assert words in page


def test_numbers_that_do_not_exist_are_dashes_and_never_nan() -> None:
    for inputs in (
        example(0.0),
        example(information_coefficients=pl.DataFrame(), feature_importance={}, caveats=()),
    ):
        page = Page(render_tear_sheet(inputs)).text
        assert not re.search(r"\b(nan|None|inf)\b", page)
        assert "–" in page
    assert "No session has two symbols to rank." in page


def test_the_years_of_a_path_are_worked_out_one_by_one() -> None:
    days = pl.date_range(pl.date(2020, 12, 1), pl.date(2021, 1, 10), eager=True)
    net = np.where(np.arange(len(days)) % 2 == 0, 0.02, -0.01)
    path = pl.DataFrame({"session": days, "net_return": net, "turnover": np.linspace(0, 1, len(days))})
    december, january = yearly_table(path, 252.0)
    assert (december["year"], december["sessions"]) == ("2020", 31)
    assert december["net_return"] == pytest.approx(1.02**16 * 0.99**15 - 1)
    assert december["sharpe_annual"] == pytest.approx(net[:31].mean() / net[:31].std(ddof=1) * np.sqrt(252))
    assert december["drawdown_fraction"] == pytest.approx(-0.01)
    assert january["turnover"] == pytest.approx(np.linspace(0, 1, len(days))[31:].mean())
    assert np.isnan(january["sharpe_annual"])  # ten sessions say nothing


def test_gross_less_each_cost_is_net() -> None:
    path = example().path_returns.filter(pl.col("path") == 0)
    rows = {row["label"]: row["annual"] for row in cost_table(path, 252.0)}
    assert rows["commission"] == pytest.approx(-2e-5 * 252)
    twice = rows.pop("net return at twice the costs")
    assert twice == pytest.approx(rows["net return"] - 1e-4 * 252)
    assert sum(rows.values()) - rows["net return"] == pytest.approx(rows["net return"])


def test_a_sheet_of_a_strategy_computes_its_own_ic_and_warns_of_few_names() -> None:
    inputs = example()
    predictions = (
        inputs.path_returns.filter(pl.col("path") == 0)
        .select("session")
        .join(pl.DataFrame({"symbol": ["A", "B", "C"], "path_0": [1.0, 2.0, 3.0]}), how="cross")
    )
    predictions = predictions.with_columns(path_1="path_0", path_2="path_0")
    labels = predictions.select("symbol", "session", forward_return="path_0")
    html = candidate_tear_sheet(
        inputs.report,
        inputs.path_returns,
        predictions,
        labels,
        bars_of(predictions),
        walk_forward=inputs.path_returns.filter(pl.col("path") == 0).tail(200),
        importance={"rsi_14": 1.0},
        strategy=StrategyConfig(name="some_name", universe="u"),
        delisting=DelistingConfig(final_return=-0.3),
        n_symbols=3,
    )
    page = Page(html).text
    assert "With 3 names this is a demonstration" in page
    assert "walk-forward, from 20" in page
    assert "A name whose bars end leaves the book at its last close -30%, with costs" in page
    assert "0 1.0000 0.000 – – 700" in page  # the ranks agree on every session: an IC of 1 without variance
    year = " ".join(["1.00"] * 12)
    assert f"2020 {year} 1.000 2021 {year} 1.000" in page
    assert "2019 – – – – – 1.00 1.00" in page  # the record begins in June
    for words in ("calm", "turbulent", "before terciles are known"):
        assert words in page
    # scores that never change hold the same book in a driftless market: no account earns anything
    assert "No account of 1,000,000 or more reaches the required net Sharpe ratio of 1.20." in page
    assert (
        len([tag for tag, _ in Page(html).elements if tag == "img"]) == 5
    )  # capacity, but one trial: no PBO


def test_several_trials_show_their_overfitting_and_the_p_value_of_the_best(tmp_path: Path) -> None:
    inputs = example(1.6)
    path = inputs.path_returns.filter(pl.col("path") == 1)
    ledger, days = TrialLedger(tmp_path), path["session"].to_numpy()
    noise = np.random.default_rng(9).normal(0.0, 0.005, (7, len(days)))
    for number, stream in enumerate([*noise, path["net_return"].to_numpy()]):
        trial = trial_of("s", f"t{number}", stream, days, run_id="r", recorded_at="t")
        ledger.append(trial, stream, days)
    report = judge_candidate(
        SUBJECT, inputs.path_returns, ledger.snapshot("s"), GatesConfig(), 252.0, ledger.returns_matrix("s")
    )
    page = Page(render_tear_sheet(dataclasses.replace(inputs, report=report)))
    trials = report.details["trials"]
    best, logits = trials["superior_ability"], trials["overfitting_logits"]
    resamples = f"(SPA; 2000 resamples, blocks of {best['block_length']:.0f})"
    assert f"p-value of the best trial against doing nothing {resamples} {best['p_value']:.3f}" in page.text
    assert f"the same by White's Reality Check {best['reality_check_p_value']:.3f}" in page.text
    assert 0.001 < best["p_value"] < 1.0
    assert len([tag for tag, _ in page.elements if tag == "img"]) == 5
    assert "trial that was best in one half ranked among 8 in the other" in page.text
    # the histogram says what the gate read
    overfitted = sum(n for n, end in zip(logits["counts"], logits["edges"][1:], strict=True) if end <= 0)
    assert sum(logits["counts"]) == 12_870
    assert overfitted / 12_870 == pytest.approx(report.details["probability_of_backtest_overfitting"])


def bars_of(predictions: pl.DataFrame) -> pl.DataFrame:
    """Driftless bars from before the first decision until after the last one's valuation."""
    last = predictions["session"].max()
    days = np.busday_offset(np.datetime64("2019-01-01"), np.arange(1000), roll="forward")
    days = days[: np.searchsorted(days, np.datetime64(last)) + 4]
    rng = np.random.default_rng(2)
    frames = []
    for symbol in ("A", "B", "C"):
        steps = 0.01 * rng.normal(size=len(days))
        close = 100.0 * np.exp(np.cumsum(steps - steps.mean()))
        prices = dict.fromkeys(("open", "high", "low", "close"), close)
        frames.append(
            pl.DataFrame({"symbol": symbol, "session": days, **prices, "volume": np.full(len(days), 1e5)})
        )
    return pl.concat(frames)


# ------------------------------------------------------------------------------------------------- that it is safe


def test_a_page_needs_nothing_but_itself(refused: str) -> None:
    page = Page(refused)
    assert not [tag for tag, _ in page.elements if tag in {"script", "link", "iframe", "a", "object"}]
    images = [attributes["src"] for tag, attributes in page.elements if tag == "img"]
    assert len(images) == 4
    for source in images:
        assert source is not None
        assert base64.b64decode(source.removeprefix("data:image/png;base64,"))[:8] == b"\x89PNG\r\n\x1a\n"
    assert "http" not in re.sub(r'http-equiv|src="[^"]*"', "", refused)
    assert all(attributes.get("alt") for tag, attributes in page.elements if tag == "img")
    assert 'name="viewport" content="width=device-width' in refused


def test_text_from_outside_cannot_become_markup() -> None:
    attack = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
    verdict = Verdict(attack, SUBJECT, "fail", 0.0, 1.0, ">=", attack, attack)
    html = render_tear_sheet(
        example(
            strategy=attack,
            description=attack,
            caveats=(attack,),
            provenance={attack: attack},
            verdicts=(verdict,),
            required_gates=(*gate_names("validation"), attack),
        )
    )
    page = Page(html)
    assert "<script" not in html
    assert not [a for _, a in page.elements if any(name.startswith("on") for name in a)]
    assert attack in page.text
    assert len([tag for tag, _ in page.elements if tag == "img"]) == 4


# ------------------------------------------------------------------------------------ that it says it twice


def test_the_same_candidate_gives_the_same_bytes(refused: str) -> None:
    assert render_tear_sheet(example()) == refused


AGAIN = """
import hashlib, sys
from quant_assets_tests.reports.test_tear_sheet import example
from quant_assets.reports.tear_sheet import render_tear_sheet
print(hashlib.sha256(render_tear_sheet(example()).encode()).hexdigest(), "matplotlib.pyplot" in sys.modules)
"""


def test_another_process_with_other_user_settings_gives_the_same_bytes_without_pyplot(
    refused: str, tmp_path: Path
) -> None:
    (tmp_path / "matplotlibrc").write_text("font.size: 30\nlines.linewidth: 9\naxes.facecolor: red\n")
    environment = os.environ | {
        "PYTHONHASHSEED": "7",
        "MATPLOTLIBRC": str(tmp_path),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    answer = subprocess.run(
        [sys.executable, "-c", AGAIN],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        cwd=tmp_path,
    )
    assert answer.stdout.split() == [hashlib.sha256(refused.encode()).hexdigest(), "False"]


def chunks(png: bytes) -> Iterator[tuple[str, bytes]]:
    position = 8
    while position < len(png):
        (length,) = struct.unpack(">I", png[position : position + 4])
        yield png[position + 4 : position + 8].decode(), png[position + 8 : position + 8 + length]
        position += 12 + length


def test_a_picture_carries_no_date_and_no_version() -> None:
    figure, axes = new_figure()
    axes.plot([0.0, 1.0], [1.0, 0.0])
    png = figure_png(figure)
    kinds = [kind for kind, _ in chunks(png)]
    assert set(kinds) == {"IHDR", "pHYs", "IDAT", "IEND"}
    assert b"Matplotlib" not in png
    assert base64.b64decode(png_data_uri(png).split(",")[1]) == png


def test_the_theme_holds_inside_the_block_and_leaves_no_trace_outside() -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    with themed_figure() as (figure, axes):
        axes.plot([0.0, 1.0], [0.0, 1.0], label="line")
        legend = axes.legend()
        assert not legend.get_frame_on()
        assert axes.lines[0].get_linewidth() == 1.6
        inside = figure_png(figure)
    assert dict(mpl.rcParams) == before
    assert figure_png(figure) == inside
