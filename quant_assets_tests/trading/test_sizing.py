"""Schemes and constraints: what each holds, by hand and by invariant, and that nothing later is looked at."""

import sys
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError as Refused

from quant_assets.common.errors import ValidationError
from quant_assets.common.portfolio_settings import ConstraintsConfig
from quant_assets.common.settings import CostConfig, PortfolioConfig
from quant_assets.testing.small_market import scores_on, small_market
from quant_assets.trading.account import Matrix
from quant_assets.trading.constraints import constrained
from quant_assets.trading.decision import Decision, Known, standardised
from quant_assets.trading.portfolio import decided, simulate, track
from quant_assets.trading.proof import nothing_later
from quant_assets.trading.schemes import market_betas
from quant_assets.trading.sizing import target_weights


def known(
    n: int = 4,
    returns: Matrix | None = None,
    previous: list[float] | None = None,
    sectors: tuple[str, ...] = (),
    **told: float,
) -> Decision:
    """What is known of n names."""
    return Decision(
        session=date(2024, 3, 4),
        session_before=date(2024, 3, 1),
        symbols=tuple("ABCDEFGHIJ"[:n]),
        returns=np.random.default_rng(0).normal(0, 0.01, (252, n)) if returns is None else returns,
        sigma_daily=np.full(n, 0.01),
        adv_notional=np.full(n, told.get("adv", 1e8)),
        previous=np.zeros(n) if previous is None else np.array(previous),
        sectors=sectors or ("",) * n,
        capital=told.get("capital", 1e7),
        gross_leverage=told.get("gross", 1.0),
        periods_per_year=252.0,
    )


def portfolio(
    scheme: str, _constraints: dict[str, float] | None = None, **options: object
) -> PortfolioConfig:
    """A portfolio of a scheme with options."""
    return PortfolioConfig.model_validate(
        {"scheme": {"use": scheme, "options": options}, "constraints": _constraints or {}}
    )


def weights(scheme: str, scores: list[float], at: Decision, **options: object) -> list[float]:
    """Weights, rounded."""
    return target_weights(np.array(scores), portfolio(scheme, **options), at).round(10).tolist()


NAN = float("nan")


def test_z_scores_weigh_by_distance_from_the_mean() -> None:
    # Mean 2, deviations -2, -1, 0, 3: of 6 in all.
    assert weights("z_score", [0.0, 1.0, 2.0, 5.0], known()) == pytest.approx([-1 / 3, -1 / 6, 0.0, 0.5])
    assert weights("z_score", [0.0, 1.0, 2.0, 5.0], known(), long_only=True) == [0.0, 0.0, 0.0, 1.0]
    assert weights("z_score", [1.0, 1.0, NAN, 1.0], known()) == [0.0] * 4


def test_the_best_names_are_bought_and_the_worst_sold_alike() -> None:
    scores = [0.3, -1.0, 0.1, 9.0]
    assert weights("top_k", scores, known(), names=1) == [0.0, -0.5, 0.0, 0.5]
    assert weights("top_k", scores, known(), names=3, long_only=True) == pytest.approx(
        [1 / 3, 0.0, 1 / 3, 1 / 3]
    )
    # More names than there are: each side has half of them. Among equals the alphabet decides.
    assert weights("top_k", [2.0, 2.0, NAN, 1.0], known(), names=5) == [0.5, 0.0, 0.0, -0.5]
    assert weights("top_k", [2.0, 2.0, 2.0, 2.0], known(), names=1) == [0.0] * 4


def test_the_expected_volatility_is_the_target_or_the_leverage_binds() -> None:
    # Two names that move against each other: long one and short the other is 2 x .5 x 1 % = 1 % a session.
    move = 0.01 * np.tile([1.0, -1.0], 126) * np.sqrt(251 / 252)
    at = known(2, returns=np.column_stack([move, -move]))
    annual = 0.01 * np.sqrt(252)
    held = weights("volatility_target", [1.0, 2.0], at, annual_volatility=0.05)
    assert held == pytest.approx([-0.5 * 0.05 / annual, 0.5 * 0.05 / annual])
    assert weights("volatility_target", [1.0, 2.0], at, annual_volatility=0.9) == [-0.5, 0.5]


