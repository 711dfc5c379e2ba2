"""What is asked of the newest data: that they look like those that the candidate was trained on."""

from quant_assets.gates.cases import DriftCase
from quant_assets.gates.gate import Gate, Limit, register
from quant_assets.gates.verdicts import Verdict


def judge_feature_drift(case: DriftCase) -> Verdict:
    """Number of features that drifted, against the number that makes an alarm."""
    drifted = case.drifted
    return FEATURE_DRIFT.verdict(
        case,
        len(drifted),
        quantity=f"number of features of {len(case.features)} that drifted (distribution of the window, joint jump "
        f"of level or of spread, at {case.limits.alpha:g} in all{': ' + ', '.join(drifted) if drifted else ''})",
    )


FEATURE_DRIFT = register(
    Gate(
        name="feature_drift",
        kind="drift",
        title="Feature drift",
        description="Features of the newest window that drifted from the training window.",
        opens_when="fewer than `min_drifted_features` features drift, by their distribution or by a joint jump, at "
        "`alpha` (`drift` of `gates.yaml`)",
        # the gate opens below the number of drifted features that makes an alarm
        limit=Limit(
            "min_drifted_features",
            3,
            "<=",
            "features that make an alarm",
            offset=-1.0,
            ge=1,
            floor=10,
            whole=True,
        ),
        judge=judge_feature_drift,
        remedy="retrain on a window that includes the new regime, or find the fault in the newest data",
        place=1,
    )
)
