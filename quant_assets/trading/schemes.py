"""The platform's schemes: from the scores of one session, and what was known at its close, to weights.

Each is a function of the scores of a session (NaN where a name has none), a `Decision` and its options. What has no
score is not held. Weights are fractions of capital.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from quant_assets.common.portfolio_settings import (
    TopKOptions,
    TurnoverAwareOptions,
    VolatilityTargetOptions,
    ZScoreOptions,
)
from quant_assets.trading.account import Matrix
from quant_assets.trading.decision import Decision, standardised

Scheme = Callable[[Matrix, Decision, Any], Matrix]


def centred_ranks(scores: Matrix) -> Matrix:
    """Rank less mean rank along the last axis, ties sharing their average; 0 where there is no score."""
    from scipy.stats import rankdata

    scored = ~np.isnan(scores)
    count = scored.sum(axis=-1, keepdims=True)
    # Missing scores sort behind every number, so they never move a real symbol's rank.
    ranks = rankdata(np.where(scored, scores, np.inf), method="average", axis=-1)
    return np.where(scored, ranks - (count + 1) / 2.0, 0.0)


def scaled(sizes: Matrix, gross: float) -> Matrix:
    """Sizes whose absolute values sum to ``gross`` along the last axis; 0 where all of them are."""
    total = np.abs(sizes).sum(axis=-1, keepdims=True)
    return np.asarray(sizes * np.divide(gross, total, out=np.zeros_like(total), where=total > 0.0))


def by_rank(scores: Matrix, gross: float, *, long_only: bool) -> Matrix:
    """Centred ranks, or their positive part, scaled to ``gross``."""
    centred = centred_ranks(scores)
    return scaled(np.maximum(centred, 0.0) if long_only else centred, gross)


def _z_score(scores: Matrix, known: Decision, options: ZScoreOptions) -> Matrix:
    scored = ~np.isnan(scores)
    if not scored.any():
        return np.zeros_like(scores)
    spread = scores[scored].std()
    if not spread > 0.0:
        return np.zeros_like(scores)
    z = np.where(scored, (scores - scores[scored].mean()) / spread, 0.0)
    z = np.clip(z, -options.cut_at, options.cut_at)
    # What was cut on one side only would leave a net position.
    z = np.maximum(z, 0.0) if options.long_only else np.where(scored, z - z[scored].mean(), 0.0)
    return scaled(z, known.gross_leverage)


def _top_k(scores: Matrix, known: Decision, options: TopKOptions) -> Matrix:
    scored = np.flatnonzero(~np.isnan(scores))
    # Among equals the name that comes first in the alphabet: the order of columns never decides.
    names = np.array(known.symbols)[scored]
    order = scored[np.lexsort((names, -scores[scored]))]
    sides = 1 if options.long_only else 2
    count = min(options.names, len(order) // sides)
    weights = np.zeros_like(scores)
    if count and scores[order[0]] > scores[order[-1]]:  # scores that order nothing hold cash
        each = known.gross_leverage / sides / count
        weights[order[:count]] = each
        if not options.long_only:
            weights[order[-count:]] = -each
    return weights


def _volatility_target(scores: Matrix, known: Decision, options: VolatilityTargetOptions) -> Matrix:
    z, volatility = standardised(known.returns)
    scores = np.where(np.isnan(volatility), np.nan, scores)
    weights = by_rank(scores, known.gross_leverage, long_only=options.long_only)
    # w' D R D w, with the correlations R of what is standardised.
    book = z @ (weights * np.nan_to_num(volatility))
    expected = float(np.sqrt((book * book).sum() / max(len(book) - 1, 1) * known.periods_per_year))
    if not expected > 0.0:
        return np.zeros_like(weights)
    return np.asarray(weights * min(options.annual_volatility / expected, 1.0))


def _sector_neutral(scores: Matrix, known: Decision, _: Any) -> Matrix:
    sectors = np.array(known.sectors)
    weights = np.zeros_like(scores)
    for sector in sorted(set(known.sectors)):
        inside = sectors == sector
        weights[inside] = centred_ranks(scores[inside])
    return scaled(weights, known.gross_leverage)


def market_betas(returns: Matrix) -> Matrix:
    """Beta of each name to the equally weighted mean of all, over the sessions that it has; NaN below 20 of them.

    Parameters
    ----------
    returns : array, shape (sessions, symbols)
    """
    there = ~np.isnan(returns)
    count = there.sum(axis=1)
    market = np.where(there, returns, 0.0).sum(axis=1) / np.maximum(count, 1)
    seen = there & (count > 0)[:, None]
    number = seen.sum(axis=0)
    divisor = np.maximum(number, 1)
    mean = np.where(seen, market[:, None], 0.0).sum(axis=0) / divisor
    away = np.where(seen, market[:, None] - mean, 0.0)
    variance = (away * away).sum(axis=0)
    covariance = (away * np.where(seen, returns, 0.0)).sum(axis=0)
    known = (number >= 20) & (variance > 0.0)
    return np.where(known, covariance / np.where(known, variance, 1.0), np.nan)


def _beta_neutral(scores: Matrix, known: Decision, _: Any) -> Matrix:
    betas = market_betas(known.returns)
    scores = np.where(np.isnan(betas), np.nan, scores)
    held = ~np.isnan(scores)
    weights = np.zeros_like(scores)
    # Two conditions take two names away: of three what is left is one portfolio, of two nothing.
    if held.sum() < 3:
        return weights
    factors = np.column_stack([np.ones(held.sum()), betas[held]])
    ranks = centred_ranks(scores)[held]
    # What a regression on both leaves is neutral to both.
    explained, *_rest = np.linalg.lstsq(factors, ranks, rcond=None)
    left = ranks - factors @ explained
    if np.abs(left).sum() > 1e-9 * np.abs(ranks).sum():
        weights[held] = left
    return scaled(weights, known.gross_leverage)


def _turnover_aware(scores: Matrix, known: Decision, options: TurnoverAwareOptions) -> Matrix:
    """Trade to the near edge of a band around the target (Davis and Norman 1990, Math. Oper. Res. 15, 676)."""
    wanted = by_rank(scores, known.gross_leverage, long_only=options.long_only)
    if not known.previous.any():
        return wanted
    scored = ~np.isnan(scores)
    width = options.band * known.gross_leverage / max(int(scored.sum()), 1)
    kept = np.clip(known.previous, wanted - width, wanted + width)
    if options.long_only:
        kept = np.maximum(kept, 0.0)
    return np.where(scored, kept, 0.0)


def _long_short(scores: Matrix, known: Decision, _: Any) -> Matrix:
    return by_rank(scores, known.gross_leverage, long_only=False)


def _long_only(scores: Matrix, known: Decision, _: Any) -> Matrix:
    return by_rank(scores, known.gross_leverage, long_only=True)


FUNCTIONS: Mapping[str, Scheme] = {
    "long_short": _long_short,
    "long_only": _long_only,
    "z_score": _z_score,
    "top_k": _top_k,
    "volatility_target": _volatility_target,
    "sector_neutral": _sector_neutral,
    "beta_neutral": _beta_neutral,
    "turnover_aware": _turnover_aware,
}
