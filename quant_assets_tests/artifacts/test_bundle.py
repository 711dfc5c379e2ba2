import io
import json
import zipfile

import pytest

from quant_assets.artifacts.bundle import build_bundle, read_bundle, verify_bundle
from quant_assets.common.errors import ArtifactError
from quant_assets.common.hashing import bytes_digest, canonical_json, json_digest
from quant_assets.models.ensemble import Ensemble
from quant_assets_tests.artifacts.conftest import SUBJECT

UPSTREAM = {"training_set": "a" * 64, "bars": "b" * 64}


def built(ensemble, graph, student, **changes):
    options = {
        "strategy": "small", "subject": SUBJECT, "ensemble": ensemble.to_json(), "onnx": graph,
        "int8": student.to_json(), "upstream": UPSTREAM,
    }  # fmt: skip
    return build_bundle(**{**options, **changes})


@pytest.fixture(scope="module")
def bundle(ensemble, graph, student):
    return built(ensemble, graph, student)


def rebuilt(bundle, change):
    """The archive with other entries, as zipfile writes it."""
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), files[name])
    return buffer.getvalue()


def test_a_bundle_says_what_it_holds(bundle, ensemble, graph, student):
    manifest, files = read_bundle(bundle)
    assert verify_bundle(bundle) == manifest
    assert (manifest.strategy, manifest.subject, manifest.recipe) == ("small", SUBJECT, "r1")
    assert manifest.upstream == UPSTREAM
    assert set(manifest.files) == {"ensemble.json", "int8.onnx", "model.onnx", "model_card.md"}
    assert files["model.onnx"] == graph
    assert files["int8.onnx"] == student.int8
    assert manifest.files["model.onnx"] == bytes_digest(graph)
    assert Ensemble.from_json(json.loads(files["ensemble.json"])) == ensemble


def test_the_same_candidate_gives_the_same_bytes(bundle, ensemble, graph, student):
    assert built(ensemble, graph, student, upstream=dict(reversed(UPSTREAM.items()))) == bundle
    assert built(ensemble, graph, student, upstream={**UPSTREAM, "bars": "c"}) != bundle


def test_a_bundle_without_a_student_holds_no_int8_graph(ensemble, graph, student):
    for record in (None, {"kind": "not_applicable", "subject": SUBJECT, "reason": "trees"}):
        manifest, files = read_bundle(built(ensemble, graph, student, int8=record))
        assert "int8.onnx" not in files
        assert set(manifest.files) == {"ensemble.json", "model.onnx", "model_card.md"}


def test_the_model_card_names_subject_learners_features_and_sources(bundle):
    card = read_bundle(bundle)[1]["model_card.md"].decode()
    for word in (
        SUBJECT,
        "`r1`",
        "| lightgbm |",
        "| xgboost |",
        "| feature_0 |",
        "| training_set | `aaaa",
        "NaN",
    ):
        assert word in card


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_bundle_is_refused(bundle, kept):
    with pytest.raises(ArtifactError, match="truncated or damaged"):
        verify_bundle(bundle[: int(kept * len(bundle))])


@pytest.mark.parametrize(
    ("data", "found"),
    [(b"", "0 bytes"), (b"\x80\x04N.", "begin with"), (b"x" * 500, "begin with")],
)
def test_something_else_than_an_archive_is_refused(data, found):
    with pytest.raises(ArtifactError, match=found):
        verify_bundle(data)


def test_any_changed_byte_is_refused(bundle):
    # every 997th byte, then the whole directory at the end and the first header
    positions = [*range(0, len(bundle), 997), *range(len(bundle) - 400, len(bundle)), *range(40)]
    for position in positions:
        damaged = bytearray(bundle)
        damaged[position] ^= 0x01
        with pytest.raises(ArtifactError):
            verify_bundle(bytes(damaged))


def test_bytes_added_before_or_after_are_refused(bundle):
    for data in (bundle + b"\x00", b"\x00" + bundle):
        with pytest.raises(ArtifactError):
            verify_bundle(data)


def resealed(entries, **changes):
    manifest = json.loads(entries["manifest.json"])
    manifest.pop("manifest_sha256")
    manifest.update(changes)
    entries["manifest.json"] = canonical_json({**manifest, "manifest_sha256": json_digest(manifest)})


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda files: files.pop("model.onnx"), "found no model.onnx"),
        (lambda files: files.pop("ensemble.json"), "found no ensemble.json"),
        (lambda files: files.pop("manifest.json"), "a file manifest.json"),
        (lambda files: files.update({"extra.txt": b"x"}), "also extra.txt"),
        (lambda files: files.update({"../evil": b"x"}), r"also \.\./evil"),
        (lambda files: files.update({"model.onnx": files["model.onnx"][:-1]}), "model.onnx with SHA-256"),
        (lambda files: files.update({"model.onnx": b""}), "0 bytes with SHA-256"),
        (lambda files: files.update({"manifest.json": b"{}"}), "Field required"),
        (lambda files: files.update({"manifest.json": b""}), "readable manifest"),
        (
            lambda files: files.update(
                {"manifest.json": files["manifest.json"].replace(b'"small"', b'"large"')}
            ),
            "manifest with digest",
        ),
        (lambda files: None, "an altered header"),  # the same files in an archive that somebody else wrote
    ],
)
def test_a_tampered_bundle_is_refused_with_its_own_message(bundle, change, found):
    with pytest.raises(ArtifactError, match=found):
        verify_bundle(rebuilt(bundle, change))


def as_platform_writes(data):
    """The same entries with the attributes that the platform gives them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(buffer, "w") as archive:
        for name in source.namelist():
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, source.read(name))
    return buffer.getvalue()


def test_a_manifest_that_was_resealed_for_another_subject_is_refused_by_the_graph(bundle):
    other = as_platform_writes(rebuilt(bundle, lambda files: resealed(files, subject="6" * 64)))
    with pytest.raises(ArtifactError, match=r"int8\.onnx of subject 6666"):
        verify_bundle(other)
    assert verify_bundle(as_platform_writes(bundle)).subject == SUBJECT


def test_a_pickle_in_the_place_of_the_graph_is_refused_even_when_resealed(bundle):
    payload = b"\x80\x04\x95N."

    def swap(files):
        digests = {**json.loads(files["manifest.json"])["files"], "model.onnx": bytes_digest(payload)}
        files["model.onnx"] = payload
        resealed(files, files=digests)

    with pytest.raises(ArtifactError, match="a pickle"):
        verify_bundle(as_platform_writes(rebuilt(bundle, swap)))


def test_a_compressed_archive_of_the_same_files_is_refused(bundle):
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(bundle)) as source,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name in source.namelist():
            archive.writestr(name, source.read(name))
    with pytest.raises(ArtifactError, match="uncompressed"):
        verify_bundle(buffer.getvalue())


def test_a_graph_of_another_subject_is_not_packed(ensemble, graph, student):
    with pytest.raises(ArtifactError, match="subject"):
        built(ensemble, graph, student, subject="6" * 64)
    with pytest.raises(ArtifactError, match="pickle"):
        built(ensemble, b"\x80\x04N.", student)
