"""What every stage shares: settings, errors, content hashing, the artifact store, logging, the look of pages."""

from typing import TYPE_CHECKING

from quant_assets.common.lazy import lazy_exports

if TYPE_CHECKING:
    from quant_assets.common.errors import (
        ArtifactError,
        BarContractError,
        CalendarError,
        ComputeError,
        ConfigurationError,
        DatasetError,
        DriftError,
        EvidenceError,
        FeatureError,
        GateClosedError,
        LedgerError,
        ModelError,
        QuantAssetsError,
        RegistryError,
        SourceError,
        StorageError,
        StoreError,
        ValidationError,
        closest,
    )
    from quant_assets.common.files import write_whole
    from quant_assets.common.hashing import (
        bytes_digest,
        canonical_json,
        combined_fingerprint,
        frame_digest,
        json_digest,
    )
    from quant_assets.common.home import Home
    from quant_assets.common.logging import configure_logging, get_logger
    from quant_assets.common.places import config_dir, home_dir
    from quant_assets.common.processes import run_tasks
    from quant_assets.common.settings import (
        CostConfig,
        ModelsConfig,
        PortfolioConfig,
        StrategyConfig,
        UniverseConfig,
        ValidationConfig,
    )
    from quant_assets.common.store import ArtifactStore, Encoded, Table, decode, encode
else:
    __getattr__, __dir__ = lazy_exports(__name__)

__all__ = [
    "ArtifactError",
    "ArtifactStore",
    "BarContractError",
    "CalendarError",
    "ComputeError",
    "ConfigurationError",
    "CostConfig",
    "DatasetError",
    "DriftError",
    "Encoded",
    "EvidenceError",
    "FeatureError",
    "GateClosedError",
    "Home",
    "LedgerError",
    "ModelError",
    "ModelsConfig",
    "PortfolioConfig",
    "QuantAssetsError",
    "RegistryError",
    "SourceError",
    "StorageError",
    "StoreError",
    "StrategyConfig",
    "Table",
    "UniverseConfig",
    "ValidationConfig",
    "ValidationError",
    "bytes_digest",
    "canonical_json",
    "closest",
    "combined_fingerprint",
    "config_dir",
    "configure_logging",
    "decode",
    "encode",
    "frame_digest",
    "get_logger",
    "home_dir",
    "json_digest",
    "run_tasks",
    "write_whole",
]
