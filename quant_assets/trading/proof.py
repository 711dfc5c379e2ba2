"""Proof by experiment that a scheme looks at nothing later than its decision.

Decisions are made in a panel that ends at a session, in the whole one, and in one whose later bars are others.
What was decided up to that session must be the same to the bit each time, and so when it is asked again: code
that keeps what it was shown once would answer from memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import polars as pl

from quant_assets.common.errors import ValidationError
from quant_assets.common.settings import PortfolioConfig
from quant_assets.trading.account import ADJUSTMENT, Matrix
from quant_assets.trading.decision import Known
from quant_assets.trading.sizing import sized

BEFORE, AFTER = 12, 5  # decisions on either side of a cut
CUTS = (0.35, 0.7)  # of the sessions with scores


@dataclass(frozen=True)
class Experiment:
    """What was compared.

    Attributes
    ----------
    compared : int
        Weights, over all repetitions.
    moved : tuple of str
        Names of the repetitions in which one differed, with the first session.
    mean_gross : float
        Mean of absolute weights over the decisions that hold anything.
    """

    compared: int
    moved: tuple[str, ...]
    mean_gross: float


def nothing_later(
    predictions: pl.DataFrame, bars: pl.DataFrame, portfolio: PortfolioConfig, capital: float
) -> Experiment:
    """Make decisions again without the later bars, and with others in their place.

    Parameters
    ----------
    predictions : polars.DataFrame
        ``symbol, session, path_0``.
    bars : polars.DataFrame
        Adjusted panel.
    portfolio : PortfolioConfig
    capital : float

    Raises
    ------
    ValidationError
        When there are too few sessions with scores to cut between.
    """
    sessions = predictions["session"].unique().sort().to_list()
    if len(sessions) < 3 * (BEFORE + AFTER):
        raise ValidationError(
            "proof that a scheme sees nothing later",
            expected=f"at least {3 * (BEFORE + AFTER)} sessions with scores",
            found=f"{len(sessions)}",
            action="give more sessions",
        )
    symbols = sorted(predictions["symbol"].unique().to_list())
    compared, moved, gross = 0, [], []
    for share in CUTS:
        at = int(len(sessions) * share)
        first, cut, last = sessions[at - BEFORE + 1], sessions[at], sessions[at + AFTER]
        asked = predictions.filter(pl.col("session").is_between(first, last))
        panel = bars.filter(pl.col("session") <= last)

        def weights(
            shown: pl.DataFrame, until: date, of: pl.DataFrame = asked, start: date = first
        ) -> Matrix:
            known = Known.of(shown, symbols, start, until)
            days = known.sessions[known.first : known.first + known.decisions]
            scores = np.full((1, len(days), len(symbols)), np.nan)
            rows = of.filter(pl.col("session") <= until)
            row = np.searchsorted(days, rows["session"].to_numpy().astype("datetime64[D]"))
            scores[0, row, np.searchsorted(symbols, rows["symbol"].to_list())] = rows["path_0"].to_numpy()
            return np.asarray(sized(scores, portfolio, known, capital).weights[0])

        ended = panel.filter(pl.col("session") <= cut)
        kept = weights(ended, cut)
        gross += [total for total in np.abs(kept).sum(axis=1) if total > 0.0]
        for what, found in (
            ("with the later bars", weights(panel, last)),
            ("with other later bars", weights(_other_later(panel, cut), last)),
            ("asked again", weights(ended, cut)),
        ):
            differs = (found[: len(kept)] != kept).any(axis=1)
            compared += kept.size
            if differs.any():
                moved.append(f"{what}: {int(differs.sum())} of {len(kept)} decisions up to {cut}")
    return Experiment(compared, tuple(moved), float(np.mean(gross)) if gross else float("nan"))


def _other_later(panel: pl.DataFrame, cut: date) -> pl.DataFrame:
    """The panel with later bars whose every move is turned around and tripled, and a tenth of the volume."""
    prices = [name for name in ("open", "high", "low", "close") if name in panel.columns]
    anchor = pl.col("close").filter(pl.col("session") <= cut).last().over("symbol", order_by="session")
    anchor = pl.when(anchor.is_null()).then(pl.col("close")).otherwise(anchor)
    later = pl.col("session") > cut
    return panel.with_columns(
        *(
            pl.when(later).then(anchor * (anchor / pl.col(name)) ** 3).otherwise(pl.col(name)).alias(name)
            for name in prices
        ),
        pl.when(later).then(pl.col("volume") * 0.1).otherwise(pl.col("volume") * 1.0).alias("volume"),
    )


# ------------------------------------------------------------------------------------ as one frame, for a process


def as_frame(predictions: pl.DataFrame, bars: pl.DataFrame) -> pl.DataFrame:
    """Bars with the scores of one path beside them: what `moved_weights` is shown."""
    factors = [name for name in ADJUSTMENT if name in bars.columns]
    scores = predictions.select("symbol", "session", "path_0")
    return bars.select("symbol", "session", "open", "close", "volume", *factors).join(
        scores, on=["symbol", "session"], how="left"
    )


def experiment_in(frame: pl.DataFrame, portfolio: Mapping[str, Any], capital: float) -> Experiment:
    """`nothing_later` on what `as_frame` gives, and a portfolio as plain data."""
    return nothing_later(
        frame.filter(pl.col("path_0").is_not_null()).select("symbol", "session", "path_0"),
        frame.drop("path_0"),
        PortfolioConfig.model_validate(dict(portfolio)),
        capital,
    )
