"""The tear sheet: one self-contained HTML page that says whether a candidate may go on, and why.

No script, no other file, no clock: the same inputs give the same page, on a screen, a telephone or paper.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from quant_assets.common.pages import compact, limit, page_environment, percent, sentence
from quant_assets.common.settings import DelistingConfig, StrategyConfig
from quant_assets.gates.admission import closed_reasons
from quant_assets.gates.desk_gates import desk_names
from quant_assets.gates.gate import gate_names, gate_title, gates
from quant_assets.gates.verdicts import GateReport, Verdict
from quant_assets.statistics import sharpe, track_record
from quant_assets.trading.paths import (
    information_coefficients,
    path_statistics,
    rank_ic_by_session,
    unknown_end_sharpes,
)
from quant_assets.trading.portfolio import FURTHER
from quant_assets.trading.regimes import (
    FEWEST_SESSIONS_OF_A_RATIO,
    CapacityPoint,
    capacity,
    capacity_curve,
    market_regimes,
    regime_table,
)

# ----------------------------------------------------------------------------------------------------- tables


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
        "borrow fee": "borrow_cost",
        "risk-free rate": "risk_free",
        "net return": "net_return",
        "net return at twice the costs": "net_return_at_twice_costs",
    }
    if "funding_cost" in path.columns:
        columns["funding"] = "funding_cost"
    if FURTHER in path.columns:
        columns["the desk's own cost"] = FURTHER
    taken = {"commission", "spread_cost", "impact_cost", "borrow_cost", "risk_free", "funding_cost", FURTHER}
    annual = {
        label: float(path[name].to_numpy().mean()) * periods_per_year for label, name in columns.items()
    }
    largest = max((abs(value) for value in annual.values()), default=0.0) or 1.0
    return [
        {
            "label": label,
            "annual": -value if columns[label] in taken else value,
            "share": abs(value) / largest,
            "is_cost": columns[label] in taken,
        }
        for label, value in annual.items()
    ]


def monthly_coefficients(rank_ic: pl.DataFrame, path: int) -> list[dict[str, Any]]:
    """Mean rank IC of one path by year and month, with a shade for each cell.

    Parameters
    ----------
    rank_ic : polars.DataFrame
        As made by `quant_assets.trading.paths.rank_ic_by_session`.
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


# --------------------------------------------------------------------------------------------------- the page


STATUS_WORDS = {
    "pass": "passed",
    "fail": "failed",
    "underpowered": "underpowered",
    "not_applicable": "not applicable",
    "missing": "no verdict",
}
FEW_SYMBOLS = 20


