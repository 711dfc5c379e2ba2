"""Which folders the platform reads and writes: the configuration, the home, the desk's project."""

import os
from pathlib import Path

from quant_assets.common.errors import ConfigurationError
from quant_assets.common.files import is_url, local_path, shown

_PACKAGE = Path(__file__).resolve().parents[1]


def config_dir() -> Path:
    """Where the configuration lives: ``$QUANT_ASSETS_CONFIGS``, else ``./configs``, else `shipped_configs`."""
    chosen = os.environ.get("QUANT_ASSETS_CONFIGS")
    if chosen:
        return Path(chosen)
    local = Path("configs")
    return local if local.is_dir() else shipped_configs()


def shipped_configs() -> Path:
    """The configuration that ships: a folder of the installed package, in a checkout the folder beside it."""
    packaged = _PACKAGE / "configs"
    return packaged if packaged.is_dir() else _PACKAGE.parent / "configs"


def shipped_project() -> Path:
    """The example project that ``quant-assets init`` copies, beside `shipped_configs` in either place."""
    packaged = _PACKAGE / "project"
    return packaged if packaged.is_dir() else _PACKAGE.parent / "infra" / "project"


def home_address() -> str:
    """What ``$QUANT_ASSETS_HOME`` says, a folder or a URL; default ``.quant_assets``."""
    return os.environ.get("QUANT_ASSETS_HOME") or ".quant_assets"


def home_dir(address: str = "") -> Path:
    """The local folder of a home: the home itself when it is a folder, and a folder beside it when it is a URL.

    Parameters
    ----------
    address : str
        Folder or URL; empty means `home_address`. With a URL it is ``$QUANT_ASSETS_LOCAL``, default
        ``./.quant_assets``: what cannot live in a bucket is there (sqlite files, private keys, configuration that
        was added by command).

    Raises
    ------
    ConfigurationError
        When ``$QUANT_ASSETS_LOCAL`` is wanted and is a URL.
    """
    address = address or home_address()
    if not is_url(address):
        return local_path(address).resolve()
    local = os.environ.get("QUANT_ASSETS_LOCAL") or ".quant_assets"
    if is_url(local):
        raise ConfigurationError(
            "environment variable QUANT_ASSETS_LOCAL",
            expected="a local folder, for what cannot live in a bucket",
            found=f"the URL {shown(local)}",
            action="set it to a folder of this machine",
        )
    return local_path(local).resolve()


def project_dir() -> Path:
    """The desk's project: the folder that its configuration folder lies in. Its modules lie there too.

    Where the installed package's own configuration is in force there is no project, and it is the working directory.
    """
    folder = config_dir().resolve()
    return Path.cwd() if _PACKAGE in folder.parents else folder.parent
