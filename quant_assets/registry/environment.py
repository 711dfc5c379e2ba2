"""The environment of a record: every installed distribution at its version, Python, platform, the lock file."""

import importlib.metadata
import platform
import re
import sys
from pathlib import Path

import quant_assets
from quant_assets.common.hashing import bytes_digest, canonical_json

REQUIREMENTS, FACTS = "environment/requirements.txt", "environment/environment.json"


def installed_versions() -> dict[str, str]:
    """Version of every distribution that this interpreter sees, by normalised name (PEP 503), in name order.

    The first on the path counts where one is there twice, as it does for imports.
    """
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        name = re.sub(r"[-_.]+", "-", distribution.name).lower()
        found.setdefault(name, distribution.version)
    return dict(sorted(found.items()))


def environment_files(project: Path | None = None) -> dict[str, bytes]:
    """The environment as two files.

    Parameters
    ----------
    project : Path, optional
        Folder in which ``uv.lock`` is looked for; by default the checkout that holds this package.

    Returns
    -------
    dict of str to bytes
        ``environment/requirements.txt``, which pip and uv can install from, and ``environment/environment.json``
        with Python, platform, number of distributions and the SHA-256 of ``uv.lock`` (null where there is none, as
        in an installed wheel).
    """
    folder = Path(quant_assets.__file__).parents[1] if project is None else project
    lock = folder / "uv.lock"
    versions = installed_versions()
    facts = {
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "platform": platform.platform(),
        "architecture": platform.machine(),
        "distributions": len(versions),
        "uv_lock_sha256": bytes_digest(lock.read_bytes()) if lock.is_file() else None,
    }
    lines = [f"{name}=={version}\n" for name, version in versions.items()]
    return {REQUIREMENTS: "".join(lines).encode(), FACTS: canonical_json(facts)}
