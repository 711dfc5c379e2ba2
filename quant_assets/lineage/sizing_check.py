"""The check of a portfolio scheme: decided again in a process of its own, it looks at nothing later."""

from collections.abc import Sequence

from quant_assets.common.plugins import Plugin
from quant_assets.common.settings import CostConfig, PortfolioConfig
from quant_assets.gates.apart import asked_apart
from quant_assets.gates.desk_gates import Finding, one_line
from quant_assets.gates.verdicts import meets
from quant_assets.lineage.artifact import Artifact
from quant_assets.lineage.declaring import Check, CheckResult, CheckSpec
from quant_assets.lineage.scope import Scope

NAME = "sizing_looks_at_nothing_later"
PROOF = "quant_assets.gates.sizing_proof:looks_at_nothing_later"
SECONDS = 300.0  # an optimiser solves some hundred problems


def _specs(scope: Scope) -> Sequence[CheckSpec]:
    if scope.plan.portfolio.by_rank_alone:  # of the scores of one session and of nothing else
        return ()
    said = (
        "Weights stay the same when later bars are taken away, are others, and when they are asked for again."
    )
    return (CheckSpec(NAME, said, blocking=True),)


def _judged(
    cpcv_predictions: Artifact, bars: Artifact, *, portfolio: PortfolioConfig, costs: CostConfig
) -> CheckResult:
    from quant_assets.trading.proof import as_frame

    options = {"portfolio": portfolio.model_dump(mode="json"), "capital": costs.capital}
    found = asked_apart(
        Plugin(use=PROOF, options=options),
        "a proof",
        frame=as_frame(cpcv_predictions.table().frame, bars.table().frame),
        seconds=SECONDS,
    )
    if not isinstance(found, Finding):
        return CheckResult(NAME, False, f"no proof: {one_line(found)}")
    passed = meets(found.observed, found.limit, found.comparison)
    return CheckResult(
        NAME,
        passed,
        f"{found.quantity}: {found.observed:.4g}, required {found.comparison} {found.limit:g}",
        facts={"observed": found.observed, "remedy": found.remedy},
    )


SIZING_CHECK = Check(NAME, _specs, _judged)
