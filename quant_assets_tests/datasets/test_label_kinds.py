"""Labels of every kind against values worked out by hand, and against statsmodels."""

import math
from datetime import date

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
from pydantic import ValidationError

from quant_assets.common.settings import LabelConfig
from quant_assets.datasets import make_labels, prove_labels, trailing_volatility
from quant_assets.market.calendar import session_times
from quant_assets.testing.random_market import random_market, times

TIMES = session_times("XNYS", date(2024, 1, 2), date(2024, 3, 28)).sort("session")


def panel(closes: list[float], opens: dict[int, float] | None = None) -> pl.DataFrame:
    """One name; it opens where it closed the session before, but for what is given."""
    opened = [closes[0], *closes[:-1]]
    for index, price in (opens or {}).items():
        opened[index] = price
    n = len(closes)
    return pl.DataFrame(
        {
            "symbol": ["A"] * n,
            "session": TIMES["session"].head(n),
            "open": opened,
            "close": closes,
            "volume": [1e6] * n,
        }
    ).with_columns(high=pl.max_horizontal("open", "close"), low=pl.min_horizontal("open", "close"))


# Six closes whose returns are +1 % and -1 % in turn: the decision falls on the sixth, with a known volatility.
CALM = [100.0, 101.0, 99.99, 100.9899, 99.980001, 100.97980101]
SIGMA = math.sqrt(np.var([0.01, -0.01, 0.01, -0.01, 0.01], ddof=1))  # .010954


def barrier(closes: list[float], **options: object) -> dict[str, object]:
    """The label of the sixth session, of a horizon of three."""
    label = LabelConfig(
        kind="triple_barrier",
        horizon_sessions=3,
        target=options.pop("target", None),
        options={"volatility_sessions": 5, **options},
    )
    made = make_labels(panel([*CALM, *closes], {6: 100.0}), TIMES, label)
    return made.filter(pl.col("session") == TIMES["session"][5]).row(0, named=True)


def test_volatility_is_the_sample_deviation_of_the_last_returns_and_unknown_before():
    made = trailing_volatility(panel(CALM), 5)["volatility"]
    assert made.head(5).null_count() == 5
    assert made[5] == pytest.approx(SIGMA, rel=1e-9)
    assert pytest.approx(0.010954451, rel=1e-6) == SIGMA


def test_the_upper_barrier_touched_first_ends_the_label_at_that_close():
    # Entry 100, two volatilities are 2.19: 102.0 is inside, 102.5 is a touch, what follows does not count.
    row = barrier([102.0, 102.5, 90.0, 90.0, 90.0], profit_taking=2.0, stop_loss=2.0)
    assert row["target"] == 1.0
    assert (row["t1"], row["known_at"]) == (TIMES["close_at"][7], TIMES["close_at"][9])
    assert row["forward_return"] == pytest.approx(0.025)
    assert row["t0"] == TIMES["close_at"][5]


def test_the_lower_barrier_touched_first_is_minus_one_whatever_comes_back():
    row = barrier([97.0, 120.0, 120.0, 120.0, 120.0], profit_taking=2.0, stop_loss=2.0)
    assert (row["target"], row["t1"]) == (-1.0, TIMES["close_at"][6])
    assert row["forward_return"] == pytest.approx(-0.03)


def test_without_a_touch_the_label_ends_at_the_open_after_the_horizon():
    row = barrier([100.5, 100.5, 101.0, 101.0, 101.0], profit_taking=2.0, stop_loss=2.0)
    assert (row["target"], row["t1"], row["known_at"]) == (1.0, TIMES["open_at"][9], TIMES["close_at"][9])
    assert row["forward_return"] == pytest.approx(0.01)
    assert (
        barrier([100.5, 100.5, 101.0, 101.0, 101.0], profit_taking=2.0, vertical="zero", stop_loss=2.0)[
            "target"
        ]
        == 0.0
    )


