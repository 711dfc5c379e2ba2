"""The tables of the tear sheet: what one path did by year and by month, and where its return went."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from quant_assets.validation import sharpe, track_record
from quant_assets.validation.capacity import CapacityPoint, capacity
from quant_assets.validation.regimes import FEWEST_SESSIONS_OF_A_RATIO

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
STRONGEST_SHADE = 0.55  # of a cell's colour: black text stays readable on it


def yearly_table(path: pl.DataFrame, periods_per_year: float) -> list[dict[str, Any]]:
    """One path's calendar years: sessions, net return, annual Sharpe ratio, drawdown, turnover per session.

    Parameters
    ----------
    path : polars.DataFrame
        ``session, net_return, turnover`` of one path.
    periods_per_year : float
    """
    rows = []
    for year, group in path.group_by(pl.col("session").dt.year(), maintain_order=True):
        net = group["net_return"].to_numpy()
        enough = len(net) >= FEWEST_SESSIONS_OF_A_RATIO
        ratio = sharpe.annualised_sharpe(sharpe.sharpe_ratio(net), periods_per_year) if enough else math.nan
        rows.append(
            {
                "year": str(year[0]),
                "sessions": len(net),
                "net_return": float(np.prod(1.0 + net) - 1.0),
                "sharpe_annual": float(ratio),
                "drawdown_fraction": float(track_record.max_drawdown(net)),
                "turnover": float(group["turnover"].to_numpy().mean()),
            }
        )
    return rows


def cost_table(path: pl.DataFrame, periods_per_year: float) -> list[dict[str, Any]]:
    """Where one path's gross return goes: arithmetic fractions of capital per year, and shares of the largest."""
    columns = {
        "gross return": "gross_return",
        "commission": "commission",
        "half spread": "spread_cost",
        "market impact": "impact_cost",
        "net return": "net_return",
    }
    annual = {
        label: float(path[name].to_numpy().mean()) * periods_per_year for label, name in columns.items()
    }
    largest = max((abs(value) for value in annual.values()), default=0.0) or 1.0
    return [
        {
            "label": label,
            "annual": -value if columns[label].endswith(("commission", "_cost")) else value,
            "share": abs(value) / largest,
            "is_cost": columns[label].endswith(("commission", "_cost")),
        }
        for label, value in annual.items()
    ]


def monthly_coefficients(rank_ic: pl.DataFrame, path: int) -> list[dict[str, Any]]:
    """Mean rank IC of one path by year and month, with a shade for each cell.

    Parameters
    ----------
    rank_ic : polars.DataFrame
        As made by `quant_assets.validation.paths.rank_ic_by_session`.
    path : int

    Returns
    -------
    list of dict
        ``year``, ``mean`` (over its sessions) and ``cells``: twelve of ``month, value`` (None without a session) and
        ``shade``, which runs from -0.55 to 0.55 with the value over the largest absolute one.
    """
    if rank_ic.is_empty():
        return []
    chosen = rank_ic.filter(pl.col("path") == path).with_columns(
        pl.col("session").dt.year().alias("year"), pl.col("session").dt.month().alias("month")
    )
    by_month = chosen.group_by("year", "month").agg(pl.col("rank_ic").mean())
    found = {(row["year"], row["month"]): row["rank_ic"] for row in by_month.iter_rows(named=True)}
    largest = max((abs(value) for value in found.values()), default=0.0) or 1.0
    rows = []
    for (year,), group in chosen.sort("session").group_by("year", maintain_order=True):
        values = [found.get((year, month)) for month in range(1, 13)]
        cells = [
            {"month": name, "value": value, "shade": (value or 0.0) / largest * STRONGEST_SHADE}
            for name, value in zip(MONTHS, values, strict=True)
        ]
        rows.append({"year": str(year), "mean": float(group["rank_ic"].to_numpy().mean()), "cells": cells})
    return rows


def capacity_sentence(points: Sequence[CapacityPoint], required_sharpe: float) -> str:
    """What the capacity curve says, in one sentence."""
    limit = capacity(points, required_sharpe)
    wanted = f"the required net Sharpe ratio of {required_sharpe:.2f}"
    if limit is None:
        return f"No account of {points[0].capital:,.0f} or more reaches {wanted}."
    if math.isinf(limit):
        return f"Up to {points[-1].capital:,.0f}, the largest account tried, it keeps {wanted}."
    digits = 10.0 ** (math.floor(math.log10(limit)) - 1)  # two digits: the cost model knows no more
    return f"It keeps {wanted} up to an account of about {round(limit / digits) * digits:,.0f}."
