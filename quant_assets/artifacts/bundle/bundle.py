"""The bundle: everything that serving needs in one archive, verified before anything in it is loaded.

Digests inside an archive show damage, not intent: who can write the archive can write its digests. The detached
signature shows intent. It is held against the archive's bytes first; only then are graphs and models parsed.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from quant_assets.artifacts.bundle.archive import (
    CARD,
    ENSEMBLE,
    GRAPH,
    INT8_GRAPH,
    MANIFEST,
    NATIVE_FOLDER,
    SBOM,
    BundleManifest,
    checked_manifest,
    model_card,
    pack,
    refused,
    require_canonical,
    sealed,
    unpack,
)
from quant_assets.artifacts.bundle.payload_scan import ScanReport, payload_scan
from quant_assets.artifacts.bundle.signing import TrustedKeys, read_envelope, require_valid, trusted_pem
from quant_assets.artifacts.onnx.student import Student
from quant_assets.common.errors import ArtifactError, ModelError
from quant_assets.common.hashing import bytes_digest, canonical_json
from quant_assets.models.ensemble import Ensemble
from quant_assets.models.graphs import checked_model

# ---------------------------------------------------------------------------------------------- native models


_TEXTS = {"lightgbm"}  # every other learner is JSON


def split_ensemble(record: Mapping[str, Any]) -> dict[str, bytes]:
    """The stored ensemble as files: one per base learner, and the stack with references to them.

    LightGBM's text, XGBoost's and CatBoost's JSON can be loaded by the library alone; any other learner's holds its
    graph. None of them is a pickle.
    """
    files: dict[str, bytes] = {}
    references = []
    for learner in record["learners"]:
        ending = "txt" if learner["name"] in _TEXTS else "json"
        name = f"{NATIVE_FOLDER}{learner['name']}.{ending}"
        files[name] = learner["text"].encode()
        references.append({key: value for key, value in learner.items() if key != "text"} | {"file": name})
    return {ENSEMBLE: canonical_json({**record, "learners": references}), **files}


def joined_ensemble(files: Mapping[str, bytes]) -> Ensemble:
    """The ensemble of a bundle's files, checked as a stored one is. No library is asked to load anything yet.

    Raises
    ------
    ArtifactError
        When the stack and the native models do not belong together, or one of them is damaged.
    """
    native = {name for name in files if name.startswith(NATIVE_FOLDER)}
    try:
        record = json.loads(files[ENSEMBLE])
        references = {learner.pop("file"): learner for learner in record["learners"]}
        if set(references) != native:
            raise refused(
                f"the native models of {ENSEMBLE}: {', '.join(sorted(references))}",
                f"{', '.join(sorted(native)) or 'none'}",
            )
        learners = [{**learner, "text": files[file].decode()} for file, learner in references.items()]
        return Ensemble.from_json({**record, "learners": learners})
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise refused(
            f"a readable {ENSEMBLE} and native models", f"{type(error).__name__}: {error}"
        ) from error
    except ModelError as error:
        raise refused(f"native models that are whole: {error.expected}", error.found) from error


# ------------------------------------------------------------------------------------------------- the bundle


T = TypeVar("T")


@dataclass(frozen=True)
class Bundle:
    """A bundle whose contents were verified.

    Attributes
    ----------
    manifest : BundleManifest
    files : mapping of str to bytes
        Contents by name, the manifest included.
    fingerprint : str or None
        The trusted key that signed it; None where no signature was asked for (before signing).
    """

    manifest: BundleManifest
    files: Mapping[str, bytes]
    fingerprint: str | None = None

    def ensemble(self) -> Ensemble:
        """The native ensemble, from the native models."""
        return joined_ensemble(self.files)


@dataclass(frozen=True)
class Step:
    """One step of a verification: what it is, how it ended, and what it found."""

    name: str
    status: Literal["passed", "failed", "not run"]
    detail: str


@dataclass
class Examination:
    """Every step of a verification, the first error, and the bundle when there is none."""

    steps: list[Step] = field(default_factory=list)
    errors: list[ArtifactError] = field(default_factory=list)
    bundle: Bundle | None = None

    def attempt(self, name: str, step: Callable[[], T], detail: Callable[[T], str]) -> T | None:
        """Run a step and note how it ended; None when it failed."""
        try:
            result = step()
        except ArtifactError as error:
            self.errors.append(error)
            self.steps.append(Step(name, "failed", f"expected {error.expected}; found {error.found}"))
            return None
        self.steps.append(Step(name, "passed", detail(result)))
        return result

    def skip(self, *names: str, why: str) -> None:
        """Note steps that were not run."""
        self.steps += [Step(name, "not run", why) for name in names]

    def verified(self) -> Bundle:
        """The bundle, or the first error with what the archive itself showed after it."""
        if self.bundle is not None and not self.errors:
            return self.bundle
        first, *others = self.errors
        later = [e.found for e in others if e.what == "bundle" and first.what != e.what]
        if not later:
            raise first
        raise ArtifactError(
            first.what,
            expected=first.expected,
            found=f"{first.found}; and {later[0]}",
            action=first.action,
        )


def build_bundle(
    *,
    strategy: str,
    subject: str,
    ensemble: Any,
    onnx: bytes,
    int8: Mapping[str, Any] | None,
    upstream: Mapping[str, str],
    sbom: bytes,
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
        The record of `quant_assets.artifacts.onnx.student.student_record`.
    upstream : mapping of str to str
        Versions of everything upstream.
    sbom : bytes
        As `quant_assets.artifacts.bundle.archive.environment_sbom` gives it.

    Returns
    -------
    bytes
        A zip archive, not signed yet. Same input, same bytes.

    Raises
    ------
    ArtifactError
        When `inspect_bundle` would refuse it: a graph is not safe to load or names another subject, or a file
        holds something that can be executed.
    """
    model = Ensemble.from_json(ensemble)
    student = None if int8 is None else Student.from_record(int8)
    files = {GRAPH: onnx, **split_ensemble(ensemble), SBOM: sbom}
    if student is not None:
        files[INT8_GRAPH] = student.int8
    files[CARD] = model_card(
        model, strategy=strategy, subject=subject, upstream=upstream, files=files
    ).encode()
    digests = {name: bytes_digest(data) for name, data in files.items()}
    manifest = BundleManifest(strategy, subject, model.recipe, model.feature_names, dict(upstream), digests)
    archive = pack({**files, MANIFEST: sealed(manifest)})
    inspect_bundle(archive)
    return archive


