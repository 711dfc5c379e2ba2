import io
import json
import os
import pickle
import zipfile

import onnx
import pytest

from quant_assets.artifacts.bundle.archive import pack
from quant_assets.artifacts.bundle.bundle import build_bundle, inspect_bundle
from quant_assets.artifacts.onnx.scoring import checked_model
from quant_assets.common.errors import ArtifactError
from quant_assets.common.hashing import bytes_digest, canonical_json, json_digest
from quant_assets_tests.artifacts.conftest import SUBJECT

UPSTREAM = {"training_set": "a" * 64, "bars": "b" * 64}
SBOM = b'{"bomFormat":"CycloneDX","components":[]}'
NATIVE = {"native/lightgbm.txt", "native/xgboost.json"}
FILES = {"ensemble.json", "model.onnx", "model_card.md", "sbom.cdx.json"} | NATIVE


def built(ensemble, graph, student, **changes):
    options = {
        "strategy": "small", "subject": SUBJECT, "ensemble": ensemble.to_json(), "onnx": graph,
        "int8": student.to_json(), "upstream": UPSTREAM, "sbom": SBOM,
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
    inspected = inspect_bundle(bundle)
    manifest, files = inspected.manifest, inspected.files
    assert (manifest.strategy, manifest.subject, manifest.recipe) == ("small", SUBJECT, "r1")
    assert manifest.upstream == UPSTREAM
    assert set(manifest.files) == FILES | {"int8.onnx"}
    assert manifest.feature_names == ensemble.feature_names
    assert files["sbom.cdx.json"] == SBOM
    assert files["model.onnx"] == graph
    assert files["int8.onnx"] == student.int8
    assert manifest.files["model.onnx"] == bytes_digest(graph)
    assert inspected.ensemble() == ensemble
    assert inspected.fingerprint is None


def test_each_learner_is_there_in_the_text_that_its_own_library_loads(
    bundle, ensemble, training_data, tmp_path
):
    import lightgbm
    import xgboost

    files = inspect_bundle(bundle).files
    by_name = {learner.name: learner for learner in ensemble.learners}
    native = lightgbm.Booster(model_str=files["native/lightgbm.txt"].decode())
    assert (
        native.predict(training_data.features) == by_name["lightgbm"].predict(training_data.features)
    ).all()
    (tmp_path / "xgboost.json").write_bytes(files["native/xgboost.json"])
    booster = xgboost.Booster(model_file=str(tmp_path / "xgboost.json"))
    predicted = booster.inplace_predict(training_data.features)
    assert (predicted == by_name["xgboost"].predict(training_data.features)).all()


def test_the_same_candidate_gives_the_same_bytes(bundle, ensemble, graph, student):
    assert built(ensemble, graph, student, upstream=dict(reversed(UPSTREAM.items()))) == bundle
    assert built(ensemble, graph, student, upstream={**UPSTREAM, "bars": "c"}) != bundle


def test_a_bundle_without_a_student_holds_no_int8_graph(ensemble, graph, student):
    for record in (None, {"kind": "not_applicable", "subject": SUBJECT, "reason": "trees"}):
        inspected = inspect_bundle(built(ensemble, graph, student, int8=record))
        assert "int8.onnx" not in inspected.files
        assert set(inspected.manifest.files) == FILES


def test_the_model_card_names_subject_learners_features_and_sources(bundle):
    card = inspect_bundle(bundle).files["model_card.md"].decode()
    for word in (
        SUBJECT,
        "`r1`",
        "| lightgbm |",
        "| xgboost |",
        "| feature_0 |",
        "| training_set | `aaaa",
        "NaN",
        "`native/lightgbm.txt`, `native/xgboost.json`",
        "| `sbom.cdx.json` | ",
    ):
        assert word in card


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_bundle_is_refused(bundle, kept):
    with pytest.raises(ArtifactError, match="truncated or damaged"):
        inspect_bundle(bundle[: int(kept * len(bundle))])


@pytest.mark.parametrize(
    ("data", "found"),
    [(b"", "0 bytes"), (b"\x80\x04N.", "begin with"), (b"x" * 500, "begin with")],
)
def test_something_else_than_an_archive_is_refused(data, found):
    with pytest.raises(ArtifactError, match=found):
        inspect_bundle(data)


def test_any_changed_byte_is_refused(bundle):
    # every 997th byte, then the whole directory at the end and the first header
    positions = [*range(0, len(bundle), 997), *range(len(bundle) - 400, len(bundle)), *range(40)]
    for position in positions:
        damaged = bytearray(bundle)
        damaged[position] ^= 0x01
        with pytest.raises(ArtifactError):
            inspect_bundle(bytes(damaged))


def test_bytes_added_before_or_after_are_refused(bundle):
    for data in (bundle + b"\x00", b"\x00" + bundle):
        with pytest.raises(ArtifactError):
            inspect_bundle(data)


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
        (lambda files: files.update({"../evil": b"x"}), r"leaves it: '\.\./evil'"),
        (lambda files: files.update({"/etc/evil": b"x"}), "leaves it: '/etc/evil'"),
        (lambda files: files.update({"native/../../evil": b"x"}), "leaves it"),
        (lambda files: files.update({"native\\\\evil": b"x"}), "leaves it"),
        (lambda files: files.update({"c:evil": b"x"}), "leaves it"),
        (lambda files: files.update({"Model.ONNX": b"x"}), "names of lower-case"),
        (lambda files: files.update({f"f{i}.txt": b"x" for i in range(40)}), "at most 32 files"),
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
        inspect_bundle(rebuilt(bundle, change))


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
        inspect_bundle(other)
    assert inspect_bundle(as_platform_writes(bundle)).manifest.subject == SUBJECT


def swapped(bundle, name, payload):
    """The bundle with another file in the place of one, and every digest right."""

    def swap(files):
        digests = {**json.loads(files["manifest.json"])["files"], name: bytes_digest(payload)}
        files[name] = payload
        resealed(files, files=digests)

    return as_platform_writes(rebuilt(bundle, swap))


def edited(graph, change):
    model = onnx.load_from_string(graph)
    change(model)
    return model.SerializeToString()


def external(location):
    def change(model):
        tensor = model.graph.initializer.add(name="w", data_type=1, dims=[1])
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)

    return change


