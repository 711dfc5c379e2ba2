"""Bar rules: what makes a bar or a panel suspicious, and what becomes of it."""

from typing import TYPE_CHECKING

from quant_assets.common.lazy import lazy_exports

if TYPE_CHECKING:
    from quant_assets.market.rules.bar_rule import (
        BarRule,
        Judged,
        Limit,
        all_rules,
        bar_rules,
        check_quality,
        find_rule,
        limits_of,
        raw_rules,
        register,
        rule_modules,
        rules_table,
        unregister,
        with_limits,
    )
    from quant_assets.market.rules.quality import QualityFinding, Quarantine, check_bars, quarantine
else:
    __getattr__, __dir__ = lazy_exports(__name__)

__all__ = [
    "BarRule",
    "Judged",
    "Limit",
    "QualityFinding",
    "Quarantine",
    "all_rules",
    "bar_rules",
    "check_bars",
    "check_quality",
    "find_rule",
    "limits_of",
    "quarantine",
    "raw_rules",
    "register",
    "rule_modules",
    "rules_table",
    "unregister",
    "with_limits",
]
