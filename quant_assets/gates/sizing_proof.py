"""The proof of a portfolio scheme as what can be asked in a process of its own, where nothing was seen before."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from quant_assets.gates.desk_gates import Finding, at_least, at_most
from quant_assets.trading.proof import experiment_in

SMALLEST_BOOK = 0.1  # of capital: of a smaller one market impact is nothing


def looks_at_nothing_later(frame: pl.DataFrame, *, portfolio: Mapping[str, Any], capital: float) -> Finding:
    """Whether a scheme decides the same whatever comes later, and holds a book at all.

    Parameters
    ----------
    frame : polars.DataFrame
        As `quant_assets.trading.proof.as_frame` gives.
    portfolio : mapping
        A `PortfolioConfig` as plain data.
    capital : float
    """
    found = experiment_in(frame, portfolio, capital)
    if found.moved or found.mean_gross >= SMALLEST_BOOK:
        what = f"experiments in which a decision moved ({'; '.join(found.moved) or 'none'})"
        return at_most(len(found.moved), 0, what, "let the scheme use nothing but what it is given")
    # Where nothing was held nothing was proven: no number, which closes.
    return at_least(
        found.mean_gross, SMALLEST_BOOK, "mean gross of the book", "size it up: costs are judged at that size"
    )
