"""Schemes that solve a problem, through skfolio: mean-variance and hierarchical risk parity.

Covariances are those of the trailing returns that were known at the decision. A problem is solved in the first
session of each week or month; between, what was chosen is kept, without names that lost their score. The solver
(Clarabel) is an interior-point method without a random start: the same numbers give the same weights.
"""

import numpy as np
from numpy.typing import NDArray

from quant_assets.common.errors import ConfigurationError, QuantAssetsError, ValidationError
from quant_assets.common.portfolio_settings import MeanVarianceOptions, OptimisedOptions, Rebalance
from quant_assets.trading.account import Matrix
from quant_assets.trading.decision import Decision, standardised
from quant_assets.trading.schemes import scaled

SMALLEST = 1e-6  # of capital: a solver's zero


def is_due(known: Decision, rebalance: Rebalance) -> bool:
    """Whether a problem is solved at this decision: nothing is held, or a new week or month has begun."""
    if rebalance == "daily" or known.session_before is None or not known.previous.any():
        return True
    if rebalance == "weekly":
        return known.session.isocalendar()[:2] != known.session_before.isocalendar()[:2]
    now, before = known.session, known.session_before
    return (now.year, now.month) != (before.year, before.month)


def _candidates(scores: Matrix, known: Decision) -> tuple[NDArray[np.intp], Matrix]:
    """Places of the names that can be in a problem, and their trailing returns without holes, (sessions, names)."""
    z, volatility = standardised(known.returns)
    able = np.flatnonzero(~np.isnan(scores) & ~np.isnan(volatility))
    return able, z[:, able] * volatility[able]


def _kept(scores: Matrix, known: Decision) -> Matrix:
    return np.where(np.isnan(scores), 0.0, known.previous)


def mean_variance(scores: Matrix, known: Decision, options: MeanVarianceOptions) -> Matrix:
    """Weights that maximise expected return less risk aversion times variance, each side at most half of the gross.

    Expected return of a name is information coefficient x volatility x its score in standard deviations (Grinold
    1994), and the covariance is shrunk (Ledoit and Wolf 2004, Journal of Multivariate Analysis 88, 365).

    Raises
    ------
    ConfigurationError
        Without skfolio.
    ValidationError
        When the solver gives no weights.
    """
    if not is_due(known, options.rebalance):
        return _kept(scores, known)
    weights = np.zeros_like(scores)
    able, returns = _candidates(scores, known)
    spread = scores[able].std() if len(able) > 1 else 0.0
    if not spread > 0.0:
        return weights
    try:
        from skfolio.moments import BaseMu, LedoitWolf
        from skfolio.optimization import MeanRisk, ObjectiveFunction
        from skfolio.prior import EmpiricalPrior
    except ImportError as error:
        raise _without_skfolio(error) from error

    expected = (
        options.information_coefficient
        * returns.std(axis=0, ddof=1)
        * ((scores[able] - scores[able].mean()) / spread)
    )

    class Told(BaseMu):  # type: ignore[misc]
        """Expected returns that come from scores."""

        def __init__(self) -> None:
            pass

        def fit(self, X: Matrix, y: None = None) -> "Told":
            self.mu_ = expected
            return self

    half = known.gross_leverage / 2.0
    sides = (
        {"min_weights": 0.0, "max_weights": known.gross_leverage, "budget": None,
         "max_budget": known.gross_leverage}
        if options.long_only
        else {"min_weights": -half, "max_weights": half, "budget": 0.0, "max_short": half, "max_long": half}
    )  # fmt: skip
    model = MeanRisk(
        objective_function=ObjectiveFunction.MAXIMIZE_UTILITY,
        risk_aversion=options.risk_aversion,
        prior_estimator=EmpiricalPrior(mu_estimator=Told(), covariance_estimator=LedoitWolf()),
        solver="CLARABEL",
        **sides,
    )
    weights[able] = _solved(model, returns, known, "mean_variance")
    return weights


def hierarchical_risk_parity(scores: Matrix, known: Decision, options: OptimisedOptions) -> Matrix:
    """The upper half of the names long, the lower half short, each side weighed by hierarchical risk parity.

    Lopez de Prado (2016, Journal of Portfolio Management 42, 59): scores choose the names, risk alone their weights.

    Raises
    ------
    ConfigurationError, ValidationError
        As `mean_variance`.
    """
    if not is_due(known, options.rebalance):
        return _kept(scores, known)
    weights = np.zeros_like(scores)
    able, returns = _candidates(scores, known)
    if len(able) < 2 or not np.ptp(scores[able]) > 0.0:
        return weights
    try:
        from skfolio.optimization import HierarchicalRiskParity
    except ImportError as error:
        raise _without_skfolio(error) from error

    names = np.array(known.symbols)[able]
    order = np.lexsort((names, -scores[able]))  # among equals by name
    half = len(able) // 2
    sides = [(order[:half], 1.0)] if options.long_only else [(order[:half], 1.0), (order[-half:], -1.0)]
    for chosen, sign in sides:
        side = np.sort(chosen)
        each = (
            _solved(HierarchicalRiskParity(), returns[:, side], known, "hierarchical_risk_parity")
            if len(side) > 1
            else np.ones(1)
        )
        weights[able[side]] = sign * each
    return scaled(weights, known.gross_leverage)


def _solved(model: "object", returns: Matrix, known: Decision, scheme: str) -> Matrix:
    try:
        solved = np.array(model.fit(returns).weights_, dtype=np.float64)  # type: ignore[attr-defined]
    except QuantAssetsError:
        raise
    except Exception as error:  # the solver's own
        raise ValidationError(
            f"portfolio scheme {scheme!r} on {known.session}",
            expected=f"a solution for {returns.shape[1]} names",
            found=f"{type(error).__name__}: {error}",
            action="take another risk_aversion, or a scheme that solves nothing",
        ) from error
    return np.where(np.abs(solved) < SMALLEST, 0.0, solved)


def _without_skfolio(error: ImportError) -> ConfigurationError:
    return ConfigurationError(
        "portfolio schemes mean_variance and hierarchical_risk_parity",
        expected="the extra 'portfolio' (skfolio)",
        found=str(error),
        action="pip install 'quant-assets[portfolio]', or choose another scheme",
    )