def test_every_sector_is_neutral() -> None:
    at = known(5, sectors=("x", "x", "x", "y", "y"))
    held = np.array(weights("sector_neutral", [3.0, 1.0, 2.0, 9.0, 8.0], at))
    # Ranks within x: 3, 1, 2 -> 1, -1, 0; within y: 2, 1 -> .5, -.5; in all 3.
    assert held == pytest.approx([1 / 3, -1 / 3, 0.0, 1 / 6, -1 / 6])


def test_betas_are_those_of_a_regression_and_a_book_has_none() -> None:
    rng = np.random.default_rng(5)
    returns = rng.normal(0, 0.01, (252, 6)) + rng.normal(0, 0.01, (252, 1)) * np.arange(6)
    betas = market_betas(returns)
    market = returns.mean(axis=1)
    assert betas == pytest.approx([np.polyfit(market, column, 1)[0] for column in returns.T])
    held = np.array(weights("beta_neutral", [1.0, 5.0, 2.0, 4.0, 3.0, 6.0], known(6, returns=returns)))
    assert held.sum() == pytest.approx(0.0, abs=1e-9)
    assert held @ betas == pytest.approx(0.0, abs=1e-8)
    assert np.abs(held).sum() == pytest.approx(1.0)


def test_within_the_band_nothing_is_traded_and_beyond_it_to_the_near_edge() -> None:
    # Targets -.375, -.125, .125, .375; a band of half the average weight of .25 is .125.
    scores = [1.0, 2.0, 3.0, 4.0]
    assert weights("turnover_aware", scores, known()) == [-0.375, -0.125, 0.125, 0.375]
    at = known(previous=[-0.3, -0.125, -0.2, 0.6])
    held = weights("turnover_aware", scores, at, band=0.5)
    # -.3 and -.125 are within; -.2 goes up to 0, .6 down to .5.
    assert held == pytest.approx([-0.3, -0.125, 0.0, 0.5])
    assert weights("turnover_aware", [1.0, 2.0, NAN, 4.0], at)[2] == 0.0


def test_a_covariance_of_names_with_holes_keeps_their_own_variances() -> None:
    returns = np.random.default_rng(1).normal(0, 0.02, (100, 3))
    returns[:60, 1] = np.nan
    returns[:90, 2] = np.nan
    scores, volatility = standardised(returns)
    assert volatility[:2] == pytest.approx([returns[:, 0].std(ddof=1), np.nanstd(returns[:, 1], ddof=1)])
    assert np.isnan(volatility[2])  # ten returns are no volatility
    assert (scores[:, :2] ** 2).sum(axis=0) / 99 == pytest.approx([1.0, 1.0])


@pytest.mark.drill
@pytest.mark.parametrize("long_only", [False, True])
@pytest.mark.parametrize("scheme", ["mean_variance", "hierarchical_risk_parity"])
def test_an_optimised_book_obeys_its_sides_and_is_kept_within_the_month(scheme: str, long_only: bool) -> None:
    pytest.importorskip("skfolio")
    scores = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    at = known(6, previous=[0.1, 0.0, 0.0, 0.0, 0.0, -0.1])
    options = {"long_only": long_only}
    held = np.array(weights(scheme, scores, at, rebalance="daily", **options))
    assert np.abs(held).sum() <= 1.0 + 1e-9
    assert held[5] > 0.0
    assert (held >= 0.0).all() if long_only else held.sum() == pytest.approx(0.0, abs=1e-6)
    assert weights(scheme, scores, at, rebalance="daily", **options) == held.tolist()
    # The fourth of March after the first is another week and the same month.
    assert weights(scheme, [NAN, *scores[1:]], at, **options) == [0.0, 0.0, 0.0, 0.0, 0.0, -0.1]
    assert weights(scheme, scores, at, rebalance="weekly", **options) == held.tolist()