def inspect_bundle(data: bytes) -> Bundle:
    """Verify everything about an archive but who made it: for those who are about to sign.

    Raises
    ------
    ArtifactError
        As `verify_bundle`, without the signature's.
    """
    examination = Examination()
    _examine_contents(examination, data, fingerprint=None)
    return examination.verified()


def verify_bundle(data: bytes, signature: bytes | None, trusted_keys: TrustedKeys) -> Bundle:
    """Verify an archive and its signature; nothing in it is loaded before.

    Parameters
    ----------
    data : bytes
        The archive.
    signature : bytes or None
        The detached signature, as `quant_assets.artifacts.bundle.signing.sign_bundle` gives it.
    trusted_keys : TrustedKeys
        Who may sign. Empty means nobody.

    Raises
    ------
    ArtifactError
        Each with its own message: unsigned, unreadable signature, no trusted key, foreign key, forged signature,
        altered after signing; not an archive, truncated, unsafe names or sizes; missing, extra or changed file;
        pickle, program or archive inside; graph with foreign operators or tensors outside the file, or of another
        subject; native models that are not those of the ensemble.
    """
    return examine_bundle(data, signature, trusted_keys).verified()


def examine_bundle(data: bytes, signature: bytes | None, trusted_keys: TrustedKeys) -> Examination:
    """Every step of `verify_bundle` with its outcome, for people.

    An archive whose signature does not hold is still unpacked and scanned, in memory and within bounds, to say what
    is wrong with it. Its graphs and models are not parsed.
    """
    examination = Examination()
    envelope = examination.attempt(
        "signed", lambda: read_envelope(signature), lambda e: f"names key {e.fingerprint}"
    )
    pem = fingerprint = None
    if envelope is not None:
        pem = examination.attempt(
            "trusted key", lambda: trusted_pem(envelope, trusted_keys), lambda _: envelope.fingerprint
        )
    else:
        examination.skip("trusted key", why="there is no readable signature")
    if envelope is not None and pem is not None:
        held = examination.attempt(
            "signature holds",
            lambda: require_valid(data, signature or b"", pem),
            lambda digest: f"for {len(data)} bytes with SHA-256 {digest}",
        )
        fingerprint = envelope.fingerprint if held else None
    else:
        examination.skip("signature holds", why="there is no trusted key to hold it against")
    _examine_contents(examination, data, fingerprint)
    return examination


def _examine_contents(examination: Examination, data: bytes, fingerprint: str | None) -> None:
    files = examination.attempt("archive whole", lambda: unpack(data), lambda f: f"{len(f)} files")
    if files is None:
        examination.skip(
            "files as listed", "payload scan", "graphs", "native models", why="there is no archive"
        )
        return
    manifest = examination.attempt(
        "files as listed",
        lambda: _listed(data, files),
        lambda m: f"{len(m.files)} digests of {m.subject[:12]}",
    )
    trusted = not examination.errors
    examination.attempt("payload scan", lambda: _scanned(files, graphs=trusted), _scan_detail)
    if manifest is None or examination.errors:
        examination.skip("graphs", "native models", why="nothing is parsed after a failed step")
        return
    examination.attempt("graphs", lambda: _check_graphs(files, manifest), ", ".join)
    ensemble = examination.attempt(
        "native models",
        lambda: _check_native(files, manifest),
        lambda e: ", ".join(learner.name for learner in e.learners),
    )
    if ensemble is not None and not examination.errors:
        examination.bundle = Bundle(manifest, files, fingerprint)


def _listed(data: bytes, files: Mapping[str, bytes]) -> BundleManifest:
    manifest = checked_manifest(files)
    require_canonical(data, files)
    return manifest


def _scanned(files: Mapping[str, bytes], *, graphs: bool) -> ScanReport:
    report = payload_scan(files, graphs=graphs)
    report.require_clean()
    return report


def _scan_detail(report: ScanReport) -> str:
    return f"nothing in {report.files} files, {report.scanned_bytes} bytes"


def _check_graphs(files: Mapping[str, bytes], manifest: BundleManifest) -> list[str]:
    names = sorted({GRAPH, INT8_GRAPH} & set(files))
    for name in names:
        facts = {p.key: p.value for p in checked_model(files[name]).metadata_props}
        if facts.get("subject") != manifest.subject:
            raise refused(f"{name} of subject {manifest.subject}", f"subject {facts.get('subject', 'none')}")
    return names


def _check_native(files: Mapping[str, bytes], manifest: BundleManifest) -> Ensemble:
    ensemble = joined_ensemble(files)
    if (ensemble.recipe, ensemble.feature_names) != (manifest.recipe, manifest.feature_names):
        raise refused(
            f"native models of recipe {manifest.recipe} with {len(manifest.feature_names)} features",
            f"recipe {ensemble.recipe} with {len(ensemble.feature_names)} features",
        )
    return ensemble
