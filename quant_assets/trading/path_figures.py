"""The figures of one path: what is told of a candidate to whoever needs no more than numbers."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PathStatistics:
    """One path's net returns in numbers. Per-session moments are those that inference uses.

    Attributes
    ----------
    sharpe_per_period, sharpe_annual : float
        NaN when the returns do not vary.
    gross_sharpe_annual : float
        The same before costs.
    psr : float
        Probability that the true Sharpe ratio is above 0.
    drawdown_fraction : float
        Deepest fall from a running maximum of equity, <= 0.
    sortino, calmar : float
        Annual; NaN where equity never fell.
    turnover_per_session : float
        Absolute position changes over capital, both sides counted.
    autocorrelation : float
        First order, of the net returns.
    sharpe_annual_at_twice_costs : float
        The net Sharpe ratio when every cost is doubled; NaN where the returns do not say.
    """

    path: int
    n_sessions: int
    sharpe_per_period: float
    sharpe_annual: float
    gross_sharpe_annual: float
    psr: float
    drawdown_fraction: float
    annual_return_fraction: float
    annual_volatility_fraction: float
    win_rate_fraction: float
    sortino: float
    calmar: float
    turnover_per_session: float
    skewness: float
    kurtosis: float
    autocorrelation: float
    sharpe_annual_at_twice_costs: float = float("nan")
