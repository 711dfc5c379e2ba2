"""The newest candidate of a strategy and what its newest reports say."""

import dagster as dg

from quant_assets.common.home import Home
from quant_assets.defs.running import strategy_verdicts
from quant_assets.defs.storage import artifact_of, latest_event
from quant_assets.gates.baseline_comparison import CandidateSummary, judged_by
from quant_assets.lineage.settings import Settings


def newest_candidate(
    instance: dg.DagsterInstance, home: Home, settings: Settings, strategy: str
) -> CandidateSummary | None:
    """The candidate with the verdicts about exactly it by the limits in force. None before the first candidate.

    Verdicts about an earlier candidate, or by limits that have changed since, are left out: they say nothing.
    """
    event = latest_event(instance, dg.AssetKey([strategy, "ensemble"]), None)
    if event is None:
        return None
    subject = artifact_of(event, home.store).version
    limits = {
        **settings.gates.for_strategy(settings.strategies[strategy].gates).model_dump(),
        **settings.monitoring.drift.model_dump(include={"min_drifted_features"}),
    }
    verdicts = strategy_verdicts(instance, home, strategy)
    return CandidateSummary(
        strategy, subject, tuple(v for v in verdicts if v.subject == subject and judged_by(v, limits))
    )
