"""Promotion: a guarded, replayable transaction from evidence to the champion alias.

Nothing is taken on trust. The reports must be about this subject, judged under the limits now in force, and
open every required gate; the version in the registry must carry this subject; and the champion must still be
the one that the caller compared with.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Literal

from quant_assets.common.errors import GateClosedError, RegistryError
from quant_assets.common.hashing import json_digest
from quant_assets.common.logging import get_logger
from quant_assets.gates.admission import closed_reasons, foreign_limits
from quant_assets.gates.gate import gate_names
from quant_assets.gates.limits import other_limits
from quant_assets.gates.verdicts import GateReport
from quant_assets.ledgers.promotions import NO_BASIS, LedgerEntry, PromotionLedger
from quant_assets.registry.champion import (
    PREVIOUS,
    ChampionPointer,
    apply_ledger,
    contradiction,
    read_pointer,
    read_version,
    set_tags,
)
from quant_assets.registry.connection import connect, reported
from quant_assets.registry.standing import LedgerKeys, reigns, signer, standing
from quant_assets.reports.holdout import HoldoutLook

if TYPE_CHECKING:
    from mlflow import MlflowClient


# -------------------------------------------------------------------------------------------- reasons against


def promotion_reasons(
    subject: str,
    reports: Sequence[GateReport],
    limits_in_force: Mapping[str, Mapping[str, Any]],
    required_gates: Sequence[str] | None = None,
) -> tuple[str, ...]:
    """Every reason against promoting a subject on these reports; empty when there is none.

    Parameters
    ----------
    limits_in_force : mapping of kind to limits
        The limits of today's configuration. A report judged under others proves nothing about these.
    """
    reasons = []
    for kind, limits in limits_in_force.items():
        of_kind = [report for report in reports if report.kind == kind]
        if len(of_kind) != 1:
            reasons.append(f"{kind} report: {len(of_kind)} given where one is expected")
        for report in of_kind:
            reasons += foreign_limits(report)
            if report.subject != subject:
                reasons.append(f"{kind} report: judged another model version ({report.subject[:12]})")
            changed = other_limits(report.limits, limits)
            if changed:
                reasons.append(
                    f"{kind} report: judged under other limits than those in force ({'; '.join(changed)})"
                )
    strangers = sorted({report.kind for report in reports} - set(limits_in_force))
    if strangers:
        reasons.append(f"reports of {strangers}: no limits in force are known for them")
    verdicts = [verdict for report in reports for verdict in report.verdicts]
    return (*reasons, *closed_reasons(subject, verdicts, required_gates))


# -------------------------------------------------------------------------------------------- the transaction


# MLflow refuses longer tag values; the ledger has every reason in full.
_TAG_CHARACTERS = 4000
LOOK = "holdout"  # under which the basis of an entry says which sessions were looked at

_log = get_logger(__name__)


@dataclass(frozen=True)
class PromotionDecision:
    """What became of a promotion or a roll-back.

    Attributes
    ----------
    decision : {"promoted", "already champion", "rolled back"}
    strategy, subject, model_version : str
        The champion now.
    previous_subject : str or None
        The champion before; equal to ``subject`` when nothing moved.
    ledger_entry : int
        Index of the entry that put it in charge.
    """

    decision: Literal["promoted", "already champion", "rolled back"]
    strategy: str
    subject: str
    model_version: str
    previous_subject: str | None
    ledger_entry: int


def promote(
    tracking_uri: str,
    *,
    strategy: str,
    subject: str,
    reports: Sequence[GateReport],
    limits_in_force: Mapping[str, Mapping[str, Any]],
    bundle_sha256: str,
    signing_key: str | None,
    model_version: str,
    expected_champion: str | None,
    ledger: PromotionLedger,
    keys: LedgerKeys,
    actor: str,
    run_id: str,
    now: datetime,
    required_gates: Sequence[str] | None = None,
    further_reasons: Sequence[str] = (),
    basis: Mapping[str, Any] = NO_BASIS,
) -> PromotionDecision:
    """Make a candidate the champion of its strategy, or record why not.

    Parameters
    ----------
    subject : str
        Data version of the candidate.
    bundle_sha256 : str
        Digest of the signed bundle that would be served.
    signing_key : str or None
        Fingerprint of the trusted key that signed it, as its verification gave it. None, for a bundle whose
        signature was not verified or does not hold, closes the gate.
    model_version : str
        The candidate's version in the model registry.
    expected_champion : str or None
        Subject of the champion that the caller believes to be in charge (compare-and-set).
    keys : LedgerKeys
        The key that signs the ledger entry, and those whose entries are believed.
    further_reasons : sequence of str
        Reasons against it that the caller found where this function cannot look (asset checks that did not
        pass on the newest version, trials that were not counted). Any one closes the gate.
    basis : mapping, optional
        What else was decided by, as plain JSON data: it stands in the entry beside the limits in force.

    Returns
    -------
    PromotionDecision
        Repeating a promotion is a no-op with the decision "already champion". The same candidate in another
        bundle, or signed with another key, is entered again; so is one whose entry no trusted key has signed.

    Raises
    ------
    GateClosedError
        With every reason, after the refusal is in the ledger and on the model version.
    RegistryError
        When the champion is not the expected one, or registry, ledger and lineage contradict each other.
    LedgerError
        When the ledger was altered: nobody is promoted on a broken record.

    Notes
    -----
    The order is ledger, previous alias, tags, champion alias. Whatever of it is missing after a crash is
    completed by the next call for this strategy. The tag ``quant.gate`` of a version is its latest judgement;
    a champion that is judged again and refused stays champion until it is replaced or rolled back.
    """
    required = gate_names() if required_gates is None else required_gates
    client = connect(tracking_uri)
    served = {"bundle": bundle_sha256} | ({"signing_key": signing_key} if signing_key else {})
    evidence = {report.kind: json_digest(report.to_json()) for report in reports} | served
    unsigned = () if signing_key else ("bundle: no signature by a trusted key was verified",)
    with ledger.locked(), reported(tracking_uri, f"promoting {strategy}"):
        champion = apply_ledger(client, strategy, ledger, keys.trusted)
        _require_subject(client, strategy, model_version, subject)
        reasons = (
            *promotion_reasons(subject, reports, limits_in_force, required),
            *unsigned,
            *further_reasons,
        )
        stamp: dict[str, Any] = {
            "actor": actor,
            "run_id": run_id,
            "at": now,
            "evidence": evidence,
            "basis": {**basis, "limits": limits_in_force},
            "seal": keys.seal,
        }
        if reasons:
            ledger.append(
                "refused",
                strategy=strategy,
                subject=subject,
                model_version=model_version,
                reasons=reasons,
                **stamp,
            )
            text = "; ".join(reasons)[:_TAG_CHARACTERS]
            set_tags(client, strategy, model_version, {"quant.gate": "refused", "quant.gate_reasons": text})
            _log.warning("promotion refused", strategy=strategy, subject=subject, reasons=reasons)
            raise _refusal(strategy, subject, reasons)
        if champion is not None and champion.subject == subject:
            entered = reigns(ledger.entries(strategy))[-1]
            if served.items() <= entered.evidence.items() and _believed(ledger, strategy, keys):
                return _decision("already champion", champion, subject, entered.index)
        _compare(strategy, champion, expected_champion)
        entry = ledger.append(
            "promoted",
            strategy=strategy,
            subject=subject,
            model_version=model_version,
            reasons=(f"all of {len(required)} required gates are open",),
            replaces=champion.model_version if champion else None,
            **stamp,
        )
        moved = apply_ledger(client, strategy, ledger, keys.trusted)
    return _decision("promoted", moved, champion.subject if champion else None, entry.index)


def rollback(
    tracking_uri: str,
    *,
    strategy: str,
    expected_champion: str,
    reason: str,
    ledger: PromotionLedger,
    keys: LedgerKeys,
    actor: str,
    run_id: str,
    now: datetime,
) -> PromotionDecision:
    """Put the previous champion back in charge.

    It was admitted when it was promoted, so no gate is asked again. ``expected_champion`` is the subject to
    be removed: repeating a roll-back that happened already is refused, not done twice.

    Raises
    ------
    RegistryError
        When another champion is in charge, there is none before it, or no trusted key has signed its promotion.
    """
    client = connect(tracking_uri)
    with ledger.locked(), reported(tracking_uri, f"rolling {strategy} back"):
        champion = apply_ledger(client, strategy, ledger, keys.trusted)
        _compare(strategy, champion, expected_champion)
        line = reigns(ledger.entries(strategy))
        if champion is None or len(line) < 2:
            raise RegistryError(
                f"roll-back of {strategy}",
                expected="a champion before the present one",
                found=f"{len(line)} in the ledger",
                action="promote another candidate, or stop serving the strategy",
            )
        target = line[-2]
        signer(ledger, target, keys.trusted)  # a roll-back vouches for what it brings back
        # The version is read first: a roll-back to a deleted version must fail before it is written down.
        _require_subject(client, strategy, target.model_version, target.subject)
        entry = ledger.append(
            "rolled_back",
            strategy=strategy,
            subject=target.subject,
            model_version=target.model_version,
            reasons=(reason,),
            evidence=target.evidence,
            basis=target.basis,
            actor=actor,
            at=now,
            run_id=run_id,
            replaces=champion.model_version,
            seal=keys.seal,
        )
        moved = apply_ledger(client, strategy, ledger, keys.trusted)
    _log.warning("champion rolled back", strategy=strategy, subject=target.subject, reason=reason)
    return _decision("rolled back", moved, champion.subject, entry.index)


def enter_look(
    ledger: PromotionLedger,
    keys: LedgerKeys,
    *,
    strategy: str,
    subject: str,
    look: HoldoutLook,
    evidence: Mapping[str, str],
    settings: Mapping[str, str],
    actor: str,
    run_id: str,
    now: datetime,
) -> tuple[LedgerEntry, tuple[HoldoutLook, ...]]:
    """Write down that the holdout of the model in charge is looked at, before it is; and every look before.

    Parameters
    ----------
    evidence : mapping of str to str
        SHA-256 of the returns that are shown: other ones are another look.
    settings : mapping of str to str
        Digests of the settings in force, by part, as the basis of a promotion has them.

    Raises
    ------
    GateClosedError
        When the model is not in charge by a signed entry, or was promoted under other settings (costs, portfolio): a
        holdout is spent on nothing else.
    RegistryError
        When the last move of the strategy is not signed by a trusted key.
    """
    with ledger.locked():
        found = standing(ledger, strategy, keys.trusted)
        if found is None or found.entry.subject != subject:
            raise GateClosedError(
                f"holdout of {strategy}",
                expected=f"candidate {subject[:12]} in charge: the holdout is opened once the decision is made",
                found=f"{found.entry.subject[:12]} in charge" if found else "nobody was ever promoted",
                action="let promotion decide first; what was refused is never shown on the holdout",
            )
        decided = found.entry.basis.get("digests", {})
        other = [part for part, digest in settings.items() if decided.get(part) != digest]
        if other:
            raise GateClosedError(
                f"holdout of {strategy}",
                expected=f"the settings that ledger entry {found.entry.index} was decided under",
                found=f"others: {', '.join(other)}",
                action="put them back, or run the strategy again and let promotion decide under these",
            )
        entry = ledger.append(
            "shown",
            strategy=strategy,
            subject=subject,
            model_version=found.entry.model_version,
            reasons=(f"performance from {look.first} to {look.last}",),
            evidence=evidence,
            basis={LOOK: {**asdict(look), "first": str(look.first), "last": str(look.last)}},
            actor=actor,
            at=now,
            run_id=run_id,
            seal=keys.seal,
        )
        return entry, tuple(
            look_of(e) for e in ledger.entries() if e.action == "shown" and e.index < entry.index
        )


def look_of(entry: LedgerEntry) -> HoldoutLook:
    """The look that an entry records."""
    told = entry.basis[LOOK]
    days = {name: date.fromisoformat(told[name]) for name in ("first", "last")}
    return HoldoutLook(**{**told, **days})


def realign(
    tracking_uri: str, *, strategy: str, ledger: PromotionLedger, keys: LedgerKeys
) -> ChampionPointer | None:
    """Set the aliases to what the ledger says, whoever moved them: for a person who knows why they differ.

    Raises
    ------
    RegistryError
        When the ledger's last move is not signed by a trusted key, or the registry does not have its version.
    """
    client = connect(tracking_uri)
    with ledger.locked(), reported(tracking_uri, f"setting the aliases of {strategy}"):
        pointer = apply_ledger(client, strategy, ledger, keys.trusted, realign=True)
    _log.warning(
        "aliases set to the ledger", strategy=strategy, version=pointer.model_version if pointer else None
    )
    return pointer


def previous_champion(tracking_uri: str, strategy: str) -> ChampionPointer | None:
    """The champion that a roll-back would restore."""
    client = connect(tracking_uri)
    with reported(tracking_uri, f"reading the previous champion of {strategy}"):
        return read_pointer(client, strategy, PREVIOUS)


def recorded_version(tracking_uri: str, strategy: str, model_version: str) -> ChampionPointer:
    """One version of a strategy's model, by its number.

    Raises
    ------
    RegistryError
        When the server is unreachable or does not have it.
    """
    client = connect(tracking_uri)
    with reported(tracking_uri, f"reading version {model_version} of {strategy}"):
        return read_version(client, strategy, model_version)


def _believed(ledger: PromotionLedger, strategy: str, keys: LedgerKeys) -> bool:
    """Whether the last move of a strategy is signed by a trusted key."""
    last = next(e for e in reversed(ledger.entries(strategy)) if e.moves)
    try:
        signer(ledger, last, keys.trusted)
    except RegistryError:
        return False
    return True


def _require_subject(client: "MlflowClient", strategy: str, model_version: str, subject: str) -> None:
    registered = read_version(client, strategy, model_version)
    if registered.subject != subject:
        raise contradiction(
            f"version {model_version} of model {strategy}", f"subject {subject}", registered.subject
        )


def _compare(strategy: str, champion: ChampionPointer | None, expected: str | None) -> None:
    actual = champion.subject if champion else None
    if actual != expected:
        raise RegistryError(
            f"champion of {strategy}",
            expected=f"{expected} (the one this decision was compared with)",
            found=f"{actual}",
            action="materialise promotion again: another run moved the champion in between",
        )


def _refusal(strategy: str, subject: str, reasons: Sequence[str]) -> GateClosedError:
    return GateClosedError(
        f"candidate {subject[:12]} of {strategy}",
        expected="one report of each kind under the limits in force, and every required gate open",
        found="; ".join(reasons),
        action="read the tear sheet, change the strategy (not the limits), and materialise it again",
        reasons=reasons,
    )


def _decision(
    decision: Literal["promoted", "already champion", "rolled back"],
    pointer: ChampionPointer | None,
    previous: str | None,
    entry: int,
) -> PromotionDecision:
    if pointer is None:
        raise contradiction("champion alias", "the version that was just set", "no alias")
    return PromotionDecision(
        decision, pointer.strategy, pointer.subject, pointer.model_version, previous, entry
    )
