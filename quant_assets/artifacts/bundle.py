"""The bundle: everything that serving needs in one archive, verified before anything in it is loaded.

Same contents, same bytes: entries are stored uncompressed (deflate differs between zlib versions), in name
order, with a fixed time. An archive is therefore intact iff it equals the archive of its own contents.
"""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from quant_assets.artifacts.model_card import model_card
from quant_assets.artifacts.runtime import checked_model
from quant_assets.artifacts.student import Student
from quant_assets.common.errors import ArtifactError
from quant_assets.common.hashing import bytes_digest, canonical_json, json_digest
from quant_assets.models.ensemble import Ensemble

MANIFEST, CARD, ENSEMBLE, GRAPH, INT8_GRAPH = (
    "manifest.json", "model_card.md", "ensemble.json", "model.onnx", "int8.onnx",
)  # fmt: skip
_REQUIRED = frozenset({CARD, ENSEMBLE, GRAPH})
_OPTIONAL = frozenset({INT8_GRAPH})
_FIRST_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


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
    upstream : mapping of str to str
        Versions of everything that it was made from.
    files : mapping of str to str
        SHA-256 of every file but the manifest.
    """

    strategy: str
    subject: str
    recipe: str
    upstream: Mapping[str, str]
    files: Mapping[str, str]


def build_bundle(
    *,
    strategy: str,
    subject: str,
    ensemble: Any,
    onnx: bytes,
    int8: Mapping[str, Any] | None,
    upstream: Mapping[str, str],
) -> bytes:
    """Pack a candidate.

    Parameters
    ----------
    strategy : str
    subject : str
        Data version of the ensemble.
    ensemble : plain data
        The stored ensemble.
    onnx : bytes
        Its fused graph.
    int8 : mapping or None
        The record of `quant_assets.artifacts.student.student_record`.
    upstream : mapping of str to str
        Versions of everything upstream.

    Returns
    -------
    bytes
        A zip archive. Same input, same bytes.

    Raises
    ------
    ArtifactError
        When a graph is not safe to load or names another subject.
    """
    model = Ensemble.from_json(ensemble)
    student = None if int8 is None else Student.from_record(int8)
    graphs = {GRAPH: onnx} | ({} if student is None else {INT8_GRAPH: student.int8})
    for name, graph in graphs.items():
        _check_subject(name, graph, subject)
    card = model_card(
        model, strategy=strategy, subject=subject, upstream=upstream, has_int8=student is not None
    )
    files = {**graphs, ENSEMBLE: canonical_json(ensemble), CARD: card.encode()}
    content = {
        "format": "quant_assets.bundle/1",
        "strategy": strategy,
        "subject": subject,
        "recipe": model.recipe,
        "upstream": dict(upstream),
        "files": {name: bytes_digest(data) for name, data in files.items()},
    }
    manifest = canonical_json({**content, "manifest_sha256": json_digest(content)})
    return _archive({**files, MANIFEST: manifest})


def verify_bundle(data: bytes) -> BundleManifest:
    """Verify an archive and return its manifest.

    Digests inside an archive show damage, not intent: who can write the archive can write its digests. A
    signature, or the digest in the promotion ledger, is what shows intent.

    Raises
    ------
    ArtifactError
        Each with its own message: empty file, not a zip archive, truncated, damaged or missing manifest, missing
        file, extra file, changed byte, graph that is unsafe or of another subject.
    """
    return read_bundle(data)[0]


def read_bundle(data: bytes) -> tuple[BundleManifest, dict[str, bytes]]:
    """Verify an archive and return its manifest and its files.

    Raises
    ------
    ArtifactError
        As `verify_bundle`.
    """
    files = _extracted(data)
    if MANIFEST not in files:
        raise _refused(f"a file {MANIFEST}", f"only {', '.join(sorted(files)) or 'no files'}")
    record = _manifest(files[MANIFEST])
    listed, present = set(record.files), set(files) - {MANIFEST}
    if missing := sorted((listed | _REQUIRED) - present):
        raise _refused("every file of the manifest", f"no {', '.join(missing)}")
    if extra := sorted(present - (listed & (_REQUIRED | _OPTIONAL))):
        raise _refused("the files of the manifest and no others", f"also {', '.join(extra)}")
    for name, digest in sorted(record.files.items()):
        if (found := bytes_digest(files[name])) != digest:
            raise _refused(f"{name} with SHA-256 {digest}", f"{len(files[name])} bytes with SHA-256 {found}")
    if _archive(files) != data:
        raise _refused(
            "the archive that its own files give", "other bytes between the files (an altered header)"
        )
    for name in sorted(listed & {GRAPH, INT8_GRAPH}):
        _check_subject(name, files[name], record.subject)
    manifest = BundleManifest(record.strategy, record.subject, record.recipe, record.upstream, record.files)
    return manifest, files


def _archive(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _FIRST_ZIP_TIME)
            entry.create_system = 3  # Unix on every host
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[name])
    return buffer.getvalue()


def _extracted(data: bytes) -> dict[str, bytes]:
    if not data:
        raise _refused("an archive", "0 bytes")
    if data[:4] != b"PK\x03\x04":
        raise _refused("a zip archive", f"{len(data)} bytes that begin with {data[:8]!r}")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
            if len(set(names)) != len(names) or any(e.compress_type != zipfile.ZIP_STORED for e in entries):
                raise _refused("each file once, uncompressed", f"entries {', '.join(names)}")
            return {name: archive.read(name) for name in names}
    except zipfile.BadZipFile as error:
        # A wrong checksum names its file; a lost directory does not.
        if "CRC" in str(error):
            raise _refused("files that match their checksums", f"a changed byte ({error})") from error
        raise _refused(
            "a whole archive", f"a truncated or damaged one of {len(data)} bytes ({error})"
        ) from error
    except (EOFError, OSError, NotImplementedError, RuntimeError, ValueError) as error:
        raise _refused("a readable archive", f"a damaged one ({type(error).__name__}: {error})") from error


def _manifest(data: bytes) -> "_ManifestRecord":
    try:
        record = _ManifestRecord.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise _refused(
            "a readable manifest", f"{'.'.join(map(str, first['loc'])) or MANIFEST}: {first['msg']}"
        ) from error
    digest = json_digest(record.model_dump(exclude={"manifest_sha256"}))
    if digest != record.manifest_sha256:
        raise _refused(f"a manifest with digest {record.manifest_sha256}", f"one with digest {digest}")
    return record


def _check_subject(name: str, graph: bytes, subject: str) -> None:
    facts = {p.key: p.value for p in checked_model(graph).metadata_props}
    if facts.get("subject") != subject:
        raise _refused(f"{name} of subject {subject}", f"subject {facts.get('subject', 'none')}")


def _refused(expected: str, found: str) -> ArtifactError:
    return ArtifactError(
        "bundle",
        expected=expected,
        found=found,
        action="do not load it; materialise the bundle again from its candidate",
    )


class _ManifestRecord(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal["quant_assets.bundle/1"]
    strategy: str
    subject: str
    recipe: str
    upstream: dict[str, str]
    files: dict[str, str]
    manifest_sha256: str
