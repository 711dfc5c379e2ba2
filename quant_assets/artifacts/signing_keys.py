"""The keys of bundle signatures: made once for development, supplied everywhere else.

``QUANT_ASSETS_SIGNING_KEY`` is the path of the private key, ``QUANT_ASSETS_VERIFY_KEYS`` one or more paths of
public keys (joined as in ``PATH``). A machine that only loads bundles has no private key.
"""

import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from quant_assets.common.errors import ConfigurationError
from quant_assets.common.files import write_whole
from quant_assets.common.hashing import bytes_digest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

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
        In development the key is made below its folder ``keys`` when there is none.

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
        _create_once(target, pem)
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


def _create_once(target: Path, data: bytes) -> None:
    """Write a file whole under a name that nobody has taken; leave the one that was there first."""
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".key-")  # mode 0600
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        # Unlike a rename, a link does not replace: the first of two processes wins and both use its key.
        try:
            target.hardlink_to(temporary)
        except FileExistsError:
            return
    finally:
        temporary.unlink(missing_ok=True)


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
