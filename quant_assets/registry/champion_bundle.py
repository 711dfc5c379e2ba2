"""The bundle of a champion, out of the model registry and verified before anybody loads it."""

import tempfile
from pathlib import Path

from quant_assets.artifacts.bundle import Bundle, verify_bundle
from quant_assets.artifacts.signing_keys import TrustedKeys
from quant_assets.common.errors import RegistryError
from quant_assets.common.hashing import bytes_digest
from quant_assets.registry.champion import ChampionPointer, current_champion
from quant_assets.registry.connection import connect, reported

BUNDLE_FILE, SIGNATURE_FILE = "bundle.zip", "bundle.sig"


def champion_files(tracking_uri: str, strategy: str) -> tuple[ChampionPointer, bytes, bytes | None] | None:
    """Where the champion points, its archive and its signature, as they are: nothing is verified.

    Returns
    -------
    tuple or None
        None when the strategy has never had a champion. The signature is None where none was recorded.

    Raises
    ------
    RegistryError
        When the registry is unreachable, or has no archive for its champion.
    """
    pointer = current_champion(tracking_uri, strategy)
    if pointer is None:
        return None
    client = connect(tracking_uri)
    with reported(tracking_uri, f"reading the bundle of {strategy}"), tempfile.TemporaryDirectory() as folder:
        present = {file.path for file in client.list_artifacts(pointer.mlflow_run_id)}
        if BUNDLE_FILE not in present:
            raise RegistryError(
                f"champion of {strategy}, version {pointer.model_version}",
                expected=f"a file {BUNDLE_FILE} in its run",
                found=", ".join(sorted(present)) or "no files",
                action="materialise training_record and promotion again",
            )

        def read(name: str) -> bytes:
            return Path(client.download_artifacts(pointer.mlflow_run_id, name, folder)).read_bytes()

        return pointer, read(BUNDLE_FILE), read(SIGNATURE_FILE) if SIGNATURE_FILE in present else None


def load_champion(tracking_uri: str, strategy: str, trusted_keys: TrustedKeys) -> Bundle | None:
    """The bundle of the champion, verified: the one that was promoted, signed by a trusted key, for its subject.

    Returns
    -------
    Bundle or None
        None when the strategy has never had a champion.

    Raises
    ------
    ArtifactError
        When the archive or its signature is refused, with the reason.
    RegistryError
        When the registry holds another archive than the one that was promoted, or a bundle of another subject.
    """
    found = champion_files(tracking_uri, strategy)
    if found is None:
        return None
    pointer, archive, signature = found
    bundle = verify_bundle(archive, signature, trusted_keys)
    require_promoted(pointer, archive, bundle)
    return bundle


def require_promoted(pointer: ChampionPointer, archive: bytes, bundle: Bundle) -> None:
    """Hold a verified bundle against what the promotion wrote down.

    Raises
    ------
    RegistryError
        When another archive was promoted, or it is a bundle of another strategy or subject.
    """
    promoted = (pointer.bundle_sha256, pointer.strategy, pointer.subject)
    here = (bytes_digest(archive), bundle.manifest.strategy, bundle.manifest.subject)
    if here != promoted:
        names = ("archive", "strategy", "subject")
        wrong = [f"{n} {h} instead of {p}" for n, h, p in zip(names, here, promoted, strict=True) if h != p]
        raise RegistryError(
            f"champion of {pointer.strategy}, version {pointer.model_version}",
            expected="the signed bundle that was promoted",
            found="; ".join(wrong),
            action="do not serve it; materialise training_record and promotion again, or roll back",
        )