@pytest.mark.drill
def test_risk_parity_holds_less_of_what_moves_more() -> None:
    pytest.importorskip("skfolio")
    returns = np.random.default_rng(2).normal(0, 1, (252, 4)) * [0.01, 0.01, 0.01, 0.03]
    held = weights("hierarchical_risk_parity", [1.0, 2.0, 3.0, 4.0], known(4, returns=returns))
    # Two independent names: by inverse variance, 9 to 1.
    assert held[2] / held[3] == pytest.approx(9.0, rel=0.3)


# ------------------------------------------------------------------------------------------------ constraints


def test_each_constraint_cuts_as_it_says() -> None:
    at = known(sectors=("x", "x", "y", "y"), adv=1e7, capital=1e7)
    wanted = np.array([0.5, 0.2, -0.2, -0.1])

    def cut(**limits: float) -> tuple[list[float], tuple[str, ...]]:
        held, bound = constrained(wanted, at, ConstraintsConfig(**limits))
        return held.round(10).tolist(), bound

    assert cut(largest_weight=0.3) == ([0.3, 0.2, -0.2, -0.1], ("largest_weight",))
    assert cut(participation=0.2) == ([0.2, 0.2, -0.2, -0.1], ("participation",))
    assert cut(largest_sector=0.35) == ([0.25, 0.1, -0.2, -0.1], ("largest_sector",))
    assert cut(net=0.05) == ([0.25, 0.1, -0.2, -0.1], ("net",))
    assert cut(gross=0.5) == ([0.25, 0.1, -0.1, -0.05], ("gross",))
    assert cut(gross=1.0, largest_weight=0.5) == (wanted.tolist(), ())


limits = st.fixed_dictionaries(
    {},
    optional={
        name: st.floats(0.01, 1.0)
        for name in ("largest_weight", "participation", "largest_sector", "net", "gross")
    },
)


@given(st.lists(st.floats(-1, 1), min_size=6, max_size=6), limits)
@settings(max_examples=150, deadline=None)
def test_what_is_left_obeys_every_constraint_and_only_ever_shrinks(
    raw: list[float], told: dict[str, float]
) -> None:
    at = known(6, sectors=("x", "x", "y", "y", "", ""), adv=5e6, capital=1e7)
    wanted, asked = np.array(raw), ConstraintsConfig(**told)
    held, _ = constrained(wanted, at, asked)
    near = 1e-9
    assert (np.abs(held) <= np.abs(wanted) + near).all()
    assert (held * wanted >= 0.0).all()
    assert np.abs(held).max() <= (asked.largest_weight or 9) + near
    assert np.abs(held).max() * 1e7 <= (asked.participation or 9e9) * 5e6 + 1.0
    assert abs(held.sum()) <= (9 if asked.net is None else asked.net) + near
    assert np.abs(held).sum() <= (asked.gross or 9) + near
    for pair in (held[:2], held[2:4], held[4:]):
        assert np.abs(pair).sum() <= (asked.largest_sector or 9) + near
    again, bound = constrained(held, at, asked)
    assert again == pytest.approx(held, abs=1e-9)
    assert bound == ()


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"constraints": {"net": 1.5}}, "can never bind"),
        ({"constraints": {"gross": 0.5, "largest_weight": 0.6}}, "can never bind"),
        ({"scheme": "long_only", "constraints": {"net": 0.0}}, "leaves nothing"),
        ({"scheme": {"use": "top_k", "options": {"name": 3}}}, "its options: long_only, names"),
        ({"scheme": {"use": "top_k", "option": {}}}, "use: name"),
        ({"scheme": "longshort"}, "did you mean 'long_short'"),
        ({"scheme": "long_short", "options": {"names": 3}}, "it has none"),
    ],
)
def test_what_can_never_be_is_refused_with_words(told: dict[str, object], says: str) -> None:
    with pytest.raises(Refused, match=says):
        PortfolioConfig.model_validate(told)