def foreign_operator(model):
    model.graph.node.add(op_type="Shell", domain="com.evil", input=["features"], output=["x"], name="n")
    model.opset_import.add(domain="com.evil", version=1)


def own_function(model):
    model.functions.add(name="f", domain="local").node.add(op_type="Identity", input=["a"], output=["b"])


def training_graph(model):
    model.training_info.add().algorithm.name = "step"


def sparse_external(model):
    attribute = model.graph.node[0].attribute.add(name="s", type=onnx.AttributeProto.SPARSE_TENSOR)
    values = attribute.sparse_tensor.values
    values.data_location = onnx.TensorProto.EXTERNAL
    values.external_data.add(key="location", value="hidden")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda graph: pickle.dumps(os.system), "a pickle that imports posix.system"),
        (lambda graph: pickle.dumps({"a": 1}), "model.onnx at byte 0: a pickle"),
        (lambda graph: b"", "a file of 0 bytes"),
        (lambda graph: graph[: len(graph) // 2], "not ONNX, or not all of it"),
        (lambda graph: edited(graph, external("weights.bin")), "external data for w in 'weights.bin'"),
        (lambda graph: edited(graph, external("../../etc/passwd")), r"in '\.\./\.\./etc/passwd'"),
        (lambda graph: edited(graph, sparse_external), "external data for .* in 'hidden'"),
        (lambda graph: edited(graph, foreign_operator), "operators of domain com.evil"),
        (lambda graph: edited(graph, own_function), "operators of domain .*local|of the file itself"),
        (lambda graph: edited(graph, training_graph), "graphs for training"),
        (lambda graph: b"\x7fELF\x02\x01\x01" + bytes(64), "an ELF program"),
        (lambda graph: graph + pack({"a.txt": b"x"}), "a zip archive in or behind it"),
    ],
)  # fmt: skip
def test_a_dangerous_graph_is_refused_with_its_own_message_even_when_resealed(bundle, graph, change, found):
    with pytest.raises(ArtifactError, match=found):
        inspect_bundle(swapped(bundle, "model.onnx", change(graph)))


def test_the_graph_itself_is_accepted_before_the_changes(graph):
    assert checked_model(edited(graph, lambda model: None)).graph.node


def test_a_native_model_that_is_damaged_or_of_another_ensemble_is_refused(bundle, ensemble):
    text = inspect_bundle(bundle).files["native/lightgbm.txt"]
    with pytest.raises(ArtifactError, match="native models that are whole"):
        inspect_bundle(swapped(bundle, "native/lightgbm.txt", text[: len(text) // 2]))

    def drop(files):
        digests = json.loads(files["manifest.json"])["files"]
        digests.pop("native/xgboost.json")
        files.pop("native/xgboost.json")
        resealed(files, files=digests)

    with pytest.raises(ArtifactError, match=r"the native models of ensemble\.json"):
        inspect_bundle(as_platform_writes(rebuilt(bundle, drop)))


def test_features_that_the_native_models_do_not_have_are_refused(bundle):
    other = as_platform_writes(rebuilt(bundle, lambda files: resealed(files, feature_names=["a"])))
    with pytest.raises(ArtifactError, match="with 1 features"):
        inspect_bundle(other)


def test_sizes_larger_than_the_archive_are_refused_before_anything_is_read(bundle):
    """The directory at the end says how large each entry becomes; a bomb says gigabytes."""
    bomb = bytearray(bundle)
    entry = bomb.index(b"PK\x01\x02")
    for offset in (20, 24):  # compressed and uncompressed size
        bomb[entry + offset : entry + offset + 4] = (0xF0000000).to_bytes(4, "little")
    with pytest.raises(ArtifactError, match="zip bomb"):
        inspect_bundle(bytes(bomb))


def test_a_payload_in_any_other_file_is_not_packed(ensemble, graph, student):
    with pytest.raises(ArtifactError, match=r"sbom\.cdx\.json at byte 0: a script"):
        built(ensemble, graph, student, sbom=b"#!/bin/sh\n")


def test_a_compressed_archive_of_the_same_files_is_refused(bundle):
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(bundle)) as source,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name in source.namelist():
            archive.writestr(name, source.read(name))
    with pytest.raises(ArtifactError, match="uncompressed"):
        inspect_bundle(buffer.getvalue())


def test_a_graph_of_another_subject_is_not_packed(ensemble, graph, student):
    with pytest.raises(ArtifactError, match="subject"):
        built(ensemble, graph, student, subject="6" * 64)
    with pytest.raises(ArtifactError, match="pickle"):
        built(ensemble, b"\x80\x04N.", student)
