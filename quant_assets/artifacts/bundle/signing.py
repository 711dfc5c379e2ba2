"""Detached signatures of bundles, and their keys: OpenSSF model signing with an elliptic-curve key.

``QUANT_ASSETS_SIGNING_KEY`` is the path of the private key, ``QUANT_ASSETS_VERIFY_KEYS`` one or more paths of
public keys (joined as in ``PATH``); they are made once for development and supplied everywhere else. A machine that
only loads bundles has no private key. A fingerprint is the SHA-256 of the public key in PEM, which is what Sigstore's
bundle format itself carries as the key's hint.

The signature is over the archive's bytes, so it is checked before one byte of the archive is interpreted. It is
kept beside the archive and never in it: ECDSA draws a random number, and the digest of a bundle may not depend on
one.
"""

import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from quant_assets.common.errors import ConfigurationError
from quant_assets.common.files import create_whole, write_whole
from quant_assets.common.hashing import bytes_digest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

import base64
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from quant_assets.common.errors import ArtifactError

# ------------------------------------------------------------------------------------------------------- keys


SIGNING_VARIABLE = "QUANT_ASSETS_SIGNING_KEY"
VERIFY_VARIABLE = "QUANT_ASSETS_VERIFY_KEYS"
PRIVATE_FILE, PUBLIC_FILE = "bundle_signing.pem", "bundle_signing.pub"

# The curves of OpenSSF model signing.
_CURVES = ("secp256r1", "secp384r1", "secp521r1")


@dataclass(frozen=True)
class SigningKey:
    """A private key by its path, and the public half of it."""

    path: Path
    public_pem: bytes

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the public key in PEM."""
        return bytes_digest(self.public_pem)


@dataclass(frozen=True)
class TrustedKeys:
    """Public keys whose signatures are believed, by fingerprint. Empty means that nothing is."""

    keys: Mapping[str, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, public_pems: Iterable[bytes]) -> "TrustedKeys":
        """Trust these public keys (canonical PEM, as `SigningKey` and `read_public_key` give them)."""
        return cls({bytes_digest(pem): pem for pem in public_pems})


def signing_key(home: Path) -> SigningKey:
    """The key to sign with.

    Parameters
    ----------
    home : Path
        A local folder: `quant_assets.common.home.Home.local`. A private key never leaves the machine that signs, so
        it is not kept in a bucket. In development it is made below the folder ``keys`` when there is none.

    Raises
    ------
    ConfigurationError
        When the key is missing in an environment other than development, cannot be read, is not an
        elliptic-curve key, or may be read by others.
    """
    supplied = os.environ.get(SIGNING_VARIABLE)
    if supplied:
        return _read_private(Path(supplied), forbidden=0o007)
    environment = _environment()
    if environment != "development":
        raise ConfigurationError(
            f"environment variable {SIGNING_VARIABLE}",
            expected=f"the path of a private key: a key is never made up in {environment}",
            found="it is not set",
            action="make a key with `openssl ecparam -name prime256v1 -genkey -noout`, keep it as a secret, "
            f"and set {SIGNING_VARIABLE} to its path",
        )
    return development_key(home)


def trusted_keys(home: Path) -> TrustedKeys:
    """The public keys whose signatures are believed.

    In development without ``QUANT_ASSETS_VERIFY_KEYS`` it is the public half of the key that signs here, and
    nothing when there is none yet: verifying never makes a key.

    Raises
    ------
    ConfigurationError
        When no key is named in an environment other than development, or one cannot be read.
    """
    named = os.environ.get(VERIFY_VARIABLE)
    if named:
        return TrustedKeys.of(read_public_key(Path(path)) for path in named.split(os.pathsep) if path)
    environment = _environment()
    if environment != "development":
        raise ConfigurationError(
            f"environment variable {VERIFY_VARIABLE}",
            expected=f"the paths of the public keys that are trusted in {environment}",
            found="it is not set",
            action=f"set {VERIFY_VARIABLE}; without it no bundle is loaded",
        )
    if os.environ.get(SIGNING_VARIABLE) or (home / "keys" / PRIVATE_FILE).exists():
        return TrustedKeys.of([signing_key(home).public_pem])
    return TrustedKeys()


def development_key(home: Path) -> SigningKey:
    """The development key of a home folder, made when it is missing. Two processes end with the same key."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    folder = home / "keys"
    target = folder / PRIVATE_FILE
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        # Unlike a rename it does not replace: the first of two processes wins and both use its key.
        create_whole(target, pem, mode=0o600)
    key = _read_private(target, forbidden=0o077)
    public = folder / PUBLIC_FILE
    if not public.exists() or public.read_bytes() != key.public_pem:
        write_whole(public, key.public_pem)
    return key


