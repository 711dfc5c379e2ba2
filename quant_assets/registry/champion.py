"""The champion: the one model version that serves, the moves of its alias, and its bundle, verified before use.

The ledger is written before the alias moves. A process that dies between the two leaves a ledger entry ahead
of the registry; whoever comes next completes the move. The other order would leave a champion in charge with
no record of why.

The alias is a cache. What is loaded is the version that the ledger has in charge (`quant_assets.registry.standing`),
held against the digest in the ledger's signed entry; an alias that points elsewhere is reported and not followed.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quant_assets.artifacts.bundle.bundle import Bundle, verify_bundle
from quant_assets.artifacts.bundle.signing import TrustedKeys
from quant_assets.common.errors import ConfigurationError, LedgerError, QuantAssetsError, RegistryError
from quant_assets.common.hashing import bytes_digest, json_digest
from quant_assets.common.home import Home
from quant_assets.common.logging import get_logger
from quant_assets.ledgers.promotions import LedgerEntry, PromotionLedger
from quant_assets.registry.connection import connect, reported
from quant_assets.registry.standing import Standing, ledger_keys, reigns, signer, standing

if TYPE_CHECKING:
    from mlflow import MlflowClient

# ---------------------------------------------------------------------------------- the pointer and its moves


CHAMPION = "champion"
PREVIOUS = "previous_champion"
SUBJECT_TAG = "quant.subject"
LEDGER_TAG = "quant.ledger_entry"

_log = get_logger(__name__)


@dataclass(frozen=True)
class ChampionPointer:
    """Where the champion alias of a strategy points: registry version, data version of the model, its files."""

    strategy: str
    model_version: str
    subject: str
    source: str
    mlflow_run_id: str
    bundle_sha256: str | None
    tags: Mapping[str, str]


@dataclass(frozen=True)
class FoundBundle:
    """An archive and its signature, not verified.

    Attributes
    ----------
    label : str
        As people call it: ``edge@champion``, or the path of a file.
    archive : bytes
    signature : bytes or None
    source : mapping of str to str
        Where it came from, for people.
    pointer : ChampionPointer or None
        What the registry says about it, for a champion.
    """

    label: str
    archive: bytes
    signature: bytes | None
    source: dict[str, str] = field(default_factory=dict)
    pointer: ChampionPointer | None = None


def contradiction(what: str, expected: str, found: str) -> RegistryError:
    """The registry says something else than the lineage or the ledger."""
    return RegistryError(
        what,
        expected=expected,
        found=found,
        action="find out who moved the alias or which database was restored; then set the registry back to what "
        "the ledger says",
    )


def read_pointer(client: "MlflowClient", strategy: str, alias: str = CHAMPION) -> ChampionPointer | None:
    """The version under an alias; None when the model or the alias does not exist."""
    number = alias_of(client, strategy, alias)
    return None if number is None else read_version(client, strategy, number)


def alias_of(client: "MlflowClient", strategy: str, alias: str = CHAMPION) -> str | None:
    """The number of the version under an alias."""
    models = client.search_registered_models(f"name = '{strategy}'", max_results=1)
    number = models[0].aliases.get(alias) if models else None
    return None if number is None else str(number)


def read_version(client: "MlflowClient", strategy: str, model_version: str) -> ChampionPointer:
    """One version of a strategy's model."""
    version = client.get_model_version(strategy, model_version)
    tags = dict(version.tags)
    if SUBJECT_TAG not in tags:
        raise contradiction(
            f"version {model_version} of model {strategy}",
            f"a tag {SUBJECT_TAG}",
            f"tags {sorted(tags)} (not made by training_record)",
        )
    return ChampionPointer(
        strategy=strategy,
        model_version=str(version.version),
        subject=tags[SUBJECT_TAG],
        source=str(version.source),
        mlflow_run_id=str(version.run_id),
        bundle_sha256=tags.get("quant.bundle_sha256"),
        tags=tags,
    )


def current_champion(tracking_uri: str, strategy: str) -> ChampionPointer | None:
    """The champion of a strategy, or None when it has never had one.

    Raises
    ------
    RegistryError
        When the server is unreachable or its database is missing: unknown is not the same as none.
    """
    client = connect(tracking_uri)
    with reported(tracking_uri, f"reading the champion of {strategy}"):
        return read_pointer(client, strategy)


