"""The bundle: everything that serving needs in one archive, scanned, signed, verified before use."""

from typing import TYPE_CHECKING

from quant_assets.common.lazy import lazy_exports

if TYPE_CHECKING:
    from quant_assets.artifacts.bundle.archive import environment_sbom, unpack
    from quant_assets.artifacts.bundle.bundle import (
        Bundle,
        Step,
        build_bundle,
        examine_bundle,
        inspect_bundle,
        verify_bundle,
    )
    from quant_assets.artifacts.bundle.signing import (
        TrustedKeys,
        read_public_key,
        sign_bundle,
        signing_key,
        trusted_keys,
    )
else:
    __getattr__, __dir__ = lazy_exports(__name__)

__all__ = [
    "Bundle",
    "Step",
    "TrustedKeys",
    "build_bundle",
    "environment_sbom",
    "examine_bundle",
    "inspect_bundle",
    "read_public_key",
    "sign_bundle",
    "signing_key",
    "trusted_keys",
    "unpack",
    "verify_bundle",
]
