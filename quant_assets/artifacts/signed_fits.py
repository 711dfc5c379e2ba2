"""Fits that are kept in the home: predictions by content, each under the platform's signature or not believed.

Below ``fits/<kind>/<aa>/<key>.json`` stands a signed statement of which object holds what a key names; the bytes are
in the artifact store, which hashes them again. Whoever may write to the home but has no key can damage what is kept:
then it is made again. What a draft made is signed as a draft's, and no step of a run reads it.
"""

import json
from dataclasses import dataclass
from typing import Literal

from quant_assets.artifacts.attestation import Materialisation, attest, attested
from quant_assets.artifacts.bundle.signing import signing_key, trusted_keys
from quant_assets.common.errors import ArtifactError, ConfigurationError, StorageError, StoreError
from quant_assets.common.files import Location, make_folder, read_whole, write_whole
from quant_assets.common.hashing import bytes_digest, canonical_json
from quant_assets.common.home import Home
from quant_assets.common.logging import get_logger

_log = get_logger(__name__)


@dataclass(frozen=True)
class KeptFits:
    """The fits of one home, as `quant_assets.models.kept_fits.FitStore`.

    Parameters
    ----------
    home : Home
    kind : {"step", "draft"}
        Who makes them, and whose are believed.
    run_id : str
        Of whoever keeps something now.
    """

    home: Home
    kind: Literal["step", "draft"]
    run_id: str

    def find(self, key: str) -> bytes | None:
        """What was kept under a key; None where there is nothing, or nothing that is believed.

        Raises
        ------
        StorageError
            When the store does not answer.
        """
        data = read_whole(self._path(key))
        if data is None:
            return None
        try:
            made = attested(self._name(), json.loads(data), trusted_keys(self.home.local))
            if (made.asset, made.fingerprint) == (self._name(), key):
                return self.home.store.get(made.sha256)
            reason = f"a statement about {made.fingerprint[:12]} of {made.asset}"
        except StorageError:
            raise
        except (ArtifactError, ConfigurationError, StoreError, ValueError) as error:
            reason = str(error)
        _log.warning("a kept fit is not believed: fitting again", key=key, reason=reason)
        return None

    def keep(self, key: str, data: bytes) -> None:
        """Keep what was made under its key; not at all, and said aloud, where there is no key to sign with."""
        sha256 = bytes_digest(data)
        made = Materialisation(
            asset=self._name(),
            version=sha256,
            sha256=sha256,
            media_type="bytes",
            code_version="",
            fingerprint=key,
            inputs={},
            run_id=self.run_id,
        )
        try:
            envelope = attest(made, signing_key(self.home.local))
        except ConfigurationError as error:
            _log.warning("not signed, so it is not kept", key=key, reason=str(error))
            return
        self.home.store.put(data)
        path = self._path(key)
        make_folder(path.parent)
        write_whole(path, canonical_json(envelope))

    def _name(self) -> str:
        # No asset has such a name: a statement about a fit is none about an asset.
        return f"fits:{self.kind}"

    def _path(self, key: str) -> Location:
        return self.home.path / "fits" / self.kind / key[:2] / f"{key}.json"