def _set_alias(client: "MlflowClient", strategy: str, alias: str, version: str | None) -> None:
    current = client.get_registered_model(strategy).aliases.get(alias)
    if version is None and current is not None:
        client.delete_registered_model_alias(strategy, alias)
    elif version is not None and str(current) != version:
        client.set_registered_model_alias(strategy, alias, version)


def set_tags(client: "MlflowClient", strategy: str, version: str, tags: Mapping[str, str]) -> None:
    """Write those tags of a model version that differ."""
    present: dict[str, Any] = dict(client.get_model_version(strategy, version).tags)
    for key, value in tags.items():
        if present.get(key) != value:
            client.set_model_version_tag(strategy, version, key, value)


def apply_ledger(
    client: "MlflowClient",
    strategy: str,
    ledger: PromotionLedger,
    trusted: TrustedKeys,
    *,
    realign: bool = False,
) -> ChampionPointer | None:
    """Bring the registry to where the ledger says it is, completing a move that a crash cut short.

    Only a registry that stands exactly where the last entry found it is moved, and only by an entry that a trusted
    key signed. Any other difference is a contradiction (an alias moved by hand, a database that was lost or restored)
    and is reported, not mended, unless a person asked to ``realign`` it.
    """
    entries = ledger.entries(strategy)
    moves = [entry for entry in entries if entry.moves]
    actual = read_pointer(client, strategy)
    if not moves:
        if actual is not None and realign:
            _set_alias(client, strategy, CHAMPION, None)
        elif actual is not None:
            raise contradiction(
                f"champion of {strategy}",
                "no champion: the ledger has none",
                f"version {actual.model_version}",
            )
        return None
    last, line = moves[-1], reigns(moves)
    at = actual.model_version if actual else None
    if at != last.model_version or realign:
        signer(ledger, last, trusted)
    if at not in (last.model_version, last.replaces) and not realign:
        raise contradiction(
            f"champion of {strategy}",
            f"version {last.model_version}, or {last.replaces} where entry {last.index} was cut short",
            f"version {at}",
        )
    known = client.search_model_versions(f"name = '{strategy}'")
    if last.model_version not in {str(version.version) for version in known}:
        raise contradiction(
            f"champion of {strategy}",
            f"version {last.model_version} of ledger entry {last.index}",
            "no such one",
        )
    target = read_version(client, strategy, last.model_version)
    if target.subject != last.subject:
        raise contradiction(
            f"version {last.model_version} of model {strategy}", f"subject {last.subject}", target.subject
        )
    _refuse_rewritten_ledger(target, line[-1], entries)
    _set_alias(client, strategy, PREVIOUS, line[-2].model_version if len(line) > 1 else None)
    if target.tags.get(LEDGER_TAG) != last.hash:
        set_tags(client, strategy, last.model_version, _champion_tags(last, line[-1]))
    _set_alias(client, strategy, CHAMPION, last.model_version)
    return read_pointer(client, strategy)


def _champion_tags(last: LedgerEntry, promotion: LedgerEntry) -> dict[str, str]:
    # The ledger's hash comes last: where it stands, the other tags stand too.
    return {
        "quant.gate": "passed",
        "quant.gate_reasons": "",
        "quant.bundle_sha256": promotion.evidence.get("bundle", ""),
        "quant.promoted_by": last.actor,
        "quant.promotion_run": last.run_id,
        LEDGER_TAG: last.hash,
    }


def _refuse_rewritten_ledger(
    target: ChampionPointer, promotion: LedgerEntry, entries: Sequence[LedgerEntry]
) -> None:
    """The registry remembers the hash of the entry that moved it: a rewritten ledger no longer has it."""
    remembered = target.tags.get(LEDGER_TAG)
    if remembered and remembered not in {entry.hash for entry in entries}:
        raise contradiction(
            f"ledger of {target.strategy}",
            f"the entry {remembered[:12]} that the registry remembers for version {target.model_version}",
            f"{len(entries)} entries without it (present champion entered at {promotion.index})",
        )


# ------------------------------------------------------------------------------------------------- the bundle


BUNDLE_FILE, SIGNATURE_FILE = "bundle.zip", "bundle.sig"


