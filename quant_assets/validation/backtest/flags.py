"""Assets that a reader should look at before believing the numbers, each with its reason."""

from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from quant_assets.validation.backtest.inputs import Panel
from quant_assets.validation.backtest.outcomes import Outcomes

FlagReason = Literal["missing score", "missing return", "extreme return", "not tradable"]


@dataclass(frozen=True)
class FlaggedAsset:
    """One symbol and one reason.

    Attributes
    ----------
    sessions : int
        Decision sessions in which the reason applies.
    selected_sessions : int
        Those in which the model wanted to hold the symbol.
    largest_return_fraction : float or None
        Of an extreme return: the one furthest from 0.
    """

    symbol: str
    reason: FlagReason
    sessions: int
    selected_sessions: int
    first_session: date
    last_session: date
    largest_return_fraction: float | None


def flagged_assets(
    panel: Panel, outcomes: Outcomes, selected: NDArray[np.bool_], extreme_return: float
) -> tuple[FlaggedAsset, ...]:
    """Every symbol with a reason, by symbol and reason.

    ``missing score``: the file has a row without a score. ``missing return``: the return that followed is not
    known although other symbols' is. ``extreme return``: beyond ``extreme_return`` in size. ``not tradable``: it
    was wanted and its return is known, but at that time it had no price to be filled at, or no liquidity to
    charge impact with.
    """
    rows = slice(outcomes.start, outcomes.start + len(selected))
    listed, score = panel.listed[rows], panel.score[rows]
    known = np.isfinite(outcomes.label)
    blocked = np.zeros(selected.shape, dtype=bool)
    blocked[outcomes.decisions] = ~outcomes.tradable
    reasons: tuple[tuple[FlagReason, NDArray[np.bool_]], ...] = (
        ("extreme return", known & (np.abs(np.where(known, outcomes.label, 0.0)) > extreme_return)),
        ("missing return", listed & ~known & known.any(axis=1, keepdims=True)),
        ("missing score", listed & np.isnan(score)),
        ("not tradable", blocked & selected & known),
    )
    sessions = panel.sessions[rows]
    found = []
    for reason, applies in reasons:
        for column in np.flatnonzero(applies.any(axis=0)):
            at = np.flatnonzero(applies[:, column])
            label = outcomes.label[at, column]
            found.append(
                FlaggedAsset(
                    symbol=panel.symbols[column],
                    reason=reason,
                    sessions=len(at),
                    selected_sessions=int(selected[at, column].sum()),
                    first_session=sessions[at[0]].item(),
                    last_session=sessions[at[-1]].item(),
                    largest_return_fraction=(
                        float(label[np.abs(label).argmax()]) if reason == "extreme return" else None
                    ),
                )
            )
    return tuple(sorted(found, key=lambda flag: (flag.symbol, flag.reason)))
