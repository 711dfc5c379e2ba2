"""Sizing of this desk. A strategy names it: `portfolio: {scheme: my_desk.sizing:inverse_volatility}`."""

import numpy as np
from quant_assets.trading import Decision


def inverse_volatility(scores: np.ndarray, known: Decision, *, floor: float = 0.005) -> np.ndarray:
    """Centred scores over volatility: a quiet name is held in more money than a wild one.

    Parameters
    ----------
    scores : numpy.ndarray
        One score a symbol, NaN where it has none.
    known : Decision
        What is known at this close: returns, volatility, volume, the weights held.
    floor : float
        Least daily volatility that a name is sized by.

    Returns
    -------
    numpy.ndarray
        Fraction of capital a symbol, 0 for what is not wanted; above the gross leverage it is scaled down.
    """
    scored = ~np.isnan(scores)
    if not scored.any():
        return np.zeros_like(scores)
    weights = np.where(scored, scores - scores[scored].mean(), 0.0)
    weights = weights / np.maximum(np.nan_to_num(known.sigma_daily, nan=np.inf), floor)
    gross = np.abs(weights).sum()
    return weights / gross if gross > 0 else weights