def champion_files(tracking_uri: str, champion: Standing) -> tuple[ChampionPointer, bytes, bytes | None]:
    """The version in charge as the registry holds it, its archive and its signature: nothing is verified.

    Returns
    -------
    tuple
        The pointer names the bundle that the ledger admitted, whatever the registry says about it. The signature is
        None where none was recorded.

    Raises
    ------
    RegistryError
        When the registry is unreachable, does not have the version or an archive for it, or remembers entries that
        this ledger does not have.
    """
    entry = champion.entry
    client = connect(tracking_uri)
    with (
        reported(tracking_uri, f"reading the bundle of {entry.strategy}"),
        tempfile.TemporaryDirectory() as folder,
    ):
        for reason in _differences(client, champion):
            _log.warning("the registry contradicts the promotion ledger", reason=reason)
        _refuse_shorter_ledger(client, champion)
        pointer = read_version(client, entry.strategy, entry.model_version)
        present = {file.path for file in client.list_artifacts(pointer.mlflow_run_id)}
        if BUNDLE_FILE not in present:
            raise RegistryError(
                f"champion of {entry.strategy}, version {pointer.model_version}",
                expected=f"a file {BUNDLE_FILE} in its run",
                found=", ".join(sorted(present)) or "no files",
                action="materialise training_record and promotion again",
            )

        def read(name: str) -> bytes:
            return Path(client.download_artifacts(pointer.mlflow_run_id, name, folder)).read_bytes()

        admitted = replace(pointer, subject=entry.subject, bundle_sha256=champion.bundle_sha256)
        return admitted, read(BUNDLE_FILE), read(SIGNATURE_FILE) if SIGNATURE_FILE in present else None


def _refuse_shorter_ledger(client: "MlflowClient", champion: Standing) -> None:
    """A ledger whose end was cut off has a good signature too: the versions remember what moved them."""
    for version, tags in _tags_of_versions(client, champion.entry.strategy).items():
        remembered = tags.get(LEDGER_TAG)
        if remembered and remembered not in champion.known:
            raise contradiction(
                f"ledger of {champion.entry.strategy}",
                f"the entry {remembered[:12]} that the registry remembers for version {version}",
                f"{len(champion.known)} entries without it",
            )


def _tags_of_versions(client: "MlflowClient", strategy: str) -> dict[str, dict[str, str]]:
    found = client.search_model_versions(f"name = '{strategy}'")
    return {str(version.version): dict(version.tags) for version in found}


def _differences(client: "MlflowClient", champion: Standing) -> list[str]:
    """Where the registry says something else than the ledger's last move."""
    entry = champion.entry
    at = alias_of(client, entry.strategy)
    found = []
    if at != entry.model_version:
        found.append(f"alias {CHAMPION}: at version {at}, the ledger has version {entry.model_version}")
    tags = _tags_of_versions(client, entry.strategy).get(entry.model_version)
    if tags is None:
        return [*found, f"version {entry.model_version}: not in the registry"]
    said = {"subject": tags.get(SUBJECT_TAG), "bundle": tags.get("quant.bundle_sha256")}
    for name, wanted in (("subject", entry.subject), ("bundle", champion.bundle_sha256)):
        if said[name] != wanted:
            has, should = str(said[name])[:12], str(wanted)[:12]
            found.append(f"version {entry.model_version}: {name} {has}, the ledger has {should}")
    return found


def contradictions(home: Home, strategy: str) -> tuple[str, ...]:
    """Where registry and promotion ledger differ about who is in charge; empty when they agree.

    A ledger or a registry that cannot be read is one of them: unknown is not the same as agreed.
    """
    ledger = PromotionLedger(home.promotion_ledger)
    try:
        champion = standing(ledger, strategy, ledger_keys(home).trusted)
        if champion is None:
            if not (home.tracking_uri or (home.local / "mlflow.db").exists()):
                return ()
            alias = current_champion(home.mlflow_uri, strategy)
            at = alias.model_version if alias else None
            return (f"alias {CHAMPION}: at version {at}, the ledger has no champion",) if alias else ()
        client = connect(home.mlflow_uri)
        with reported(home.mlflow_uri, f"comparing {strategy} with its ledger"):
            _refuse_shorter_ledger(client, champion)
            return tuple(_differences(client, champion))
    except QuantAssetsError as error:
        return (f"{error.what}: expected {error.expected}; found {error.found}",)


def ledger_state(home: Home, strategy: str) -> tuple[str, tuple[str, ...]]:
    """What to look at again once it changes: the ledger's last move with what contradicts it; and the latter.

    The state is empty for a strategy that has neither.
    """
    reasons = contradictions(home, strategy)
    try:
        moves = [e.hash for e in PromotionLedger(home.promotion_ledger).entries(strategy) if e.moves]
    except LedgerError:  # it is among the reasons
        moves = []
    return json_digest([moves[-1:], reasons]) if moves or reasons else "", reasons