def test_constraints_that_leave_nothing_at_all_are_refused() -> None:
    bars = small_market(4, 80).with_columns(volume=pl.lit(0.0))
    held = portfolio("long_short", {"participation": 0.01})
    with pytest.raises(ValidationError, match="nothing is left of the weights"):
        simulate(scores_on(bars), bars, held, CostConfig(impact_coefficient=0.0))


# ------------------------------------------------------------------------------- one path, and nothing later


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], PortfolioConfig]]:
    """Write a desk's scheme ``mine``; give a portfolio of it."""
    (tmp_path / "configs").mkdir()
    monkeypatch.setenv("QUANT_ASSETS_CONFIGS", str(tmp_path / "configs"))
    monkeypatch.setattr(sys, "path", list(sys.path))

    def write(source: str, **told: object) -> PortfolioConfig:
        sys.modules.pop("own_sizing", None)
        (tmp_path / "own_sizing.py").write_text(f"import numpy as np\n{source}")
        return PortfolioConfig.model_validate({"scheme": "own_sizing:mine", **told})

    yield write
    sys.modules.pop("own_sizing", None)


RANKS = """
def mine(scores, known):
    from scipy.stats import rankdata
    there = ~np.isnan(scores)
    ranks = rankdata(np.where(there, scores, np.inf)) - (there.sum() + 1) / 2
    ranks = np.where(there, ranks, 0.0)
    gross = np.abs(ranks).sum()
    return ranks * (1.0 / gross) if gross > 0 else ranks
"""


def test_a_scheme_that_does_what_ours_does_gives_the_same_track_to_the_bit(
    desk: Callable[[str], PortfolioConfig],
) -> None:
    bars = small_market()
    scores = scores_on(bars, paths=2)
    ours = simulate(scores, bars, PortfolioConfig(risk_free_rate=0.0), CostConfig())
    theirs = simulate(scores, bars, desk(RANKS, risk_free_rate=0.0), CostConfig())
    assert theirs.equals(ours)
    by_loop = PortfolioConfig(risk_free_rate=0.0, constraints=ConstraintsConfig(gross=1.0))
    assert simulate(scores, bars, by_loop, CostConfig()).equals(ours)


def test_a_live_decision_is_that_of_the_backtest_to_the_bit() -> None:
    bars = small_market()
    scores = scores_on(bars)
    held = portfolio("volatility_target", {"largest_weight": 0.2})
    sessions = bars["session"].unique().sort().to_list()
    backtest = decided(scores, bars, held, CostConfig()).weights[0]
    symbols = sorted(bars["symbol"].unique().to_list())
    for at in (40, 250, 430):
        past = bars.filter(pl.col("session") <= sessions[at])
        now = Known.of(past, symbols, sessions[at], sessions[at]).at(0, held, CostConfig().capital)
        today = scores.filter(pl.col("session") == sessions[at])
        row = np.full(len(symbols), np.nan)
        row[np.searchsorted(symbols, today["symbol"].to_list())] = today["path_0"].to_numpy()
        assert target_weights(row, held, now).tobytes() == backtest[at].tobytes()


PEEKS = {
    "remembers the newest returns that it ever saw": """
SEEN = {}
def mine(scores, known):
    for back in range(1, 4):
        SEEN[len(SEEN), back] = known.returns[-1]
    SEEN['all'] = max(SEEN.get('all', known), known, key=lambda k: k.session)
    return np.where(np.isnan(scores), 0.0, np.nan_to_num(SEEN['all'].returns[-1]))
""",
    "draws at random": """
def mine(scores, known):
    return np.where(np.isnan(scores), 0.0, np.random.default_rng().normal(size=len(scores)) * 0.01)
""",
    "counts its calls": """
CALLS = []
def mine(scores, known):
    CALLS.append(1)
    return np.where(np.isnan(scores), 0.0, 0.01 + 1e-6 * len(CALLS))
""",
}