@dataclass(frozen=True)
class TearSheetInputs:
    """What a tear sheet shows.

    Attributes
    ----------
    strategy, description : str
    report : GateReport
        Of kind ``validation``, as made by `quant_assets.gates.evidence.judge_candidate`; limits, statistics of
        the paths and trials are read from it.
    path_returns : polars.DataFrame
        As made by `quant_assets.trading.paths.path_returns`.
    information_coefficients : polars.DataFrame
        As made by `quant_assets.trading.paths.information_coefficients`; may be empty.
    feature_importance : mapping of str to float
        Share of importance by feature; may be empty.
    rank_ic : polars.DataFrame
        As made by `quant_assets.trading.paths.rank_ic_by_session`; may be empty.
    regimes : polars.DataFrame
        As made by `quant_assets.trading.regimes.market_regimes`; may be empty.
    walk_forward : polars.DataFrame
        The one track whose models knew only the past, as `path_returns`; may be empty.
    capacity : tuple of CapacityPoint
        Of the path with the median Sharpe ratio; may be empty.
    capital : float or None
        Size of the account that the costs assume.
    caveats : tuple of str
        What a reader has to know before believing a figure.
    verdicts : tuple of Verdict
        Further verdicts about the same subject (parity, drift).
    required_gates : sequence of str
        Gates that decide the headline.
    provenance : mapping of str to str
        Versions of what went in, shown at the foot.
    """

    strategy: str
    report: GateReport
    path_returns: pl.DataFrame
    information_coefficients: pl.DataFrame
    feature_importance: Mapping[str, float]
    rank_ic: pl.DataFrame = field(default_factory=pl.DataFrame)
    regimes: pl.DataFrame = field(default_factory=pl.DataFrame)
    walk_forward: pl.DataFrame = field(default_factory=pl.DataFrame)
    capacity: tuple[CapacityPoint, ...] = ()
    capital: float | None = None
    description: str = ""
    caveats: tuple[str, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    required_gates: Sequence[str] = field(default_factory=lambda: gate_names("validation"))
    provenance: Mapping[str, str] = field(default_factory=dict)


def render_tear_sheet(inputs: TearSheetInputs) -> str:
    """The page as HTML text. Everything that is not ours is escaped.

    Parameters
    ----------
    inputs : TearSheetInputs
    """
    environment = page_environment(Path(__file__).parent)
    environment.filters |= {"chance": _chance, "p_value": _p_value}
    return environment.get_template("tear_sheet.html.j2").render(page_content(inputs))


def candidate_tear_sheet(
    report: GateReport,
    path_returns: pl.DataFrame,
    predictions: pl.DataFrame,
    labels: pl.DataFrame,
    bars: pl.DataFrame,
    *,
    walk_forward: pl.DataFrame,
    importance: Mapping[str, float],
    strategy: StrategyConfig,
    delisting: DelistingConfig,
    n_symbols: int,
    counted: str = "",
    survivorship: Sequence[str] = (),
    remarks: Sequence[str] = (),
    group: str = "",
) -> str:
    """The tear sheet of one candidate of a configured strategy.

    Parameters
    ----------
    report : GateReport
        Of kind ``validation``.
    path_returns, predictions, labels, bars : polars.DataFrame
        What the report was made from, the labels that the predictions were about, and the bars they were traded on.
    walk_forward : polars.DataFrame
        The track whose models knew only the past.
    importance : mapping of str to float
        Share of importance by feature.
    strategy : StrategyConfig
    delisting : DelistingConfig
        Of the universe.
    n_symbols : int
        Names in a cross-section; few of them are a caveat of their own.
    counted : str
        How many trials are behind the figures, and since when they are counted.
    survivorship : sequence of str
        What the checks of bars and members say of it.
    remarks : sequence of str
        What stands before all caveats: the comparison with the linear baseline, and whether it is for research only.
    group : str
        Whose members alone are scored and trained on, where there is such a group.
    """
    ends = unknown_end_sharpes(
        predictions,
        bars,
        strategy.portfolio,
        strategy.costs,
        delisting,
        report.details["periods_per_year"],
    )
    caveats = [
        *remarks,
        f"Costs assume an account of {strategy.costs.capital:,.0f}; cash earns nothing, shorts pay "
        f"{strategy.costs.borrow_fee_bps:g} basis points a year"
        + (
            f", and {strategy.portfolio.financing_rate:.1%} a year on what is held net long is no skill: "
            "it is subtracted."
            if strategy.portfolio.financing_rate
            else "."
        ),
        f"A name whose bars end leaves the book at its last close {delisting.final_return:+.0%}, with costs; "
        "a halted one is carried to its next open.",
        *([ends.sentence] if ends else []),
        *(
            [f"Only members of {group}, known as such at each close, are scored and trained on."]
            if group
            else []
        ),
        *(sentence(said) for said in survivorship),
        *([counted] if counted else []),
    ]
    if n_symbols < FEW_SYMBOLS:
        caveats.insert(
            0,
            f"With {n_symbols} name{'s' if n_symbols > 1 else ''} this is a demonstration: cross-sectional "
            "ranks, their IC and the long-short book rest on hardly any cross-section.",
        )
    return render_tear_sheet(
        TearSheetInputs(
            strategy=strategy.name,
            description=strategy.description,
            report=report,
            path_returns=path_returns,
            information_coefficients=information_coefficients(
                predictions, labels, horizon_sessions=strategy.label.horizon_sessions
            ),
            feature_importance=importance,
            rank_ic=rank_ic_by_session(predictions, labels),
            regimes=market_regimes(bars),
            walk_forward=walk_forward,
            capacity=capacity_curve(
                predictions,
                bars,
                int(report.details["median_path"]),
                strategy.portfolio,
                strategy.costs,
                report.details["periods_per_year"],
                delisting=delisting,
            ),
            capital=strategy.costs.capital,
            caveats=tuple(caveats),
            required_gates=(*gate_names("validation"), *desk_names(strategy.further_gates)),
        )
    )


def page_content(inputs: TearSheetInputs) -> dict[str, Any]:
    """Everything the template shows, as plain values and ``data:`` addresses."""
    from quant_assets.reports import tear_sheet_plots as plots

    report, details = inputs.report, inputs.report.details
    verdicts = (*report.verdicts, *inputs.verdicts)
    reasons = closed_reasons(report.subject, verdicts, inputs.required_gates)
    median = int(details["median_path"])
    row_of_median = next(row for row in details["paths"] if row["path"] == median)
    sharpes = {int(row["path"]): row["sharpe_annual"] for row in details["paths"]}
    chosen = inputs.path_returns.filter(pl.col("path") == median).sort("session")
    limits = report.limits
    per_year = details["periods_per_year"]
    logits = details["trials"]["overfitting_logits"]
    return {
        "strategy": inputs.strategy,
        "description": inputs.description,
        "subject": report.subject,
        "open": not reasons,
        "reasons": [_split_reason(reason) for reason in reasons],
        "n_required": len(inputs.required_gates),
        "judged_later": [gate_title(gate) for gate in gate_names() if gate not in set(inputs.required_gates)],
        "cards": _cards(report.subject, verdicts, inputs.required_gates),
        "caveats": inputs.caveats,
        "median": row_of_median,
        "details": details,
        "limits": limits,
        "first": chosen["session"][0],
        "last": chosen["session"][-1],
        "walk_forward": asdict(
            path_statistics(inputs.walk_forward, per_year, standard=limits["psr_standard"])[0]
        )
        if inputs.walk_forward.height
        else None,
        "walk_forward_first": inputs.walk_forward["session"].min() if inputs.walk_forward.height else None,
        "years": yearly_table(chosen, per_year),
        "regimes": [] if inputs.regimes.is_empty() else regime_table(chosen, inputs.regimes, per_year),
        "costs": cost_table(chosen, per_year),
        "coefficients": inputs.information_coefficients.to_dicts(),
        "month_names": MONTHS,
        "months": monthly_coefficients(inputs.rank_ic, median),
        "capacity_words": capacity_sentence(inputs.capacity, limits["sharpe_min"])
        if inputs.capacity
        else None,
        "sharpe_plot": plots.sharpe_distribution(sharpes, median, limits["sharpe_min"]),
        "equity_plot": plots.equity_fan(inputs.path_returns, median, inputs.walk_forward),
        "drawdown_plot": plots.drawdown_fan(inputs.path_returns, median, limits["max_drawdown_min"]),
        "importance_plot": plots.importance_bars(inputs.feature_importance)
        if inputs.feature_importance
        else None,
        "overfitting_plot": plots.overfitting_histogram(logits["edges"], logits["counts"])
        if logits
        else None,
        "capacity_plot": plots.capacity_curve(inputs.capacity, limits["sharpe_min"], inputs.capital)
        if inputs.capacity
        else None,
        "provenance": dict(sorted(inputs.provenance.items())),
    }


def _cards(subject: str, verdicts: Sequence[Verdict], required: Sequence[str]) -> list[dict[str, Any]]:
    """A card per required gate, in their order, then one per further verdict about the same subject."""
    about = {verdict.gate: verdict for verdict in verdicts if verdict.subject == subject}
    cards = []
    for gate in [*required, *(gate for gate in about if gate not in set(required))]:
        verdict = about.get(gate)
        status = verdict.status if verdict else "missing"
        cards.append(
            {
                "gate": gate,
                "title": gate_title(gate),
                "status": status,
                "status_words": STATUS_WORDS[status],
                "verdict": verdict,
                "observed": gate_number(gate, verdict.observed, compact) if verdict else "",
                "required": gate_number(gate, verdict.required, limit) if verdict else "",
            }
        )
    return cards


def gate_number(gate: str, value: float | None, otherwise: Callable[[float | None], str]) -> str:
    """A number of a gate: in percent where people read it so."""
    known = gates().get(gate)
    return percent(value) if known is not None and known.limit.percent else otherwise(value)


def _split_reason(reason: str) -> tuple[str, str]:
    gate, _, words = reason.partition(": ")
    return gate_title(gate), words.removeprefix("fail: ")


def _chance(probability: float) -> str:
    """A probability in percent that is never rounded to certainty."""
    if probability < 0.001:
        return "< 0.1%"
    return "> 99.9%" if probability > 0.999 else f"{probability:.1%}"


def _p_value(share: float) -> str:
    """A share of resamples; none of 2,000 is not an impossibility."""
    return "< 0.001" if share < 0.001 else f"{share:.3f}"
