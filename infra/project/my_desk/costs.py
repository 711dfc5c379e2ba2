"""Costs of this desk, on top of the platform's. A strategy names them: `costs: {model: my_desk.costs:stamp_duty}`."""

import numpy as np
from quant_assets.trading import TradeContext


def stamp_duty(traded: np.ndarray, known: TradeContext, *, bps: float = 1.0) -> np.ndarray:
    """A duty on what is bought.

    Parameters
    ----------
    traded : numpy.ndarray
        Signed change of each position, a fraction of capital.
    known : TradeContext
        The session of the fill, volatility, volume and capital.
    bps : float
        Basis points of what is bought.

    Returns
    -------
    numpy.ndarray
        Cost of each position, a fraction of capital, 0 or more.
    """
    return np.maximum(traded, 0.0) * bps * 1e-4