def test_a_touch_at_the_close_after_the_horizon_is_none():
    # The position is left at the open of the fourth session after the decision; its close is nobody's.
    row = barrier([100.0, 100.0, 100.0, 150.0, 150.0], profit_taking=2.0, stop_loss=2.0)
    assert (row["target"], row["t1"]) == (0.0, TIMES["open_at"][9])


def test_a_side_without_a_barrier_is_never_touched_and_classes_are_one_and_zero():
    assert barrier([90.0, 102.5, 100.0, 100.0, 100.0], profit_taking=2.0, stop_loss=None)["target"] == 1.0
    assert barrier([97.0, 120.0, 120.0, 120.0, 120.0], target="class")["target"] == 0
    assert barrier([103.0, 90.0, 90.0, 90.0, 90.0], target="class")["target"] == 1


def test_an_early_touch_is_no_label_before_the_horizon_has_ended():
    # Rows that were touched early would be trained on, their neighbours not: their being there would tell.
    label = LabelConfig(kind="triple_barrier", horizon_sessions=3, options={"volatility_sessions": 5})
    touched = [*CALM, 120.0, 120.0, 120.0]
    day = TIMES["session"][5]
    assert day not in make_labels(panel(touched), TIMES, label)["session"].to_list()
    assert day in make_labels(panel([*touched, 120.0]), TIMES, label)["session"].to_list()


def test_a_volatility_scaled_return_is_the_return_over_volatility_and_root_of_the_horizon():
    label = LabelConfig(kind="volatility_scaled", horizon_sessions=4, options={"volatility_sessions": 5})
    made = make_labels(panel([*CALM, *[103.0] * 6], {6: 100.0}), TIMES, label)
    row = made.filter(pl.col("session") == TIMES["session"][5]).row(0, named=True)
    assert row["target"] == pytest.approx(0.03 / (SIGMA * 2.0), rel=1e-9)


def test_the_strongest_trend_has_the_t_value_of_ordinary_least_squares():
    bars = random_market(4, 120)
    label = LabelConfig(kind="trend_scanning", horizon_sessions=8, options={"shortest_sessions": 3})
    made = make_labels(bars, times(120), label).filter(pl.col("symbol") == "S0")
    closes = bars.filter(pl.col("symbol") == "S0")["close"].to_numpy()
    order = {day: n for n, day in enumerate(times(120)["session"])}
    assert made.height == 120 - 9
    for session, target in made.select("session", "target").iter_rows():
        start, best = order[session], 0.0
        for length in range(3, 9):
            window = closes[start : start + length + 1]
            t = sm.OLS(window, sm.add_constant(np.arange(length + 1.0))).fit().tvalues[1]
            best = t if abs(t) > abs(best) else best
        assert target == pytest.approx(best, rel=1e-6)


def test_a_trend_by_hand():
    # Closes 1, 2, 4 on 0, 1, 2: slope 1.5, residuals 1/6, -1/3, 1/6, so s2 = 1/6, se = sqrt(1/6 / 2), t = 5.196.
    bars = panel([1.0, 2.0, 4.0, 4.0, 4.0])
    label = LabelConfig(kind="trend_scanning", horizon_sessions=2, options={"shortest_sessions": 2})
    made = make_labels(bars, TIMES, label)
    assert made["target"][0] == pytest.approx(1.5 / math.sqrt(1 / 12))
    assert made["target"][0] == pytest.approx(5.196152, rel=1e-6)
    # Which window is the strongest is known when the longest has ended.
    assert made["t1"][0] == TIMES["open_at"][3]


def test_a_straight_line_and_a_flat_one_have_no_t_value():
    label = LabelConfig(kind="trend_scanning", horizon_sessions=2, options={"shortest_sessions": 2})
    made = make_labels(panel([5.0, 5.0, 5.0, 6.0, 7.0, 7.5, 7.6]), TIMES, label)
    assert TIMES["session"][0] not in made["session"].to_list()  # 5, 5, 5
    assert TIMES["session"][2] not in made["session"].to_list()  # 5, 6, 7
    assert made["session"].to_list() == [TIMES["session"][1], TIMES["session"][3]]


