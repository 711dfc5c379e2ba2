"""What promotion asks of a bundle: a signature by a trusted key, and the same bundle in the registry."""

from collections.abc import Mapping

from quant_assets.common.errors import ArtifactError
from quant_assets.defs.resources import Home
from quant_assets.defs.storage import Artifact


def signed_bundle(
    bundle: Artifact, signature: Artifact, home: Home
) -> tuple[str | None, dict[str, str], tuple[str, ...]]:
    """The key that signed the bundle, whose model it holds, and why it is refused (nothing when it is not)."""
    from quant_assets.artifacts.bundle.bundle import verify_bundle
    from quant_assets.artifacts.bundle.signing import trusted_keys

    try:
        verified = verify_bundle(bundle.data(), signature.data(), trusted_keys(home.path))
    except ArtifactError as error:
        return None, {}, (f"{error.what}: expected {error.expected}; found {error.found}",)
    return verified.fingerprint, {"bundle": verified.manifest.subject}, ()


def unrecorded_bundle(bundle: Artifact, record: Mapping[str, str]) -> tuple[str, ...]:
    """Why the registry does not hold the bundle that would be served; empty when it does."""
    recorded = record.get("bundle_sha256", "none")
    if recorded == bundle.sha256:
        return ()
    return (f"training record: holds bundle {recorded[:12]}, not {bundle.sha256[:12]}",)
