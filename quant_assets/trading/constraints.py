"""Constraints on a book, whatever made it: each only cuts, in a fixed order, and what is cut stays in cash.

The order is names (``largest_weight``, ``participation``), sectors, net, gross. A later step shrinks weights, never
grows one, so it keeps what an earlier one has made true, and one pass is enough. No side is ever changed.
"""

import numpy as np

from quant_assets.common.portfolio_settings import ConstraintsConfig
from quant_assets.trading.account import Matrix
from quant_assets.trading.decision import Decision

ROUNDING = 1e-12  # of capital: less than this was not cut


def constrained(
    weights: Matrix, known: Decision, constraints: ConstraintsConfig
) -> tuple[Matrix, tuple[str, ...]]:
    """The weights cut to the constraints, and the names of those that cut something.

    Parameters
    ----------
    weights : array, shape (symbols,)
        Fractions of capital.
    known : Decision
    constraints : ConstraintsConfig
        Of ``participation`` a name without a known traded value may hold nothing.
    """
    bound = []
    for (
        name,
        cap,
    ) in constraints.named.items():  # in the order in which they are declared, which is that of the cuts
        cut = _CUTS[name](weights, known, cap)
        if np.abs(cut - weights).max(initial=0.0) > ROUNDING:
            bound.append(name)
        weights = cut
    return weights, tuple(bound)


def _largest_weight(weights: Matrix, _: Decision, cap: float) -> Matrix:
    return np.clip(weights, -cap, cap)


def _participation(weights: Matrix, known: Decision, cap: float) -> Matrix:
    most = cap * np.nan_to_num(known.adv_notional, nan=0.0) / known.capital
    return np.clip(weights, -most, most)


def _largest_sector(weights: Matrix, known: Decision, cap: float) -> Matrix:
    sectors = np.array(known.sectors)
    cut = weights.copy()
    for sector in sorted(set(known.sectors)):
        inside = sectors == sector
        total = float(np.abs(weights[inside]).sum())
        if total > cap + ROUNDING:
            cut[inside] *= cap / total
    return cut


def _net(weights: Matrix, _: Decision, cap: float) -> Matrix:
    net = float(weights.sum())
    if abs(net) <= cap + ROUNDING:
        return weights
    larger = weights > 0.0 if net > 0.0 else weights < 0.0
    own = float(np.abs(weights[larger]).sum())
    other = own - abs(net)
    return np.where(larger, weights * ((other + cap) / own), weights)


def _gross(weights: Matrix, _: Decision, cap: float) -> Matrix:
    total = float(np.abs(weights).sum())
    return weights * (cap / total) if total > cap + ROUNDING else weights


_CUTS = {
    "largest_weight": _largest_weight,
    "participation": _participation,
    "largest_sector": _largest_sector,
    "net": _net,
    "gross": _gross,
}
