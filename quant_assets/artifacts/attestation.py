"""Attestations: what one step made of which inputs, signed by the platform.

An in-toto statement (v1) in a DSSE envelope, under the key that signs bundles. Whoever may write to the event log or
the artifact store can say that an asset is there; only who holds the key can say that a step of this platform made
it. The envelope stands on the asset's own event, which is believed as far as the statement says the same.

Sources: in-toto Attestation Framework, https://in-toto.io/Statement/v1; DSSE protocol 1.0.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from quant_assets.artifacts.bundle.signing import SigningKey, TrustedKeys
from quant_assets.common.errors import ArtifactError
from quant_assets.common.hashing import canonical_json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import (
        ECDSA,
        EllipticCurvePrivateKey,
        EllipticCurvePublicKey,
    )

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:quant-assets:materialisation:v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"


@dataclass(frozen=True)
class Material:
    """One input as a step read it: the version of its content, and the address of the very bytes."""

    version: str
    sha256: str


@dataclass(frozen=True)
class Materialisation:
    """What a step says that it made.

    Attributes
    ----------
    asset : str
        Owner and name, with the partition: ``universe/raw_bars[2017]``.
    version, sha256, media_type : str
        Digest of the content, address of the bytes, how they are read.
    code_version : str
        Of the code and of the part of the configuration that shaped it.
    fingerprint : str
        Of everything that shaped it.
    inputs : mapping of str to Material
        Everything that it was made from, by ``asset``.
    run_id : str
        The run whose step it was.
    """

    asset: str
    version: str
    sha256: str
    media_type: str
    code_version: str
    fingerprint: str
    inputs: Mapping[str, Material]
    run_id: str

    def statement(self) -> bytes:
        """The statement, in the one form in which it is signed."""
        predicate = {
            "version": self.version,
            "media_type": self.media_type,
            "code_version": self.code_version,
            "fingerprint": self.fingerprint,
            "inputs": {name: vars(material) for name, material in self.inputs.items()},
            "run_id": self.run_id,
        }
        return canonical_json(
            {
                "_type": STATEMENT_TYPE,
                "subject": [{"name": self.asset, "digest": {"sha256": self.sha256}}],
                "predicateType": PREDICATE_TYPE,
                "predicate": predicate,
            }
        )


def attest(made: Materialisation, key: SigningKey) -> dict[str, Any]:
    """Sign what a step made. Two calls give two signatures; both hold.

    Returns
    -------
    dict
        A DSSE envelope as plain data. Its ``keyid`` is the fingerprint of the key.
    """
    from cryptography.hazmat.primitives import serialization

    private = serialization.load_pem_private_key(key.path.read_bytes(), None)
    payload = made.statement()
    signature = cast("EllipticCurvePrivateKey", private).sign(
        pre_authentication(payload), _algorithm(private.public_key())
    )
    signed = {"keyid": key.fingerprint, "sig": base64.b64encode(signature).decode()}
    return {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [signed],
    }


def attested(asset: str, envelope: Any, trusted: TrustedKeys) -> Materialisation:
    """What an envelope says, once its signature by a trusted key holds.

    Parameters
    ----------
    asset : str
        Whose event it was found on, for messages. That the statement is about it is for the caller to compare.
    envelope : object
        As it was found; None or empty where there is none.

    Raises
    ------
    ArtifactError
        When there is none, it is unreadable, by a key that is not trusted, or its signature does not hold.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import serialization

    if envelope is None or envelope == {}:
        raise _refused(asset, "no attestation: no step of this platform signed for it")
    try:
        payload = base64.b64decode(envelope["payload"], validate=True)
        (signed,) = envelope["signatures"]
        keyid, signature = str(signed["keyid"]), base64.b64decode(signed["sig"], validate=True)
        typed = envelope["payloadType"] == PAYLOAD_TYPE
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise _refused(asset, "an unreadable attestation") from error
    if keyid not in trusted.keys:
        raise _refused(asset, f"an attestation by the foreign key {keyid[:12]}")
    public = cast("EllipticCurvePublicKey", serialization.load_pem_public_key(trusted.keys[keyid]))
    try:
        public.verify(signature, pre_authentication(payload), _algorithm(public))
    except InvalidSignature as error:
        raise _refused(asset, "an attestation that its key did not make (forged or altered)") from error
    made = _parsed(payload) if typed else None
    if made is None or made.statement() != payload:
        raise _refused(asset, "a signed statement of another kind")
    return made


def _parsed(payload: bytes) -> Materialisation | None:
    """A statement of this platform; None when it is another. Its exact form is compared by the caller."""
    try:
        statement = json.loads(payload)
        (subject,), predicate = statement["subject"], statement["predicate"]
        return Materialisation(
            asset=subject["name"],
            sha256=subject["digest"]["sha256"],
            version=predicate["version"],
            media_type=predicate["media_type"],
            code_version=predicate["code_version"],
            fingerprint=predicate["fingerprint"],
            inputs={name: Material(**material) for name, material in predicate["inputs"].items()},
            run_id=predicate["run_id"],
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def pre_authentication(payload: bytes, payload_type: str = PAYLOAD_TYPE) -> bytes:
    """DSSE's pre-authentication encoding: what is really signed (DSSE protocol 1.0, ``PAE``)."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _algorithm(public: object) -> "ECDSA":
    """The hash that goes with a curve, as Sigstore pairs them."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    of_size: dict[int, hashes.HashAlgorithm] = {
        256: hashes.SHA256(),
        384: hashes.SHA384(),
        521: hashes.SHA512(),
    }
    return ec.ECDSA(of_size[cast("EllipticCurvePublicKey", public).curve.key_size])


def _refused(asset: str, found: str) -> ArtifactError:
    return ArtifactError(
        f"attestation of {asset}",
        expected="one signed by a trusted key of this platform",
        found=found,
        action="materialise the asset again",
    )