def in_charge(
    tracking_uri: str, strategy: str, trusted_keys: TrustedKeys, ledger: PromotionLedger | None = None
) -> Standing | None:
    """Who is in charge, from the ledger; None when nobody ever was and the registry says so too.

    Parameters
    ----------
    ledger : PromotionLedger, optional
        That of ``$QUANT_ASSETS_HOME`` when not given.

    Raises
    ------
    LedgerError, RegistryError
        As `quant_assets.registry.standing.standing`; also when the registry has a champion and the ledger has none,
        or the champion was promoted by limits that are not among the approved ones.
    """
    book = PromotionLedger(Home().promotion_ledger) if ledger is None else ledger
    champion = standing(book, strategy, trusted_keys)
    if champion is None and (alias := current_champion(tracking_uri, strategy)) is not None:
        raise contradiction(
            f"champion of {strategy}",
            "no champion: the ledger has none",
            f"version {alias.model_version}",
        )
    if champion is not None:
        _require_approved(champion)
    return champion


def _require_approved(champion: Standing) -> None:
    """A champion of limits that nobody approved is not served; one of loose limits is spoken of."""
    from quant_assets.gates.limits import looser_limits, unapproved

    basis, name = champion.entry.basis, champion.entry.strategy
    for reason in unapproved(basis.get("gates"), to_promote=False):
        raise RegistryError(
            f"champion of {name}, ledger entry {champion.entry.index}",
            expected="a promotion by approved limits",
            found=reason,
            action="do not serve it; materialise promotion under the approved limits, or roll back",
        )
    if looser := looser_limits(basis.get("limits", {})):
        _log.warning(
            "the champion was promoted by looser limits than the shipped ones", strategy=name, limits=looser
        )


def promoted_bundle(
    tracking_uri: str, strategy: str, trusted_keys: TrustedKeys, ledger: PromotionLedger | None = None
) -> FoundBundle | None:
    """The champion's bundle as the model registry holds it, not verified; None when there is no champion."""
    champion = in_charge(tracking_uri, strategy, trusted_keys, ledger)
    if champion is None:
        return None
    pointer, archive, signature = champion_files(tracking_uri, champion)
    source = {
        "found in": "the model registry",
        "registry version": pointer.model_version,
        "mlflow run": pointer.mlflow_run_id,
        "promoted by": champion.entry.actor,
        "ledger entry": f"{champion.entry.index}, {champion.entry.action}, signed by key {champion.signed_by[:12]}",
    }
    return FoundBundle(f"{strategy}@champion", archive, signature, source, pointer)


def find_file(file: Path, signature: Path | None) -> FoundBundle:
    """The bundle in a file, with the signature beside it (``bundle.zip``, ``bundle.sig``) unless one is named.

    Raises
    ------
    ConfigurationError
        When the file, or the signature that was named, is not there.
    """
    beside = signature or file.with_suffix(".sig")
    for path, wanted in ((file, True), (beside, signature is not None)):
        if wanted and not path.is_file():
            raise ConfigurationError(
                str(path),
                expected="a file",
                found="no such file",
                action="correct the path, or write one with quant-assets model export",
            )
    return FoundBundle(
        str(file),
        file.read_bytes(),
        beside.read_bytes() if beside.is_file() else None,
        {"found in": "a file", "signature": str(beside) if beside.is_file() else "none"},
    )


def load_champion(
    tracking_uri: str, strategy: str, trusted_keys: TrustedKeys, ledger: PromotionLedger | None = None
) -> Bundle | None:
    """The bundle of the champion, verified: the one that the ledger admitted, signed by a trusted key.

    Parameters
    ----------
    trusted_keys : TrustedKeys
        Who may sign bundles, and entries of the ledger.
    ledger : PromotionLedger, optional
        That of ``$QUANT_ASSETS_HOME`` when not given.

    Returns
    -------
    Bundle or None
        None when the strategy has never had a champion. Where the alias points elsewhere, what the ledger has.

    Raises
    ------
    ArtifactError
        When the archive or its signature is refused, with the reason.
    LedgerError
        When the ledger was altered.
    RegistryError
        When the ledger's last move is not signed by a trusted key, the registry has a champion that the ledger does
        not know, or holds another archive than the one that was admitted.
    """
    champion = in_charge(tracking_uri, strategy, trusted_keys, ledger)
    if champion is None:
        return None
    pointer, archive, signature = champion_files(tracking_uri, champion)
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