def read_public_key(path: Path) -> bytes:
    """A public key as canonical PEM.

    Raises
    ------
    ConfigurationError
        When there is no such file, or it is no public key of a supported curve.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        key = serialization.load_pem_public_key(_read(path, "a public key"))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _unusable(path, "a public key in PEM", str(error)) from error
    return _public_pem(path, key)


def _read_private(path: Path, *, forbidden: int) -> SigningKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    data = _read(path, "a private key")
    if (mode := path.stat().st_mode & 0o777) & forbidden:
        raise ConfigurationError(
            f"private key {path}",
            expected="a file that only its owner may read",
            found=f"mode {mode:04o}",
            action=f"run chmod 600 {path}; if others could read it for long, make a new key",
        )
    try:
        key = serialization.load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _unusable(path, "a private key in PEM without a password", str(error)) from error
    return SigningKey(path, _public_pem(path, key.public_key()))


def _public_pem(path: Path, key: object) -> bytes:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _CURVES:
        raise _unusable(path, f"an elliptic-curve key of {', '.join(_CURVES)}", _kind(key))
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _kind(key: "EllipticCurvePublicKey | object") -> str:
    curve = getattr(key, "curve", None)
    return f"a key of curve {curve.name}" if curve is not None else f"a {type(key).__name__}"


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unusable(path, what, error.strerror or type(error).__name__) from error


def _unusable(path: Path, expected: str, found: str) -> ConfigurationError:
    return ConfigurationError(
        f"key file {path}",
        expected=expected,
        found=found.splitlines()[0] if found else "nothing readable",
        action=f"correct the path in {SIGNING_VARIABLE} or {VERIFY_VARIABLE}, or restore the file",
    )


def _environment() -> str:
    return os.environ.get("QUANT_ASSETS_ENV") or "development"


# ------------------------------------------------------------------------------------------------- signatures


_MAX_SIGNATURE_BYTES = 1 << 20
# The name under which the archive is signed; verifying ignores it, people read it.
_SIGNED_NAME = "bundle.zip"


@dataclass(frozen=True)
class Envelope:
    """A signature that is readable and of the kind that this platform writes; nothing in it is trusted yet.

    Attributes
    ----------
    fingerprint : str
        The key that it *says* it was made with.
    signed_sha256 : str
        SHA-256 of the archive that it says was signed.
    """

    fingerprint: str
    signed_sha256: str


def sign_bundle(data: bytes, key: SigningKey) -> bytes:
    """Sign an archive.

    Parameters
    ----------
    data : bytes
        The archive. Verify its contents first: a signature says that somebody stands for them.
    key : SigningKey

    Returns
    -------
    bytes
        The signature, a Sigstore bundle in JSON. Two calls give two signatures; both hold.
    """
    from model_signing import signing

    with tempfile.TemporaryDirectory() as folder:
        archive, signature = Path(folder) / _SIGNED_NAME, Path(folder) / "bundle.sig"
        archive.write_bytes(data)
        signer = signing.Config()  # type: ignore[no-untyped-call]
        signer.set_hashing_config(_hashing()).use_elliptic_key_signer(private_key=key.path)
        signer.sign(archive, signature)
        return signature.read_bytes()


def read_envelope(signature: bytes | None) -> Envelope:
    """Read a signature without trusting it.

    Raises
    ------
    ArtifactError
        Each with its own message: unsigned, unreadable, of another kind.
    """
    if not signature:
        raise _unsigned("no signature: the bundle is unsigned")
    if len(signature) > _MAX_SIGNATURE_BYTES:
        raise _unsigned(f"{len(signature)} bytes, which no signature has")
    try:
        bundle = _SigstoreBundle.model_validate_json(signature)
        statement = _Statement.model_validate_json(
            base64.b64decode(bundle.dsseEnvelope.payload, validate=True)
        )
    except (ValidationError, ValueError) as error:  # not base64, or not even ASCII
        raise _unsigned(f"an unreadable signature ({_first(error)})") from error
    (archive,) = statement.predicate.resources
    return Envelope(bundle.verificationMaterial.publicKey.hint, archive.digest)


def trusted_pem(envelope: Envelope, trusted: TrustedKeys) -> bytes:
    """The trusted public key that a signature names.

    Raises
    ------
    ArtifactError
        When no key is trusted at all, or the signature names another one (a foreign key).
    """
    if not trusted.keys:
        raise _refused(
            "at least one trusted key",
            "none, so no signature can be believed",
            "set QUANT_ASSETS_VERIFY_KEYS to the public keys of those who may sign",
        )
    if envelope.fingerprint not in trusted.keys:
        raise _refused(
            f"a signature by a trusted key ({', '.join(sorted(f[:12] for f in trusted.keys))})",
            f"one by the foreign key {envelope.fingerprint[:12]}",
            "do not load it; find out who signed it, and trust that key only if it is one of yours",
        )
    return trusted.keys[envelope.fingerprint]


def require_valid(data: bytes, signature: bytes, pem: bytes) -> str:
    """Hold a signature against the archive and the one key that may have made it; SHA-256 of the archive.

    Raises
    ------
    ArtifactError
        With one message where the signature was not made with the key, and another where it was made for other
        bytes (a bundle that was altered after signing, or the signature of another bundle).
    """
    from cryptography.exceptions import InvalidSignature
    from model_signing import verifying

    with tempfile.TemporaryDirectory() as folder:
        archive, detached, key = (Path(folder) / name for name in (_SIGNED_NAME, "bundle.sig", "key.pub"))
        archive.write_bytes(data)
        detached.write_bytes(signature)
        key.write_bytes(pem)
        verifier = verifying.Config()  # type: ignore[no-untyped-call]
        verifier.set_hashing_config(_hashing()).use_elliptic_key_verifier(public_key=key)
        try:
            verifier.verify(archive, detached)
        except InvalidSignature as error:
            raise _refused(
                "a signature made with the key that it names",
                "one that this key did not make (forged or altered)",
            ) from error
        except ValueError as error:
            raise _refused(
                f"the bytes that were signed, with SHA-256 {read_envelope(signature).signed_sha256}",
                f"others, with SHA-256 {bytes_digest(data)}: the bundle was altered after signing, or this is the "
                "signature of another bundle",
            ) from error
    return bytes_digest(data)


def verify_signature(data: bytes, signature: bytes | None, trusted: TrustedKeys) -> str:
    """Verify the signature of an archive, and return the fingerprint of the key that made it.

    Raises
    ------
    ArtifactError
        As `read_envelope`, `trusted_pem` and `require_valid`, in this order.
    """
    envelope = read_envelope(signature)
    require_valid(data, signature or b"", trusted_pem(envelope, trusted))
    return envelope.fingerprint


def _hashing() -> Any:
    from model_signing import hashing

    # Left to itself the library skips Git's files wherever it looks.
    config = hashing.Config()  # type: ignore[no-untyped-call]
    return config.set_ignored_paths(paths=[], ignore_git_paths=False)


def _first(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'whole'}: {first['msg']}"


def _refused(
    expected: str, found: str, action: str = "do not load it; materialise the bundle and its signature again"
) -> ArtifactError:
    return ArtifactError("signature of the bundle", expected=expected, found=found, action=action)


def _unsigned(found: str) -> ArtifactError:
    return _refused("a signature beside the bundle", found)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _PublicKey(_Part):
    hint: str = Field(pattern="^[0-9a-f]{64}$")


class _Material(_Part):
    publicKey: _PublicKey  # noqa: N815 (Sigstore's name)
    tlogEntries: list[Any] = Field(max_length=0)  # noqa: N815


class _Signature(_Part):
    sig: str
    keyid: str = ""


class _Envelope(_Part):
    payload: str
    payloadType: Literal["application/vnd.in-toto+json"]  # noqa: N815
    signatures: list[_Signature] = Field(min_length=1, max_length=1)


class _SigstoreBundle(_Part):
    mediaType: Literal["application/vnd.dev.sigstore.bundle.v0.3+json"]  # noqa: N815
    verificationMaterial: _Material  # noqa: N815
    dsseEnvelope: _Envelope  # noqa: N815


class _Digest(_Part):
    sha256: str


class _Subject(_Part):
    name: str
    digest: _Digest


class _Serialization(_Part):
    """Without ``ignore_paths``: a signature that leaves files out is none."""

    method: Literal["files"]
    hash_type: Literal["sha256"]
    allow_symlinks: Literal[False]


class _Resource(_Part):
    name: Literal["."]
    algorithm: Literal["sha256"]
    digest: str


class _Predicate(_Part):
    serialization: _Serialization
    resources: list[_Resource] = Field(min_length=1, max_length=1)


class _Statement(_Part):
    """The in-toto statement over one file. The library's older forms are not accepted."""

    type_: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: list[_Subject] = Field(min_length=1, max_length=1)
    predicateType: Literal["https://model_signing/signature/v1.0"]  # noqa: N815
    predicate: _Predicate
