"""The champion: the one model version that serves, the moves of its alias, and its bundle, verified before use.

The ledger is written before the alias moves. A process that dies between the two leaves a ledger entry ahead
of the registry; whoever comes next completes the move. The other order would leave a champion in charge with
no record of why.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quant_assets.artifacts.bundle.bundle import Bundle, verify_bundle
from quant_assets.artifacts.bundle.signing import TrustedKeys
from quant_assets.common.errors import ConfigurationError, RegistryError
from quant_assets.common.hashing import bytes_digest
from quant_assets.ledgers.promotions import LedgerEntry
from quant_assets.registry.connection import connect, reported

if TYPE_CHECKING:
    from mlflow import MlflowClient

# ---------------------------------------------------------------------------------- the pointer and its moves


CHAMPION = "champion"
PREVIOUS = "previous_champion"
SUBJECT_TAG = "quant.subject"
LEDGER_TAG = "quant.ledger_entry"


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
    models = client.search_registered_models(f"name = '{strategy}'", max_results=1)
    number = models[0].aliases.get(alias) if models else None
    if number is None:
        return None
    return read_version(client, strategy, str(number))


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


def reigns(entries: Sequence[LedgerEntry]) -> tuple[LedgerEntry, ...]:
    """The line of champions according to the ledger, the present one last.

    A promotion adds one, a roll-back removes one, so that two roll-backs go back two champions.
    """
    line: list[LedgerEntry] = []
    for entry in entries:
        if entry.action == "promoted":
            line.append(entry)
        elif entry.action == "rolled_back":
            line.pop()
    return tuple(line)


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
    client: "MlflowClient", strategy: str, entries: Sequence[LedgerEntry]
) -> ChampionPointer | None:
    """Bring the registry to where the ledger says it is, completing a move that a crash cut short.

    Only a registry that stands exactly where the last entry found it is moved. Any other difference is a
    contradiction (an alias moved by hand, a database that was lost or restored) and is reported, not mended.
    """
    moves = [entry for entry in entries if entry.action != "refused"]
    actual = read_pointer(client, strategy)
    if not moves:
        if actual is not None:
            raise contradiction(
                f"champion of {strategy}",
                "no champion: the ledger has none",
                f"version {actual.model_version}",
            )
        return None
    last, line = moves[-1], reigns(moves)
    if (actual.model_version if actual else None) not in (last.model_version, last.replaces):
        raise contradiction(
            f"champion of {strategy}",
            f"version {last.model_version}, or {last.replaces} where entry {last.index} was cut short",
            f"version {actual.model_version if actual else None}",
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


def promoted_bundle(tracking_uri: str, strategy: str) -> FoundBundle | None:
    """The champion's bundle as the model registry holds it, not verified; None when there is no champion."""
    found = champion_files(tracking_uri, strategy)
    if found is None:
        return None
    pointer, archive, signature = found
    source = {
        "found in": "the model registry",
        "registry version": pointer.model_version,
        "mlflow run": pointer.mlflow_run_id,
        "promoted by": pointer.tags.get("quant.promoted_by", "-"),
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
