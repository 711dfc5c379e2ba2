"""The files of a bundle: a zip that is a function of its files, manifest, model card, bill of materials."""

import importlib.metadata
import io
import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from quant_assets.common.errors import ArtifactError
from quant_assets.common.hashing import bytes_digest, canonical_json, json_digest
from quant_assets.common.model_settings import OWN_LEARNERS
from quant_assets.models.ensemble import Ensemble

# -------------------------------------------------------------------------------------- the files of a bundle

# Same files, same bytes: entries are stored uncompressed (deflate differs between zlib versions), in name order,
# with a fixed time. An archive is therefore intact iff it equals the archive of its own contents.


# A graph has to fit one protobuf message (2 GiB); half of that for the whole archive leaves room to hold it twice.
MAX_ARCHIVE_BYTES = 1 << 30
MAX_FILES = 32
_SHOWN_CHARACTERS = 1000  # names in a hostile archive are as long as their writer likes
_FIRST_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
_SAFE_NAME = re.compile(r"[a-z0-9_]+(/[a-z0-9_]+)?(\.[a-z0-9_]+)+")


def pack(files: Mapping[str, bytes]) -> bytes:
    """The archive of some files, by name. Same files, same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _FIRST_ZIP_TIME)
            entry.create_system = 3  # Unix on every host
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[name])
    return buffer.getvalue()


def unpack(data: bytes) -> dict[str, bytes]:
    """Read an archive that `pack` wrote, in memory; nothing is written to a disk.

    Raises
    ------
    ArtifactError
        Each with its own message: empty, not a zip archive, too large, truncated or damaged, too many entries, a
        name twice or compressed, a name that leaves the folder, sizes larger than the archive (a zip bomb).
    """
    if not data:
        raise refused("an archive", "0 bytes")
    if data[:4] != b"PK\x03\x04":
        raise refused("a zip archive", f"{len(data)} bytes that begin with {data[:8]!r}")
    if len(data) > MAX_ARCHIVE_BYTES:
        raise refused(f"an archive of at most {MAX_ARCHIVE_BYTES} bytes", f"{len(data)} bytes")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            _check_entries(entries, len(data))
            files = {entry.filename: archive.read(entry) for entry in entries}
    except zipfile.BadZipFile as error:
        # A wrong checksum names its file; a lost directory does not.
        if "CRC" in str(error):
            raise refused("files that match their checksums", f"a changed byte ({error})") from error
        raise refused(
            "a whole archive", f"a truncated or damaged one of {len(data)} bytes ({error})"
        ) from error
    except (EOFError, OSError, NotImplementedError, RuntimeError, ValueError) as error:
        raise refused("a readable archive", f"a damaged one ({type(error).__name__}: {error})") from error
    return files


def require_canonical(data: bytes, files: Mapping[str, bytes]) -> None:
    """Refuse an archive that is not the one that `pack` writes for its files (an altered header, bytes between)."""
    if pack(files) != data:
        raise refused(
            "the archive that its own files give", "other bytes between the files (an altered header)"
        )


def _check_entries(entries: list[zipfile.ZipInfo], size: int) -> None:
    names = [entry.filename for entry in entries]
    shown = ", ".join(repr(name) for name in names[:8])
    if len(entries) > MAX_FILES:
        raise refused(f"at most {MAX_FILES} files", f"{len(entries)}")
    leaving = [n for n in names if ".." in n.split("/") or n.startswith(("/", "\\")) or "\\" in n or ":" in n]
    if leaving:
        raise refused("files inside one folder", f"a name that leaves it: {leaving[0]!r}")
    if len(set(names)) != len(names) or any(e.compress_type != zipfile.ZIP_STORED for e in entries):
        raise refused("each file once, uncompressed", f"entries {shown}")
    strange = [name for name in names if not _SAFE_NAME.fullmatch(name)]
    if strange:
        raise refused("names of lower-case letters, digits and _", f"{strange[0]!r}")
    claimed = sum(max(entry.file_size, entry.compress_size) for entry in entries)
    if claimed > size:
        raise refused(
            f"files that fit into the {size} bytes of the archive", f"{claimed} bytes claimed (a zip bomb)"
        )


def refused(expected: str, found: str) -> ArtifactError:
    """The error of a bundle that must not be used."""
    return ArtifactError(
        "bundle",
        expected=expected,
        found=found if len(found) <= _SHOWN_CHARACTERS else f"{found[:_SHOWN_CHARACTERS]}...",
        action="do not load it; materialise the bundle again from its candidate",
    )


# ----------------------------------------------------------------------------------------------- the manifest


MANIFEST, CARD, ENSEMBLE, SBOM, GRAPH, INT8_GRAPH, NATIVE_FOLDER = (
    "manifest.json", "model_card.md", "ensemble.json", "sbom.cdx.json", "model.onnx", "int8.onnx", "native/",
)  # fmt: skip
FORMAT: Literal["quant_assets.bundle/2"] = "quant_assets.bundle/2"
_REQUIRED = frozenset({CARD, ENSEMBLE, SBOM, GRAPH})
_OPTIONAL = frozenset({INT8_GRAPH})


@dataclass(frozen=True)
class BundleManifest:
    """What a verified bundle holds.

    Attributes
    ----------
    strategy : str
    subject : str
        Data version of the ensemble.
    recipe : str
        Digest of what the ensemble was made from.
    feature_names : tuple of str
        Inputs of the model, in order.
    upstream : mapping of str to str
        Version of everything that it was made from. The version of an asset is the SHA-256 of its content.
    files : mapping of str to str
        SHA-256 of every file but the manifest.
    """

    strategy: str
    subject: str
    recipe: str
    feature_names: tuple[str, ...]
    upstream: Mapping[str, str]
    files: Mapping[str, str]


def sealed(manifest: BundleManifest) -> bytes:
    """The manifest as the bytes of its file, with its own digest in it."""
    content = {"format": FORMAT, **asdict(manifest), "feature_names": list(manifest.feature_names)}
    return canonical_json({**content, "manifest_sha256": json_digest(content)})


def checked_manifest(files: Mapping[str, bytes]) -> BundleManifest:
    """Read the manifest of a bundle's files and hold the files against it.

    Raises
    ------
    ArtifactError
        Each with its own message: no manifest, unreadable manifest, altered manifest, missing file, extra file,
        changed byte.
    """
    if MANIFEST not in files:
        raise refused(f"a file {MANIFEST}", f"only {', '.join(sorted(files)) or 'no files'}")
    record = _parsed(files[MANIFEST])
    listed, present = set(record.files), set(files) - {MANIFEST}
    if missing := sorted((listed | _REQUIRED) - present):
        raise refused("every file of the manifest", f"no {', '.join(missing)}")
    native = {name for name in listed if name.startswith(NATIVE_FOLDER)}
    if extra := sorted(present - (listed & (_REQUIRED | _OPTIONAL | native))):
        raise refused("the files of the manifest and no others", f"also {', '.join(extra)}")
    for name, digest in sorted(record.files.items()):
        if (found := bytes_digest(files[name])) != digest:
            raise refused(f"{name} with SHA-256 {digest}", f"{len(files[name])} bytes with SHA-256 {found}")
    return BundleManifest(
        record.strategy,
        record.subject,
        record.recipe,
        tuple(record.feature_names),
        record.upstream,
        record.files,
    )


def _parsed(data: bytes) -> "_ManifestRecord":
    try:
        record = _ManifestRecord.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise refused(
            "a readable manifest", f"{'.'.join(map(str, first['loc'])) or MANIFEST}: {first['msg']}"
        ) from error
    digest = json_digest(record.model_dump(exclude={"manifest_sha256"}))
    if digest != record.manifest_sha256:
        raise refused(f"a manifest with digest {record.manifest_sha256}", f"one with digest {digest}")
    return record


class _ManifestRecord(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal["quant_assets.bundle/2"]
    strategy: str
    subject: str
    recipe: str
    feature_names: list[str]
    upstream: dict[str, str]
    files: dict[str, str]
    manifest_sha256: str


# --------------------------------------------------------------------------------------------- the model card


_SHOWN_FEATURES = 10


def model_card(
    ensemble: Ensemble,
    *,
    strategy: str,
    subject: str,
    upstream: Mapping[str, str],
    files: Mapping[str, bytes],
) -> str:
    """Markdown about an ensemble (Mitchell et al. 2019, "Model cards").

    It holds no performance: that is in the verdicts, bound to the subject.

    Parameters
    ----------
    strategy, subject : str
    upstream : mapping of str to str
        Versions of everything that it was made from.
    files : mapping of str to bytes
        What else is in the bundle, by name.
    """
    stacker = ensemble.stacker
    unit = {
        "forward_return": "the expected forward return as a fraction",
        "log_odds": "the log-odds of a forward return above the median of its session",
    }[ensemble.score_unit]
    graphs = [learner.name for learner in ensemble.learners if learner.name not in OWN_LEARNERS]
    kinds = (
        "tree ensembles"
        if not graphs
        else f"base learners, of which {', '.join(graphs)} are of the desk's own"
    )
    texts = "library's own text" if not graphs else "library's own text, or as its own graph"
    learners = "\n".join(
        f"| {name} | {coefficient:.6g} | {spread:.6g} | {sum(t.n_splits for t in learner.trees())} |"
        for name, coefficient, spread, learner in zip(
            stacker.learners, stacker.coefficients, stacker.spreads, ensemble.learners, strict=True
        )
    )
    shares = sorted(ensemble.importance().items(), key=lambda item: (-item[1], item[0]))[:_SHOWN_FEATURES]
    importance = "\n".join(f"| {name} | {share:.4f} |" for name, share in shares)
    versions = "\n".join(f"| {name} | `{_cell(version)}` |" for name, version in sorted(upstream.items()))
    int8 = (
        "`int8.onnx` is a distilled student network, another model; it is judged against its own FP32 form."
        if INT8_GRAPH in files
        else "There is no INT8 form: quantisation does nothing to a tree ensemble."
    )
    native = ", ".join(f"`{name}`" for name in sorted(files) if name.startswith(NATIVE_FOLDER))
    sizes = "\n".join(f"| `{name}` | {len(data)} |" for name, data in sorted(files.items()))
    return f"""# {strategy}

Subject `{subject}`, recipe `{ensemble.recipe}`.

## What it is
A linear stack of {kinds}. Input: {len(ensemble.feature_names)} float32 features of one instrument at one
close. Output: a score, {unit}. A row with a missing or infinite feature has the score NaN, which no consumer may
trade on.

`model.onnx` is the whole stack in one graph. {int8} Each learner is also there in its {texts}: {native}.

| learner | coefficient | out-of-fold spread | splits |
|---|---|---|---|
{learners}

Intercept {stacker.intercept:.6g}.

## Most used features
| feature | share of gain |
|---|---|
{importance}

Gain shares say what the trees used, not what causes returns.

## Limits
Scores rank instruments of the training universe at the training horizon; other universes, horizons or intraday
use were not validated. Whether it may be used at all is said by the verdicts about this subject, not here.

## Files
| file | bytes |
|---|---|
{sizes}

`{SBOM}` lists the software that it was made with. The signature is beside the archive, not in it: verify it with
`quant-assets model verify` before anything is loaded.

## Made from
| asset | version |
|---|---|
{versions}
"""


def _cell(text: str) -> str:
    return text.replace("\n", " ").replace("|", "/").replace("`", "'")


# -------------------------------------------------------------------------------------- the bill of materials


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
