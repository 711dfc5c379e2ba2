"""Where everything that is made is kept: artifacts, ledgers, reports, keys, and the addresses of what shows them."""

import os
from dataclasses import dataclass
from pathlib import Path

from quant_assets.common.configuration import home_dir
from quant_assets.common.store import ArtifactStore


@dataclass(frozen=True)
class Home:
    """One home of the platform.

    Parameters
    ----------
    root : str
        Folder; empty means ``$QUANT_ASSETS_HOME``, else ``./.quant_assets``.
    tracking_uri : str
        MLflow tracking URI; empty means a sqlite file below the root.
    """

    root: str = ""
    tracking_uri: str = ""

    @property
    def path(self) -> Path:
        """The local home folder."""
        return Path(self.root) if self.root else home_dir()

    @property
    def store(self) -> ArtifactStore:
        """The artifact store."""
        return ArtifactStore(self.path / "artifacts")

    @property
    def mlflow_uri(self) -> str:
        """The tracking URI, a sqlite file of the home folder by default."""
        return self.tracking_uri or f"sqlite:///{self.path / 'mlflow.db'}"

    @property
    def mlflow_artifacts(self) -> str:
        """Where MLflow keeps its artifacts."""
        return (self.path / "mlartifacts").as_uri()

    def mlflow_ui(self, experiment_id: str, run_id: str) -> str:
        """Address of an MLflow run: below $MLFLOW_UI_URL, where ``mlflow server`` shows this store."""
        base = os.environ.get("MLFLOW_UI_URL", "http://127.0.0.1:5000").rstrip("/")
        return f"{base}/#/experiments/{experiment_id}/runs/{run_id}"

    def dagster_ui(self, run_id: str) -> str:
        """Address of a Dagster run: below $DAGSTER_UI_URL, where ``dagster dev`` or a webserver shows it."""
        base = os.environ.get("DAGSTER_UI_URL", "http://127.0.0.1:3000").rstrip("/")
        return f"{base}/runs/{run_id}"

    @property
    def promotion_ledger(self) -> Path:
        """The hash-chained ledger of promotions and refusals."""
        return self.path / "promotions" / "ledger.jsonl"