def test_a_meta_label_says_whether_the_side_of_the_feature_made_money():
    bars = random_market(6, 200)
    options = {"feature": {"pack": "technical_v1", "name": "nma_20"}}
    made = make_labels(bars, times(200), LabelConfig(kind="meta", options=options))
    assert set(made["side"].unique()) == {-1, 1}
    won = (made["side"] * made["forward_return"]) > 0
    assert made["target"].to_list() == won.cast(pl.Int8).to_list()
    assert made.schema["target"] == pl.Int8


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("volatility_scaled", {"volatility_sessions": 20}),
        ("triple_barrier", {"volatility_sessions": 20, "profit_taking": 2.0}),
        ("trend_scanning", {}),
        ("meta", {"feature": {"pack": "technical_v1", "name": "nma_20"}}),
    ],
)
def test_no_kind_uses_a_bar_after_its_own_t1(kind: str, options: dict[str, object]):
    bars, days = random_market(6, 260), times(260)
    label = LabelConfig(kind=kind, options=options, horizon_sessions=10)
    report = prove_labels(lambda b: make_labels(b, days, label), bars, days)
    assert report.violations == ()
    assert report.compared > 1000
    made = make_labels(bars, days, label)
    assert (made["t0"] < made["t1"]).all()
    assert (made["t1"] <= made["known_at"]).all()
    assert made["target"].is_finite().all() if made.schema["target"].is_float() else True


def test_the_window_of_the_book_as_t1_is_found_to_end_too_early():
    """Lopez de Prado's own t1 of a trend scan: the end of the strongest window, which later closes have chosen."""
    bars, days = random_market(4, 260), times(260)
    label = LabelConfig(kind="trend_scanning", horizon_sessions=10)
    closes = dict(zip(days["session"].to_list(), days["close_at"].to_list(), strict=True))
    sessions = days["session"].to_list()

    def as_in_the_book(panel: pl.DataFrame) -> pl.DataFrame:
        made = make_labels(panel, days, label)
        early = [closes[sessions[sessions.index(day) + 4]] for day in made["session"]]
        ends = pl.Series(early, dtype=made.schema["t1"])
        return made.with_columns(t1=ends, known_at=pl.max_horizontal("known_at", ends))

    found = [v.experiment for v in prove_labels(as_in_the_book, bars, days).violations]
    assert found == ["bars_after_t1", "bar_of_t1_after_its_open"] or found == ["bars_after_t1"]


# ----------------------------------------------------------------------------------------------- configuration


def test_every_kind_is_a_look_at_the_same_returns():
    kinds: list[dict[str, object]] = [
        {"kind": "return"},
        {"kind": "direction"},
        {"kind": "volatility_scaled"},
        {"kind": "triple_barrier"},
        {"kind": "trend_scanning"},
        {"kind": "meta", "options": {"rule": "my_desk.rules:trend"}},
        {"kind": "my_desk.labels:mine", "options": {"anything": 1}},
        {"kind": "my_desk.labels:other", "target": "class"},
    ]
    assert {LabelConfig.model_validate(kind).family for kind in kinds} == {"forward_return"}


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"kind": "tripple_barrier"}, "one of return, direction, volatility_scaled, triple_barrier"),
        ({"kind": "return", "options": {"cap": 1}}, "options of kind: return (none); cap"),
        ({"kind": "triple_barrier", "options": {"profit": 1}}, "profit_taking"),
        (
            {"kind": "triple_barrier", "options": {"profit_taking": None, "stop_loss": None}},
            "without a barrier",
        ),
        ({"kind": "triple_barrier", "options": {"profit_taking": -1}}, "options of kind: triple_barrier"),
        ({"kind": "return", "target": "class"}, "target: number with kind: return"),
        ({"kind": "trend_scanning", "horizon_sessions": 2}, "shortest_sessions of at most"),
        ({"kind": "meta"}, "one of feature"),
    ],
)
def test_what_does_not_go_together_is_refused_with_what_would(section: dict[str, object], said: str):
    with pytest.raises(ValidationError) as refused:
        LabelConfig.model_validate(section)
    assert said in str(refused.value)
