"""Registry: the training record in MLflow, the champion, and the one place that moves an alias.

The only package that imports MLflow, and it does so inside functions (the import takes 3 s).
"""

from typing import TYPE_CHECKING

from quant_assets.common.lazy import lazy_exports

if TYPE_CHECKING:
    from quant_assets.registry.champion import (
        ChampionPointer,
        champion_files,
        contradictions,
        current_champion,
        load_champion,
        require_promoted,
    )
    from quant_assets.registry.promotion import promote, promotion_reasons
    from quant_assets.registry.record import CandidateEvidence, candidate_record
    from quant_assets.registry.standing import Standing, ledger_keys
    from quant_assets.registry.tracking import record_training, record_trials
else:
    __getattr__, __dir__ = lazy_exports(__name__)

__all__ = [
    "CandidateEvidence",
    "ChampionPointer",
    "Standing",
    "candidate_record",
    "champion_files",
    "contradictions",
    "current_champion",
    "ledger_keys",
    "load_champion",
    "promote",
    "promotion_reasons",
    "record_training",
    "record_trials",
    "require_promoted",
]
