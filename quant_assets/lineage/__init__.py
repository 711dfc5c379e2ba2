"""The lineage: every stage declared once, as data, without an orchestrator.

`run` makes a strategy's assets in this process, to the versions of the platform; `Lineage` is every asset that a
configuration describes; `stage` declares a new one.
"""

from typing import TYPE_CHECKING

from quant_assets.common.lazy import lazy_exports

if TYPE_CHECKING:
    from quant_assets.lineage.artifact import Artifact, Partitions
    from quant_assets.lineage.configured import MonitoringConfig, Settings, load_settings
    from quant_assets.lineage.declaring import (
        Check,
        CheckResult,
        CheckSpec,
        Product,
        Stage,
        register,
        single,
        stage,
        unregister,
    )
    from quant_assets.lineage.graph import Lineage, Node
    from quant_assets.lineage.notebook import Run, run
    from quant_assets.lineage.scope import Scope
else:
    __getattr__, __dir__ = lazy_exports(__name__)

__all__ = [
    "Artifact",
    "Check",
    "CheckResult",
    "CheckSpec",
    "Lineage",
    "MonitoringConfig",
    "Node",
    "Partitions",
    "Product",
    "Run",
    "Scope",
    "Settings",
    "Stage",
    "load_settings",
    "register",
    "run",
    "single",
    "stage",
    "unregister",
]
