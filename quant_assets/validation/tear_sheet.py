"""The tear sheet: one self-contained HTML page that says whether a candidate may go on, and why.

No script, no other file, no clock: the same inputs give the same page, on a screen, a telephone or paper.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from quant_assets.common.pages import page_environment
from quant_assets.common.settings import StrategyConfig
from quant_assets.validation import tear_sheet_tables as tables
from quant_assets.validation.capacity import CapacityPoint, capacity_curve
from quant_assets.validation.paths import information_coefficients, rank_ic_by_session
from quant_assets.validation.regimes import market_regimes, regime_table
from quant_assets.validation.verdicts import CPCV_GATES, REQUIRED_GATES, GateReport, Verdict, closed_reasons

GATE_TITLES = {
    "cpcv_sharpe": "Net Sharpe ratio",
    "cpcv_probabilistic_sharpe": "Probabilistic Sharpe ratio",
    "cpcv_deflated_sharpe": "Deflated Sharpe ratio",
    "cpcv_max_drawdown": "Maximum drawdown",
    "cpcv_backtest_overfitting": "Backtest overfitting",
    "onnx_parity": "ONNX parity",
    "int8_parity": "INT8 parity",
    "feature_drift": "Feature drift",
}
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
        Of kind ``validation``, as made by `quant_assets.validation.gates.judge_candidate`; limits, statistics of
        the paths and trials are read from it.
    path_returns : polars.DataFrame
        As made by `quant_assets.validation.paths.path_returns`.
    information_coefficients : polars.DataFrame
        As made by `quant_assets.validation.paths.information_coefficients`; may be empty.
    feature_importance : mapping of str to float
        Share of importance by feature; may be empty.
    rank_ic : polars.DataFrame
        As made by `quant_assets.validation.paths.rank_ic_by_session`; may be empty.
    regimes : polars.DataFrame
        As made by `quant_assets.validation.regimes.market_regimes`; may be empty.
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
    capacity: tuple[CapacityPoint, ...] = ()
    capital: float | None = None
    description: str = ""
    caveats: tuple[str, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    required_gates: Sequence[str] = CPCV_GATES
    provenance: Mapping[str, str] = field(default_factory=dict)


def render_tear_sheet(inputs: TearSheetInputs) -> str:
    """The page as HTML text. Everything that is not ours is escaped.

    Parameters
    ----------
    inputs : TearSheetInputs
    """
    environment = page_environment(Path(__file__).parent)
    environment.filters |= {"sentence": _sentence, "chance": _chance, "p_value": _p_value}
    return environment.get_template("tear_sheet.html.j2").render(page_content(inputs))


def candidate_tear_sheet(
    report: GateReport,
    path_returns: pl.DataFrame,
    predictions: pl.DataFrame,
    labels: pl.DataFrame,
    bars: pl.DataFrame,
    *,
    importance: Mapping[str, float],
    strategy: StrategyConfig,
    n_symbols: int,
) -> str:
    """The tear sheet of one candidate of a configured strategy.

    Parameters
    ----------
    report : GateReport
        Of kind ``validation``.
    path_returns, predictions, labels, bars : polars.DataFrame
        What the report was made from, the labels that the predictions were about, and the bars they were traded on.
    importance : mapping of str to float
        Share of importance by feature.
    strategy : StrategyConfig
    n_symbols : int
        Names in a cross-section; few of them are a caveat of their own.
    """
    caveats = [
        f"Costs assume an account of {strategy.costs.capital:,.0f}; cash earns nothing and shorts pay no fee.",
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
            capacity=capacity_curve(
                predictions,
                bars,
                int(report.details["median_path"]),
                strategy.portfolio,
                strategy.costs,
                report.details["periods_per_year"],
            ),
            capital=strategy.costs.capital,
            caveats=tuple(caveats),
        )
    )


def page_content(inputs: TearSheetInputs) -> dict[str, Any]:
    """Everything the template shows, as plain values and ``data:`` addresses."""
    from quant_assets.validation import tear_sheet_plots as plots

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
        "judged_later": [
            GATE_TITLES[gate] for gate in REQUIRED_GATES if gate not in set(inputs.required_gates)
        ],
        "cards": _cards(report.subject, verdicts, inputs.required_gates),
        "caveats": inputs.caveats,
        "median": row_of_median,
        "details": details,
        "limits": limits,
        "first": chosen["session"][0],
        "last": chosen["session"][-1],
        "years": tables.yearly_table(chosen, per_year),
        "regimes": [] if inputs.regimes.is_empty() else regime_table(chosen, inputs.regimes, per_year),
        "costs": tables.cost_table(chosen, per_year),
        "coefficients": inputs.information_coefficients.to_dicts(),
        "month_names": tables.MONTHS,
        "months": tables.monthly_coefficients(inputs.rank_ic, median),
        "capacity_words": tables.capacity_sentence(inputs.capacity, limits["sharpe_min"])
        if inputs.capacity
        else None,
        "sharpe_plot": plots.sharpe_distribution(sharpes, median, limits["sharpe_min"]),
        "equity_plot": plots.equity_fan(inputs.path_returns, median),
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
                "title": GATE_TITLES.get(gate, gate),
                "status": status,
                "status_words": STATUS_WORDS[status],
                "verdict": verdict,
            }
        )
    return cards


def _split_reason(reason: str) -> tuple[str, str]:
    gate, _, words = reason.partition(": ")
    return GATE_TITLES.get(gate, gate), words.removeprefix("fail: ")


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:] + ("" if words.endswith((".", "!", "?")) else ".")


def _chance(probability: float) -> str:
    """A probability in percent that is never rounded to certainty."""
    if probability < 0.001:
        return "< 0.1%"
    return "> 99.9%" if probability > 0.999 else f"{probability:.1%}"


def _p_value(share: float) -> str:
    """A share of resamples; none of 2,000 is not an impossibility."""
    return "< 0.001" if share < 0.001 else f"{share:.3f}"
