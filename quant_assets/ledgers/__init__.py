"""Ledgers: one append-only chain; trials and promotions are record types of it."""

from typing import TYPE_CHECKING

from quant_assets.common.lazy import lazy_exports

if TYPE_CHECKING:
    from quant_assets.ledgers.chain import GENESIS, Chain, LineFile, RecordFiles, RecordType
    from quant_assets.ledgers.promotions import LedgerEntry, LedgerState, PromotionLedger
    from quant_assets.ledgers.trials import Trial, TrialLedger, TrialSnapshot, trial_of
else:
    __getattr__, __dir__ = lazy_exports(__name__)

__all__ = [
    "GENESIS",
    "Chain",
    "LedgerEntry",
    "LedgerState",
    "LineFile",
    "PromotionLedger",
    "RecordFiles",
    "RecordType",
    "Trial",
    "TrialLedger",
    "TrialSnapshot",
    "trial_of",
]
