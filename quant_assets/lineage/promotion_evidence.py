"""What promotion asks beside verdicts: one model version throughout, a trusted signature, every trial counted."""

from collections.abc import Mapping, Sequence
from typing import Any

from quant_assets.common.errors import ArtifactError, GateClosedError
from quant_assets.common.home import Home
from quant_assets.gates.verdicts import GateReport
from quant_assets.lineage.artifact import Artifact


def signed_bundle(
    bundle: Artifact, signature: Artifact, home: Home
) -> tuple[str | None, dict[str, str], tuple[str, ...]]:
    """The key that signed the bundle, whose model it holds, and why it is refused (nothing when it is not)."""
    from quant_assets.artifacts.bundle.bundle import verify_bundle
    from quant_assets.artifacts.bundle.signing import trusted_keys

    try:
        verified = verify_bundle(bundle.data(), signature.data(), trusted_keys(home.local))
    except ArtifactError as error:
        return None, {}, (f"{error.what}: expected {error.expected}; found {error.found}",)
    return verified.fingerprint, {"bundle": verified.manifest.subject}, ()


def unrecorded_bundle(bundle: Artifact, record: Mapping[str, str]) -> tuple[str, ...]:
    """Why the registry does not hold the bundle that would be served; empty when it does."""
    recorded = record.get("bundle_sha256", "none")
    if recorded == bundle.sha256:
        return ()
    return (f"training record: holds bundle {recorded[:12]}, not {bundle.sha256[:12]}",)


def strangers(subject: str, made_from: Mapping[str, str]) -> tuple[str, ...]:
    """Which of the artifacts were made from another version of the model; empty when none was."""
    return tuple(
        f"{artifact}: made from another model version ({version[:12]})"
        for artifact, version in made_from.items()
        if version != subject
    )


def refuse_strangers(
    subject: str,
    made_from: Mapping[str, str],
    reports: Sequence[GateReport],
    in_force: Mapping[str, Mapping[str, Any]],
) -> None:
    """Refuse a candidate for which nothing in the registry stands yet, so that there is no version to tag.

    Raises
    ------
    GateClosedError
        When an artifact was made from another version of the model, with every reason there is.
    """
    from quant_assets.registry.promotion import promotion_reasons

    foreign = strangers(subject, made_from)
    if foreign:
        reasons = (*foreign, *promotion_reasons(subject, reports, in_force))
        raise GateClosedError(
            f"candidate {subject[:12]}",
            expected="a record, a bundle and a proof about this exact version",
            found="; ".join(reasons),
            action="materialise what was made from another version again",
        )


def uncounted_trials(home: Home, strategy: str, reports: Sequence[GateReport]) -> tuple[str, ...]:
    """Why a validation report does not count every trial; empty when it does."""
    from quant_assets.ledgers.trials import TrialLedger

    now = TrialLedger(home.path).snapshot(strategy)
    return tuple(
        f"validation report: counts {report.details['trials']['n_trials']} trials, the ledger {now.n_trials}"
        for report in reports
        if report.kind == "validation" and report.details["trials"]["digest"] != now.digest
    )
