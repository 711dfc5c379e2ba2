"""The gate of the margin over costs: what is left when they are twice what was assumed."""

import math

from quant_assets.gates.cases import ValidationCase
from quant_assets.gates.gate import Gate, Limit, register
from quant_assets.gates.verdicts import Verdict


def judge_cost_margin(case: ValidationCase) -> Verdict:
    """Median net Sharpe ratio over paths when every cost is doubled; without such returns the gate is closed."""
    ratios = [path.sharpe_annual_at_twice_costs for path in case.statistics]
    # As for the median path: the lower one of two, and a path without a ratio counts as the worst.
    ordered = sorted(ratios, key=lambda ratio: -math.inf if math.isnan(ratio) else ratio)
    median = case.median
    return COST_MARGIN.verdict(
        case,
        ordered[(len(ordered) - 1) // 2],
        quantity=f"median net Sharpe ratio over {len(ratios)} paths (annual) at twice the costs",
        remedy="a strategy that trades: its returns do not vary"
        if math.isnan(median.sharpe_annual)
        else f"less trading or more edge: {median.gross_sharpe_annual:.2f} before costs, "
        f"{median.sharpe_annual:.2f} after them, at a turnover of {median.turnover_per_session:.0%} of capital per "
        "session",
    )


# Costs are the least certain number of a backtest: estimates of market impact differ by a factor of two between
# samples (Almgren, Thum, Hauptmann and Li 2005; Frazzini, Israel and Moskowitz 2018), and spreads double in the weeks
# in which everybody trades. An edge that an error of 100 % turns into a loss was never known to exist. Not above 0:
# how much has to be left is the business of the Sharpe gate.
COST_MARGIN = register(
    Gate(
        name="cpcv_cost_margin",
        kind="validation",
        title="Net Sharpe ratio at twice the costs",
        description="Median over CPCV paths of the annualised Sharpe with every cost doubled.",
        opens_when="the median over CPCV paths of the annual net Sharpe ratio at twice the costs (commission, "
        "spread, impact, borrow fee) is at least `sharpe_at_twice_costs_min`",
        limit=Limit(
            "sharpe_at_twice_costs_min",
            0.0,
            ">=",
            "annualised, every cost doubled, median over paths",
            floor=0.0,
        ),
        judge=judge_cost_margin,
        place=6,
    )
)
