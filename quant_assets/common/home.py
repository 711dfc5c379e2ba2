"""Where everything that is made is kept: artifacts, ledgers, reports, keys, and the addresses of what shows them."""

import os
from dataclasses import dataclass
from pathlib import Path

from quant_assets.common.errors import ConfigurationError
from quant_assets.common.files import Location, is_url, local_path, located, make_private, write_whole
from quant_assets.common.hashing import bytes_digest
from quant_assets.common.places import home_address, home_dir
from quant_assets.common.store import ArtifactStore

# Instance templates of earlier releases: one without a launcher that sees dead runs, and one without pools, which
# was written where the checkout was not found. An untouched copy is replaced, an edited one never.
_EARLIER_TEMPLATES = frozenset(
    {
        "59944923165759e912ea99f309dcba8da9510d4cd9f69c8892d815385b66616d",
        "9ab98f81392f4727d3ac3c894617ad82d0e0324ab6fc204923af3762d8f5bed1",
    }
)


# Where a server of the UI shows the published pages.
SERVED_BELOW = "/reports"


@dataclass(frozen=True)
class Home:
    """One home of the platform: a folder, or a URL with a folder beside it.

    Below a URL (``s3://bucket/prefix``) live the artifact store, the trial ledger, the promotion ledger and the
    published pages: everything that is shared. What has to be local is in `local`: Dagster's and MLflow's sqlite
    files, tuning studies, signing keys. Each of them has a service for a team (Postgres, an MLflow server,
    ``$QUANT_ASSETS_TUNING_STORAGE``, ``$QUANT_ASSETS_SIGNING_KEY``), and then nothing of value is local.

    Parameters
    ----------
    root : str
        Folder or URL; empty means ``$QUANT_ASSETS_HOME``, else ``./.quant_assets``.
    tracking_uri : str
        MLflow tracking URI; empty means a sqlite file of the local folder.
    local_root : str
        The local folder of a URL; empty means ``$QUANT_ASSETS_LOCAL``, else ``./.quant_assets``. A folder is its own.
    """

    root: str = ""
    tracking_uri: str = ""
    local_root: str = ""

    @property
    def path(self) -> Location:
        """The home: a local path, or that of a bucket. Ledgers and pages are below it.

        Raises
        ------
        ConfigurationError, StorageError
            As `quant_assets.common.files.located`, for a URL that no store can be reached by.
        """
        if is_url(self.root or home_address()):
            return located(self.root or home_address())
        return local_path(self.root) if self.root else home_dir()

    @property
    def local(self) -> Path:
        """The local folder: the home itself, or the folder beside a URL."""
        if not is_url(self.root or home_address()):
            return local_path(self.root) if self.root else home_dir()
        return Path(self.local_root) if self.local_root else home_dir(self.root)

    def local_folder(self, name: str, purpose: str) -> Path:
        """A folder below `local`, made when it is missing.

        Parameters
        ----------
        name : str
            As in ``"dagster"``.
        purpose : str
            What it is for, for the message.

        Raises
        ------
        ConfigurationError
            When it cannot be made or written: the thing then needs a service, or another folder.
        """
        folder = self.local / name
        try:
            make_private(self.local)
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"local folder {folder}",
                expected=f"a folder that can be written, for {purpose}",
                found=f"{type(error).__name__}: {error.strerror}",
                action="set QUANT_ASSETS_LOCAL to one (QUANT_ASSETS_HOME where the home is a folder), or use a "
                "service for it",
            ) from error
        return folder

    def dagster_folder(self) -> Path:
        """The folder of the Dagster instance, with the ``dagster.yaml`` that ships with the package in place."""
        folder = self.local_folder("dagster", "Dagster's instance")
        target = folder / "dagster.yaml"
        if not target.exists() or bytes_digest(target.read_bytes()) in _EARLIER_TEMPLATES:
            write_whole(target, Path(__file__).with_name("dagster.yaml").read_bytes())
        return folder

    @property
    def store(self) -> ArtifactStore:
        """The artifact store."""
        return ArtifactStore(self.path / "artifacts")

    @property
    def mlflow_uri(self) -> str:
        """The tracking URI, a sqlite file of the local folder by default."""
        return self.tracking_uri or f"sqlite:///{self.local / 'mlflow.db'}"

    @property
    def mlflow_artifacts(self) -> str:
        """Where MLflow keeps its artifacts."""
        return (self.local / "mlartifacts").absolute().as_uri()

    def mlflow_ui(self, experiment_id: str, run_id: str) -> str | None:
        """Address of an MLflow run below $MLFLOW_UI_URL, where ``mlflow server`` shows it; None without one."""
        base = os.environ.get("MLFLOW_UI_URL", "").rstrip("/")
        return f"{base}/#/experiments/{experiment_id}/runs/{run_id}" if base else None

    def dagster_ui(self, run_id: str) -> str:
        """Address of a Dagster run: below $DAGSTER_UI_URL, where ``dagster dev`` or a webserver shows it."""
        return f"{self.ui_address}/runs/{run_id}"

    @property
    def ui_address(self) -> str:
        """Address of the UI: $DAGSTER_UI_URL, or where ``quant-assets ui`` listens unless it is told otherwise."""
        return os.environ.get("DAGSTER_UI_URL", "http://127.0.0.1:3000").rstrip("/")

    def page_address(self, page: Location) -> str:
        """Address of a published page, below $DAGSTER_UI_URL or the server that shows the link, whatever its port.

        ``quant-assets ui`` serves pages there; see `quant_assets.common.served_pages`.
        """
        return f"{os.environ.get('DAGSTER_UI_URL', '').rstrip('/')}{SERVED_BELOW}/{page.name}"

    @property
    def promotion_ledger(self) -> Location:
        """The hash-chained ledger of promotions and refusals; see `quant_assets.ledgers.promotions`."""
        return self.path / "promotions" / "ledger.jsonl"
