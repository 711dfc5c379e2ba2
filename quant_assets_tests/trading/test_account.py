"""The one account loop, against numbers worked out by hand and against itself with one account at a time."""

import numpy as np
import pytest

from quant_assets.common.settings import CostConfig
from quant_assets.trading.account import Accounts, Matrix, run_accounts

FREE = CostConfig(commission_bps=0.0, half_spread_bps=0.0, impact_coefficient=0.0, borrow_fee_bps=0.0)
CHARGED = CostConfig(commission_bps=10.0, half_spread_bps=20.0, impact_coefficient=0.0, borrow_fee_bps=0.0)
COLUMNS = ("gross", "commission", "spread", "impact", "net", "turnover")


def unknown(returns: Matrix) -> Matrix:
    return np.full(returns.shape, np.nan)


def traded(
    targets: list[list[list[float]]], returns: list[list[float]], costs: CostConfig = FREE
) -> Accounts:
    moves = np.array(returns)
    return run_accounts(np.array(targets), moves, unknown(moves), unknown(moves), costs)


def test_a_position_drifts_with_its_price_before_it_is_traded_back_to_its_target() -> None:
    accounts = traded([[[0.5, 0.5], [0.5, 0.5]]], [[0.2, 0.0], [0.0, 0.0]], CHARGED)
    # 1.0 is bought; 1.1 less 30 basis points is left, and .6 and .5 of it are the positions
    assert accounts.gross.tolist() == [[pytest.approx(0.1), 0.0]]
    assert accounts.commission[0, 0] == pytest.approx(0.001)
    assert accounts.spread[0, 0] == pytest.approx(0.002)
    assert accounts.net[0, 0] == pytest.approx(0.097)
    drifted = np.array([0.6, 0.5]) / 1.097
    assert accounts.turnover[0, 1] == pytest.approx(np.abs(0.5 - drifted).sum())
    assert accounts.net[0, 1] == pytest.approx(-0.003 * np.abs(0.5 - drifted).sum())
    assert accounts.held.tolist() == [[2.0, 2.0]]
    assert accounts.invested.tolist() == [[1.0, 1.0]]


def test_short_positions_are_held_and_count_against_long_ones() -> None:
    accounts = traded([[[0.5, -0.5, 0.0]]], [[0.1, 0.1, 0.1]])
    assert accounts.net.tolist() == [[0.0]]
    assert accounts.turnover.tolist() == [[1.0]]
    assert accounts.held.tolist() == [[2.0]]
    assert accounts.invested.tolist() == [[0.0]]


def test_an_account_that_loses_everything_stops_there_and_leaves_zeros_behind() -> None:
    ruin = [[-2.0, 1.0], [-2.0, 1.0], [-2.0, 1.0]]
    calm = [[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]]
    accounts = traded([ruin, calm], [[0.8, 0.1], [-0.3, -0.1], [0.2, 0.2]], CHARGED)
    assert accounts.net[0].tolist() == [-1.0, 0.0, 0.0]
    assert accounts.gross[0, 0] == pytest.approx(-1.5)  # what was lost is shown whole
    for name in COLUMNS:
        after = getattr(accounts, name)[0, 1:]
        assert after.tobytes() == np.zeros(2).tobytes(), name  # not -0.0, whose bits are other ones
    assert np.all(accounts.net[1] != 0.0)


@pytest.mark.parametrize("symbols", [1, 7, 8, 9, 129, 300])
def test_accounts_side_by_side_have_the_bits_of_each_one_alone(symbols: int) -> None:
    rng = np.random.default_rng(symbols)
    shape = (40, symbols)
    targets = rng.normal(0.0, 3.0 / symbols, (5, *shape))
    returns = rng.standard_t(3, shape) * 0.2
    sigma, adv = rng.uniform(0.01, 0.05, shape), rng.uniform(1e6, 1e8, shape)
    together = run_accounts(targets, returns, sigma, adv, CostConfig())
    ended = (together.net == -1.0).any(axis=1)
    for number in range(5):
        alone = run_accounts(targets[number : number + 1], returns, sigma, adv, CostConfig())
        for name in COLUMNS:
            assert getattr(alone, name)[0].tobytes() == getattr(together, name)[number].tobytes(), name
    assert symbols > 1 or ended.any()
