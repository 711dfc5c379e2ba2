"""Signatures of bundles: who signed, over what, and every way in which that is not so."""

import base64
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from quant_assets.artifacts.bundle.archive import pack, sealed
from quant_assets.artifacts.bundle.bundle import build_bundle, examine_bundle, inspect_bundle, verify_bundle
from quant_assets.artifacts.bundle.signing import (
    PRIVATE_FILE,
    PUBLIC_FILE,
    SIGNING_VARIABLE,
    VERIFY_VARIABLE,
    TrustedKeys,
    development_key,
    read_public_key,
    sign_bundle,
    signing_key,
    trusted_keys,
    verify_signature,
)
from quant_assets.common.errors import ArtifactError, ConfigurationError
from quant_assets.common.files import create_whole
from quant_assets.common.hashing import bytes_digest
from quant_assets_tests.artifacts.conftest import SUBJECT

pytestmark = pytest.mark.usefixtures("no_configured_keys")


@pytest.fixture
def no_configured_keys(monkeypatch):
    for name in (SIGNING_VARIABLE, VERIFY_VARIABLE, "QUANT_ASSETS_ENV"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return development_key(tmp_path_factory.mktemp("desk"))


@pytest.fixture(scope="module")
def foreign_key(tmp_path_factory):
    return development_key(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(scope="module")
def trusted(key):
    return TrustedKeys.of([key.public_pem])


def built(ensemble, graph, **changes):
    options = {
        "strategy": "small", "subject": SUBJECT, "ensemble": ensemble.to_json(), "onnx": graph,
        "int8": None, "upstream": {"training_set": "a" * 64}, "sbom": b"{}",
    }  # fmt: skip
    return build_bundle(**{**options, **changes})


@pytest.fixture(scope="module")
def bundle(ensemble, graph):
    return built(ensemble, graph)


@pytest.fixture(scope="module")
def other_bundle(ensemble, graph):
    return built(ensemble, graph, strategy="other")


@pytest.fixture(scope="module")
def signature(bundle, key):
    return sign_bundle(bundle, key)


def test_a_signed_bundle_is_verified_and_names_its_key(bundle, signature, trusted, key):
    verified = verify_bundle(bundle, signature, trusted)
    assert verified.fingerprint == key.fingerprint == bytes_digest(key.public_pem)
    assert verified.manifest.subject == SUBJECT
    assert verified.files == inspect_bundle(bundle).files


def test_the_signature_is_an_openssf_statement_over_the_archive_that_the_curve_itself_confirms(
    bundle, signature, key
):
    """Checked without the library: DSSE's pre-authentication encoding and ECDSA over it."""
    record = json.loads(signature)
    assert record["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    envelope = record["dsseEnvelope"]
    payload = base64.b64decode(envelope["payload"])
    kind = envelope["payloadType"]
    encoded = f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload
    public = serialization.load_pem_public_key(key.public_pem)
    from cryptography.hazmat.primitives.hashes import SHA256

    public.verify(base64.b64decode(envelope["signatures"][0]["sig"]), encoded, ec.ECDSA(SHA256()))
    statement = json.loads(payload)
    assert statement["predicateType"] == "https://model_signing/signature/v1.0"
    assert statement["predicate"]["resources"][0]["digest"] == bytes_digest(bundle)


def test_signing_twice_gives_two_signatures_that_hold_and_the_bundle_knows_nothing_of_them(
    ensemble, graph, bundle, signature, trusted, key
):
    again = sign_bundle(bundle, key)
    assert again != signature
    assert verify_signature(bundle, again, trusted) == key.fingerprint
    assert built(ensemble, graph) == bundle


@pytest.mark.parametrize("missing", [None, b""])
def test_an_unsigned_bundle_is_refused(bundle, trusted, missing):
    with pytest.raises(ArtifactError, match="unsigned"):
        verify_bundle(bundle, missing, trusted)


def test_a_bundle_signed_by_a_foreign_key_is_refused(bundle, foreign_key, trusted):
    with pytest.raises(ArtifactError, match=f"foreign key {foreign_key.fingerprint[:12]}"):
        verify_bundle(bundle, sign_bundle(bundle, foreign_key), trusted)


def test_no_trusted_key_means_that_nothing_is_trusted(bundle, signature):
    with pytest.raises(ArtifactError, match="none, so no signature can be believed"):
        verify_bundle(bundle, signature, TrustedKeys())


def test_the_signature_of_another_bundle_is_refused(bundle, other_bundle, key, trusted):
    with pytest.raises(ArtifactError, match="signature of another bundle"):
        verify_bundle(bundle, sign_bundle(other_bundle, key), trusted)


def test_a_foreign_signature_that_names_a_trusted_key_is_refused(bundle, foreign_key, key, trusted):
    forged = json.loads(sign_bundle(bundle, foreign_key))
    forged["verificationMaterial"]["publicKey"]["hint"] = key.fingerprint
    with pytest.raises(ArtifactError, match="forged or altered"):
        verify_bundle(bundle, json.dumps(forged).encode(), trusted)


def test_a_statement_that_was_rewritten_for_another_archive_is_refused(
    bundle, other_bundle, signature, trusted
):
    record = json.loads(signature)
    payload = base64.b64decode(record["dsseEnvelope"]["payload"]).decode()
    changed = payload.replace(bytes_digest(bundle), bytes_digest(other_bundle))
    assert changed != payload
    record["dsseEnvelope"]["payload"] = base64.b64encode(changed.encode()).decode()
    with pytest.raises(ArtifactError, match="forged or altered"):
        verify_bundle(other_bundle, json.dumps(record).encode(), trusted)


def test_any_changed_byte_of_the_archive_is_refused_by_its_signature(bundle, signature, trusted):
    for position in range(0, len(bundle), len(bundle) // 40):
        tampered = bytearray(bundle)
        tampered[position] ^= 1
        with pytest.raises(ArtifactError, match="altered after signing"):
            verify_bundle(bytes(tampered), signature, trusted)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda data: data[: len(data) // 2], "altered after signing.*and a truncated or damaged one"),
        (lambda data: b"", "altered after signing.*and 0 bytes"),
        (lambda data: data.replace(b"small", b"large"), "altered after signing.*and a changed byte"),
    ],
)
def test_a_bundle_that_was_altered_after_signing_says_what_is_wrong_with_it(
    bundle, signature, trusted, change, found
):
    with pytest.raises(ArtifactError, match=found):
        verify_bundle(change(bundle), signature, trusted)


def without(record, *path):
    for part in path[:-1]:
        record = record[part]
    del record[path[-1]]


@pytest.mark.parametrize(
    "change",
    [
        lambda record: without(record, "verificationMaterial", "publicKey", "hint"),
        lambda record: without(record, "dsseEnvelope"),
        lambda record: record["dsseEnvelope"].update(signatures=[]),
        lambda record: record["dsseEnvelope"].update(payload="***"),
        lambda record: record["dsseEnvelope"].update(payloadType="text/plain"),
        lambda record: record.update(mediaType="application/json"),
        lambda record: record.update(more=1),
    ],
)
def test_a_signature_of_another_form_is_unreadable(bundle, signature, trusted, change):
    record = json.loads(signature)
    change(record)
    with pytest.raises(ArtifactError, match="unreadable signature"):
        verify_bundle(bundle, json.dumps(record).encode(), trusted)


def resigned(signature, key, change):
    """A signature by the key itself over a statement that says something else."""
    from cryptography.hazmat.primitives.hashes import SHA256

    record = json.loads(signature)
    statement = json.loads(base64.b64decode(record["dsseEnvelope"]["payload"]))
    change(statement)
    payload = json.dumps(statement).encode()
    kind = record["dsseEnvelope"]["payloadType"]
    private = serialization.load_pem_private_key(key.path.read_bytes(), None)
    sig = private.sign(f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload, ec.ECDSA(SHA256()))
    record["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    record["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(sig).decode()
    return json.dumps(record).encode()


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s["predicate"]["serialization"].update(ignore_paths=["model.onnx"]),
        lambda s: s["predicate"]["serialization"].update(method="shards"),
        lambda s: s["predicate"]["serialization"].update(hash_type="blake2"),
        lambda s: s["predicate"].update(resources=[]),
        lambda s: s.update(predicateType="https://model_signing/Digests/v0.1"),
    ],
)
def test_a_statement_that_covers_less_than_the_archive_is_refused_even_when_signed_by_a_trusted_key(
    bundle, signature, trusted, key, change
):
    assert (
        verify_bundle(bundle, resigned(signature, key, lambda s: None), trusted).fingerprint
        == key.fingerprint
    )
    with pytest.raises(ArtifactError, match="unreadable signature"):
        verify_bundle(bundle, resigned(signature, key, change), trusted)


def test_each_refusal_has_its_own_message(bundle, other_bundle, signature, key, foreign_key, trusted):
    forged = json.loads(sign_bundle(bundle, foreign_key))
    forged["verificationMaterial"]["publicKey"]["hint"] = key.fingerprint
    cases = [
        (bundle, None, trusted),
        (bundle, b"{}", trusted),
        (bundle, signature, TrustedKeys()),
        (bundle, sign_bundle(bundle, foreign_key), trusted),
        (bundle, json.dumps(forged).encode(), trusted),
        (bundle, sign_bundle(other_bundle, key), trusted),
        (bundle[:-20], signature, trusted),
    ]
    messages = set()
    for case in cases:
        with pytest.raises(ArtifactError) as refusal:
            verify_bundle(*case)
        messages.add(str(refusal.value))
    assert len(messages) == len(cases)


def test_nothing_is_parsed_after_a_signature_that_does_not_hold(bundle, foreign_key, trusted):
    examination = examine_bundle(bundle, sign_bundle(bundle, foreign_key), trusted)
    status = {step.name: step.status for step in examination.steps}
    assert status == {
        "signed": "passed", "trusted key": "failed", "signature holds": "not run", "archive whole": "passed",
        "files as listed": "passed", "payload scan": "passed", "graphs": "not run", "native models": "not run",
    }  # fmt: skip
    assert examination.bundle is None


def test_a_graph_is_not_even_parsed_by_the_scan_when_the_signature_does_not_hold(
    bundle, foreign_key, key, trusted
):
    inspected = inspect_bundle(bundle)
    graph = b"protobuf would have to read this"
    digests = {**inspected.manifest.files, "model.onnx": bytes_digest(graph)}
    manifest = sealed(replace(inspected.manifest, files=digests))
    swapped = pack({**inspected.files, "model.onnx": graph, "manifest.json": manifest})

    def scan(signer):
        steps = examine_bundle(swapped, sign_bundle(swapped, signer), trusted).steps
        return next((step.status, step.detail) for step in steps if step.name == "payload scan")

    assert scan(foreign_key)[0] == "passed"
    status, detail = scan(key)
    assert status == "failed"
    assert "not ONNX" in detail


def test_a_key_that_is_there_is_never_replaced(tmp_path):
    target = tmp_path / "key.pem"
    for content in (b"first", b"second"):
        create_whole(target, content, mode=0o600)
    assert target.read_bytes() == b"first"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["key.pem"]


def test_the_development_key_is_made_once_and_only_its_owner_may_read_it(tmp_path):
    first = signing_key(tmp_path)
    private = tmp_path / "keys" / PRIVATE_FILE
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert stat.S_IMODE(private.parent.stat().st_mode) == 0o700
    before = private.read_bytes()
    assert signing_key(tmp_path) == first
    assert private.read_bytes() == before
    assert read_public_key(tmp_path / "keys" / PUBLIC_FILE) == first.public_pem
    assert trusted_keys(tmp_path).keys == {first.fingerprint: first.public_pem}
    assert {f.name for f in private.parent.iterdir()} == {PRIVATE_FILE, PUBLIC_FILE}


def test_two_processes_that_make_the_key_at_once_end_with_the_same_one(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(development_key, [tmp_path] * 16))
    assert len({key.fingerprint for key in keys}) == 1


def test_verifying_never_makes_a_key(tmp_path):
    assert trusted_keys(tmp_path) == TrustedKeys()
    assert not (tmp_path / "keys").exists()


@pytest.mark.parametrize("environment", ["staging", "production", "prod"])
def test_outside_development_a_missing_key_is_an_error_and_never_made_up(tmp_path, monkeypatch, environment):
    development_key(tmp_path)  # what a developer left behind is not used either
    monkeypatch.setenv("QUANT_ASSETS_ENV", environment)
    with pytest.raises(ConfigurationError, match=f"{SIGNING_VARIABLE}.*never made up in {environment}"):
        signing_key(tmp_path)
    with pytest.raises(ConfigurationError, match=f"{VERIFY_VARIABLE}.*trusted in {environment}"):
        trusted_keys(tmp_path)


def test_supplied_keys_are_used_in_production_and_a_list_of_public_ones_is_trusted(
    tmp_path, monkeypatch, key, foreign_key, bundle
):
    public = []
    for name, each in (("one", key), ("two", foreign_key)):
        public.append(tmp_path / f"{name}.pub")
        public[-1].write_bytes(each.public_pem)
    monkeypatch.setenv("QUANT_ASSETS_ENV", "production")
    monkeypatch.setenv(SIGNING_VARIABLE, str(key.path))
    monkeypatch.setenv(VERIFY_VARIABLE, os.pathsep.join(map(str, public)))
    assert signing_key(tmp_path) == key
    assert set(trusted_keys(tmp_path).keys) == {key.fingerprint, foreign_key.fingerprint}
    assert verify_signature(bundle, sign_bundle(bundle, signing_key(tmp_path)), trusted_keys(tmp_path))


def rsa_pem():
    private = rsa.generate_private_key(65537, 2048)
    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def other_curve_pem():
    private = ec.generate_private_key(ec.SECP256K1())
    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (lambda: b"", "key file"),
        (lambda: b"no key", "key file"),
        (rsa_pem, "RSA"),
        (other_curve_pem, "secp256k1"),
    ],
)
def test_a_file_that_is_no_usable_key_is_named(tmp_path, monkeypatch, content, found):
    file = tmp_path / "key.pem"
    file.write_bytes(content())
    file.chmod(0o600)
    monkeypatch.setenv(SIGNING_VARIABLE, str(file))
    with pytest.raises(ConfigurationError, match=found):
        signing_key(tmp_path)


def test_a_missing_key_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv(SIGNING_VARIABLE, str(tmp_path / "none.pem"))
    with pytest.raises(ConfigurationError, match=r"none\.pem.*No such file"):
        signing_key(tmp_path)
    monkeypatch.setenv(VERIFY_VARIABLE, str(tmp_path / "none.pub"))
    with pytest.raises(ConfigurationError, match=r"none\.pub.*No such file"):
        trusted_keys(tmp_path)


def test_a_private_key_that_others_can_read_is_refused(tmp_path):
    development_key(tmp_path)
    (tmp_path / "keys" / PRIVATE_FILE).chmod(0o644)
    with pytest.raises(ConfigurationError, match="mode 0644"):
        development_key(tmp_path)
