"""The newest candidate of a strategy and what its newest reports say."""

import dagster as dg

from quant_assets.defs.resources import Home
from quant_assets.defs.running import strategy_verdicts
from quant_assets.defs.storage import artifact_of, latest_event
from quant_assets.validation.baseline_comparison import CandidateSummary


def newest_candidate(instance: dg.DagsterInstance, home: Home, strategy: str) -> CandidateSummary | None:
    """The candidate with the verdicts about exactly it, those about earlier ones left out. None before the first."""
    event = latest_event(instance, dg.AssetKey([strategy, "ensemble"]), None)
    if event is None:
        return None
    subject = artifact_of(event, home.store).version
    verdicts = strategy_verdicts(instance, home, strategy)
    return CandidateSummary(strategy, subject, tuple(v for v in verdicts if v.subject == subject))
