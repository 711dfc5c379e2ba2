"""Sizing: the one function from scores and what is known to weights, for backtest, paper and live trading alike."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from quant_assets.common.errors import QuantAssetsError, ValidationError
from quant_assets.common.plugins import Plugin
from quant_assets.common.portfolio_settings import OPTIMISED, SCHEMES
from quant_assets.common.settings import PortfolioConfig
from quant_assets.trading.account import Matrix
from quant_assets.trading.constraints import ROUNDING, constrained
from quant_assets.trading.decision import Decision, Known
from quant_assets.trading.schemes import FUNCTIONS, Scheme, by_rank


def target_weights(scores: Matrix, portfolio: PortfolioConfig, known: Decision | None = None) -> Matrix:
    """Positions wanted for one session's scores, as fractions of capital.

    Parameters
    ----------
    scores : array, shape (symbols,)
        Higher is better; NaN where a symbol has no score. Of ``long_short`` and ``long_only`` without constraints
        any shape (..., symbols), a session in each row.
    portfolio : PortfolioConfig
        ``long_short`` weighs by the rank minus the mean rank (average ranks for ties, so the order of symbols
        never decides); ``long_only`` keeps the positive part of the same numbers. Either is scaled so that
        absolute weights sum to ``gross_leverage``. Other schemes are in `quant_assets.trading.schemes`.
    known : Decision, optional
        What else is known, for everything but those two.

    Returns
    -------
    array
        Same shape, 0 for symbols without a score. A session whose scores order nothing (one symbol, or all
        tied) holds cash in every scheme that ranks: a rank among one says nothing.

    Raises
    ------
    ValidationError
        When a score is infinite, what is known is needed and not given, or a desk's own scheme gives no weights: with
        its own error.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if np.isinf(scores).any():
        raise ValidationError(
            "scores", expected="finite numbers", found="an infinity", action="look at the model's predictions"
        )
    if portfolio.by_rank_alone:
        return by_rank(scores, portfolio.gross_leverage, long_only=portfolio.scheme == "long_only")
    if known is None or scores.shape != (len(known.symbols),):
        raise ValidationError(
            f"weights of scheme {portfolio.scheme}",
            expected="the scores of one session, and what was known at its close for the same symbols",
            found="nothing known" if known is None else f"scores of shape {scores.shape}",
            action="give a Decision, as quant_assets.trading.decision makes it from bars",
        )
    return _sized(scores, portfolio, known, scheme_of(portfolio))[0]


Weigh = Callable[[Matrix, Decision], Matrix]


def scheme_of(portfolio: PortfolioConfig) -> Weigh:
    """The function behind a scheme, from scores and a `Decision` to weights.

    Raises
    ------
    ConfigurationError
        When a desk's own is not there, or its module does not import.
    """
    plugin = portfolio.plugin
    if plugin is not None:
        return partial(_weights_of_plugin, plugin.load("a portfolio scheme"), plugin)
    options = SCHEMES[portfolio.scheme].model_validate(portfolio.options)
    if portfolio.scheme in OPTIMISED:
        function: Scheme = Plugin.of(portfolio.code[0]).load("a scheme of the extra 'portfolio'")
    else:
        function = FUNCTIONS[portfolio.scheme]
    return lambda scores, known: function(scores, known, options)


def _weights_of_plugin(function: Any, plugin: Plugin, scores: Matrix, known: Decision) -> Matrix:
    given = np.array(scores)
    try:
        answer = function(given, known, **plugin.options)
        weights = np.array(answer, dtype=np.float64)
    except QuantAssetsError:
        raise
    except Exception as error:  # a desk's own code may raise anything
        raise _bad_weights(plugin, known, f"{type(error).__name__}: {error}") from error
    if weights.shape != scores.shape:
        raise _bad_weights(plugin, known, f"shape {weights.shape}")
    if not np.isfinite(weights).all():
        first = known.symbols[int(np.flatnonzero(~np.isfinite(weights))[0])]
        raise _bad_weights(plugin, known, f"{weights[~np.isfinite(weights)][0]} for {first}")
    return weights


def _bad_weights(plugin: Plugin, known: Decision, found: str) -> ValidationError:
    return ValidationError(
        f"portfolio scheme {plugin.use!r} on {known.session}",
        expected=f"a finite weight of each of {len(known.symbols)} symbols, as a fraction of capital",
        found=found,
        action="correct the scheme; quant_assets.testing.SizingContract tests it",
    )


def _sized(
    scores: Matrix, portfolio: PortfolioConfig, known: Decision, weigh: Weigh
) -> tuple[Matrix, tuple[str, ...]]:
    """Weights after leverage and constraints, and the constraints that cut."""
    if not (~np.isnan(scores)).any():
        return np.zeros_like(scores), ()
    weights = np.where(np.isnan(scores), 0.0, weigh(scores, known))
    gross = float(np.abs(weights).sum())
    if gross > portfolio.gross_leverage * (1.0 + ROUNDING):
        weights = weights * (portfolio.gross_leverage / gross)
    return constrained(weights, known, portfolio.constraints)


@dataclass(frozen=True, eq=False)
class Sized:
    """The weights of every path and decision.

    Attributes
    ----------
    weights : array, shape (paths, decisions, symbols)
    bound : mapping of str to int
        How often each constraint cut something, over paths and decisions.
    """

    weights: Matrix
    bound: Mapping[str, int]

    @property
    def mean_gross(self) -> float:
        """Mean of absolute weights over the decisions that hold anything; NaN where none does."""
        gross = np.abs(self.weights).sum(axis=2)
        return float(gross[gross > 0.0].mean()) if (gross > 0.0).any() else float("nan")


def sized(scores: Matrix, portfolio: PortfolioConfig, known: Known, capital: float) -> Sized:
    """Weights of every path, decision after decision.

    All paths of a session are decided before the next session is: code that remembers what it was shown has seen
    nothing later, whichever path it is asked about.

    Parameters
    ----------
    scores : array, shape (paths, decisions, symbols)
    portfolio : PortfolioConfig
    known : Known
        Of the same decisions and symbols.
    capital : float

    Raises
    ------
    ValidationError
        As `target_weights`; when constraints leave nothing of any book.
    """
    bound: Counter[str] = Counter(dict.fromkeys(portfolio.constraints.named, 0))
    if portfolio.by_rank_alone:
        each = [target_weights(path, portfolio) for path in scores]
        return Sized(np.stack(each), bound)
    if np.isinf(scores).any():
        target_weights(scores, portfolio)  # refuses them
    weights, weigh = np.zeros(scores.shape), scheme_of(portfolio)
    for row in range(scores.shape[1]):
        decision = known.at(row, portfolio, capital)
        for path in range(len(scores)):
            before = weights[path, row - 1] if row else decision.previous
            weights[path, row], cuts = _sized(scores[path, row], portfolio, decision.after(before), weigh)
            bound.update(cuts)
    if bound.total() and not weights.any():
        raise ValidationError(
            f"constraints {', '.join(name for name, times in bound.items() if times)}",
            expected="a book that can be held under them",
            found=f"nothing is left of the weights of scheme {portfolio.scheme} in any session",
            action="loosen them, or take a smaller capital",
        )
    return Sized(weights, bound)
