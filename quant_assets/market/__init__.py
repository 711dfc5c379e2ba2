"""Market data: calendar, bar sources and their row contract, corporate actions, quality rules, synthetic markets."""

from typing import TYPE_CHECKING

from quant_assets.common.lazy import lazy_exports

if TYPE_CHECKING:
    from quant_assets.market.actions import ACTIONS_SCHEMA, adjust_bars, derive_corporate_actions
    from quant_assets.market.calendar import periods_per_year, session_times, sessions
    from quant_assets.market.parsing import RAW_SCHEMA
    from quant_assets.market.reconciliation import Reconciliation, reconcile
    from quant_assets.market.rules import (
        BarRule,
        QualityFinding,
        Quarantine,
        bar_rules,
        check_bars,
        check_quality,
        quarantine,
        raw_rules,
    )
    from quant_assets.market.sources import SourceRead, describe_file, read_all, read_bars, read_year
    from quant_assets.market.synthetic import generate
else:
    __getattr__, __dir__ = lazy_exports(__name__)

__all__ = [
    "ACTIONS_SCHEMA",
    "RAW_SCHEMA",
    "BarRule",
    "QualityFinding",
    "Quarantine",
    "Reconciliation",
    "SourceRead",
    "adjust_bars",
    "bar_rules",
    "check_bars",
    "check_quality",
    "derive_corporate_actions",
    "describe_file",
    "generate",
    "periods_per_year",
    "quarantine",
    "raw_rules",
    "read_all",
    "read_bars",
    "read_year",
    "reconcile",
    "session_times",
    "sessions",
]
