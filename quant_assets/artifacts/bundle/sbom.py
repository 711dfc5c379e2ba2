"""The software bill of materials of a bundle: what is installed that the platform needs, as CycloneDX JSON.

It lists the closure of the platform's own requirements and not everything in the environment, so that a test
runner beside it changes nothing. There is no time and no serial number in it: same environment, same bytes.
"""

import importlib.metadata
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from quant_assets.common.errors import ArtifactError
from quant_assets.common.hashing import canonical_json

_ROOT = "quant_assets"
# Longer entries of the old field "License" are whole licence texts.
_MAX_LICENCE_NAME = 100


@dataclass(frozen=True)
class Installed:
    """One installed distribution.

    Attributes
    ----------
    name : str
        Normalised name (PEP 503).
    version : str
    licence : str or None
        As the distribution states it: an SPDX expression, a name, or its classifiers.
    requires : tuple of str
        Normalised names of installed distributions that it needs here.
    missing : tuple of str
        Of distributions that it asks for here and that are not installed.
    """

    name: str
    version: str
    licence: str | None
    requires: tuple[str, ...]
    missing: tuple[str, ...]


def environment_sbom(root: str = _ROOT) -> bytes:
    """What is installed and needed by a distribution, itself included.

    Returns
    -------
    bytes
        CycloneDX 1.6 in JSON: name, version, licence where stated, and package URL of each distribution, and
        which needs which.

    Raises
    ------
    ArtifactError
        When the distribution itself is not installed.
    """
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model import Property
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6
    from packageurl import PackageURL

    found = installed_closure(root)
    licences = LicenseFactory()
    components = {}
    for name, item in found.items():
        purl = PackageURL("pypi", None, name, item.version)
        components[name] = Component(
            name=name,
            version=item.version,
            type=ComponentType.APPLICATION if name == _normalised(root) else ComponentType.LIBRARY,
            purl=purl,
            bom_ref=str(purl),
            licenses=[licences.make_from_string(item.licence)] if item.licence else [],
            properties=[Property(name="quant_assets:not_installed", value=n) for n in item.missing],
        )
    bom = Bom(components=[c for n, c in components.items() if n != _normalised(root)])
    bom.metadata.component = components[_normalised(root)]
    for name, item in found.items():
        bom.register_dependency(components[name], [components[n] for n in item.requires])
    document: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    del document["serialNumber"], document["metadata"]["timestamp"]
    return canonical_json(document) + b"\n"


def installed_closure(root: str) -> dict[str, Installed]:
    """The installed distributions that one needs, by normalised name, in name order.

    Its own optional requirements count where they are installed; those of others only where they are asked for.
    """
    own = _distribution(root)
    if own is None:
        raise ArtifactError(
            "bill of materials",
            expected=f"the distribution {root}",
            found="it is not installed",
            action="install the project (uv sync), so that its requirements can be read",
        )
    extras: dict[str, set[str]] = {_normalised(root): set(own.metadata.get_all("Provides-Extra") or ())}
    found: dict[str, Installed] = {}
    waiting = [_normalised(root)]
    while waiting:
        name = waiting.pop()
        distribution = _distribution(name)
        if distribution is None:
            continue
        requires: set[str] = set()
        missing: set[str] = set()
        for needed, its_extras, optional in _requirements(distribution, extras.get(name, set())):
            if _distribution(needed) is None:
                missing |= set() if optional else {needed}
                continue
            requires.add(needed)
            known = extras.setdefault(needed, set())
            if needed not in found or not its_extras <= known:
                known |= its_extras
                waiting.append(needed)
        item = Installed(
            name,
            distribution.version,
            _licence(distribution),
            tuple(sorted(requires)),
            tuple(sorted(missing)),
        )
        found[name] = item
    return dict(sorted(found.items()))


def _requirements(
    distribution: importlib.metadata.Distribution, extras: Iterable[str]
) -> Iterator[tuple[str, set[str], bool]]:
    """Normalised name, extras and optionality of what a distribution asks for in this environment."""
    from packaging.requirements import Requirement

    for text in distribution.requires or ():
        requirement = Requirement(text)
        name = _normalised(requirement.name)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield name, set(requirement.extras), False
        elif any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
            yield name, set(requirement.extras), True


def _distribution(name: str) -> importlib.metadata.Distribution | None:
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _licence(distribution: importlib.metadata.Distribution) -> str | None:
    metadata = distribution.metadata
    for field in ("License-Expression", "License"):
        stated = metadata[field].strip() if field in metadata else ""
        if stated and "\n" not in stated and len(stated) <= _MAX_LICENCE_NAME:
            return stated
    classifiers = [c for c in metadata.get_all("Classifier") or () if c.startswith("License ::")]
    names = sorted({c.rsplit(" :: ", 1)[1] for c in classifiers} - {"OSI Approved"})
    return " and ".join(names) or None


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