@pytest.mark.parametrize("peek", PEEKS)
def test_a_scheme_that_looks_ahead_or_is_no_function_is_found(
    desk: Callable[[str], PortfolioConfig], peek: str
) -> None:
    bars = small_market()
    assert nothing_later(scores_on(bars), bars, desk(PEEKS[peek]), 1e7).moved


def test_through_what_a_scheme_is_shown_nothing_later_can_be_reached(
    desk: Callable[[str], PortfolioConfig],
) -> None:
    held = desk(
        "def mine(scores, known):\n"
        "    for name in ('returns', 'sigma_daily', 'adv_notional', 'previous'):\n"
        "        array = getattr(known, name)\n"
        "        assert array.base is None and not array.flags.writeable, name\n"
        "    return np.zeros(len(scores))\n"
    )
    bars = small_market(4, 60)
    decided(scores_on(bars), bars, held, CostConfig())


@pytest.mark.parametrize(
    "scheme", ["z_score", "top_k", "volatility_target", "sector_neutral", "beta_neutral", "turnover_aware"]
)
def test_our_schemes_look_at_nothing_later(scheme: str) -> None:
    bars = small_market()
    held = PortfolioConfig.model_validate(
        {"scheme": scheme, "sectors": {"S000": "x"}, "constraints": {"participation": 0.5, "net": 0.2}}
    )
    found = nothing_later(scores_on(bars), bars, held, 1e7)
    assert found.moved == ()
    assert found.compared > 500
    assert found.mean_gross > 0.1


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def mine(scores, known):\n    return scores[:2]\n", "shape"),
        ("def mine(scores, known):\n    return scores * np.nan\n", "nan for S000"),
        ("def mine(scores, known):\n    raise KeyError('beta')\n", "KeyError: 'beta'"),
        ("def mine(scores, known):\n    known.returns[0] = 1.0\n", "read-only"),
        ("def mine(scores):\n    return scores\n", "TypeError"),
    ],
)
def test_what_is_no_weight_is_refused_with_the_session_and_the_desks_own_error(
    desk: Callable[[str], PortfolioConfig], source: str, says: str
) -> None:
    bars = small_market(4, 60)
    with pytest.raises(ValidationError, match=f"own_sizing:mine.*{says}"):
        simulate(scores_on(bars), bars, desk(source), CostConfig())


def test_weights_above_the_leverage_are_scaled_down_and_smaller_ones_left(
    desk: Callable[[str], PortfolioConfig],
) -> None:
    bars = small_market(4, 60)
    source = "def mine(scores, known):\n    return np.where(np.isnan(scores), 5.0, {}) * [1, 1, -1, -1]\n"
    large = decided(scores_on(bars), bars, desk(source.format(2.0)), CostConfig())
    assert np.abs(large.weights[0, -1]).sum() == pytest.approx(1.0)
    small = decided(scores_on(bars), bars, desk(source.format(0.05)), CostConfig())
    assert np.abs(small.weights[0, -1]).sum() == pytest.approx(0.2)


def test_cuts_are_counted() -> None:
    bars = small_market()
    scores = scores_on(bars, paths=2)
    made = track(scores, bars, portfolio("long_short", {"largest_weight": 0.15, "gross": 0.99}), CostConfig())
    assert dict(made.sized.bound)["largest_weight"] == 2 * made.sized.weights.shape[1]
    assert made.sized.weights.max() <= 0.15


def test_a_long_book_of_any_scheme_pays_the_risk_free_rate() -> None:
    bars = small_market()
    scores = scores_on(bars)
    long = simulate(scores, bars, portfolio("top_k", names=3, long_only=True), CostConfig())
    assert long["risk_free"].mean() == pytest.approx(0.02 / 365 * 1.4, rel=0.05)
    neutral = simulate(scores, bars, portfolio("top_k", names=3), CostConfig())
    # Until the last name can be traded the book lacks a side of it.
    assert neutral["risk_free"][200:].max() == pytest.approx(0.0, abs=1e-15)
