"""What there is of a strategy's models: the newest candidate of the lineage, the champion of the registry, or a file.

Everything is handed over as it is found. Verifying is the caller's first step.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import polars as pl

from quant_assets.common.errors import ConfigurationError, EvidenceError, closest
from quant_assets.common.home import Home
from quant_assets.common.store import Table
from quant_assets.defs.running import strategy_verdicts
from quant_assets.defs.storage import artifact_of, latest_event
from quant_assets.gates.baseline_comparison import CandidateSummary, judged_by
from quant_assets.gates.verdicts import GateReport
from quant_assets.lineage.artifact import Artifact
from quant_assets.lineage.graph import Lineage
from quant_assets.registry.champion import ChampionPointer

ALIASES = ("champion", "candidate")

# How far back a report or a training set of an earlier candidate is looked for.
_HISTORY = 200


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


def newest_candidate(
    instance: dg.DagsterInstance, home: Home, lineage: Lineage, strategy: str
) -> CandidateSummary | None:
    """The candidate with the verdicts about exactly it by the limits in force. None before the first candidate.

    Verdicts about an earlier candidate, or by limits that have changed since, are left out: they say nothing.
    """
    event = latest_event(instance, dg.AssetKey([strategy, "ensemble"]), None)
    if event is None:
        return None
    subject = artifact_of(event, home.store).version
    settings = lineage.settings
    limits = {
        **settings.gates.for_strategy(settings.strategies[strategy].gates).model_dump(),
        **settings.monitoring.drift.limit_values(),
    }
    verdicts = strategy_verdicts(instance, home, lineage, strategy)
    return CandidateSummary(
        strategy, subject, tuple(v for v in verdicts if v.subject == subject and judged_by(v, limits))
    )


def find_strategy(
    instance: dg.DagsterInstance, home: Home, lineage: Lineage, strategy: str, alias: str
) -> FoundBundle:
    """The bundle of a strategy's champion or newest candidate.

    Raises
    ------
    ConfigurationError
        For an unknown strategy or alias, with the closest one that exists.
    EvidenceError
        When there is no such bundle yet, with the command that makes one.
    """
    _require_one_of(
        "strategy", strategy, sorted(lineage.settings.strategies), "add its file to configs/strategies/"
    )
    _require_one_of("alias", alias, ALIASES, "name one of them")
    event = latest_event(instance, dg.AssetKey([strategy, "bundle"]), None)
    if event is None and not (home.tracking_uri or (home.local / "mlflow.db").exists()):
        raise _nothing(strategy, "nothing materialised", f"run quant-assets run --strategy {strategy} first")
    if alias == "champion":
        return _champion(home, strategy, has_candidate=event is not None)
    if event is None:
        raise _nothing(strategy, "no bundle", f"run quant-assets run --strategy {strategy} first")
    signature = latest_event(instance, dg.AssetKey([strategy, "bundle_signature"]), None)
    bundle = artifact_of(event, home.store)
    return FoundBundle(
        f"{strategy}@candidate",
        bundle.data(),
        artifact_of(signature, home.store).data() if signature else None,
        {"found in": "the newest materialisation of bundle", "object": str(home.store.path(bundle.sha256))},
    )


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


def reports_about(
    instance: dg.DagsterInstance, home: Home, lineage: Lineage, strategy: str, subject: str
) -> tuple[GateReport, ...]:
    """The newest report of each kind about one version of a model; kinds without one are left out."""
    reports = []
    if strategy not in lineage.settings.strategies:  # the bundle came from another configuration
        return ()
    for name in lineage.reports(lineage.scope(strategy)):
        for artifact in _history(instance, home, strategy, name):
            report = GateReport.from_json(artifact.json())
            if report.subject == subject:
                reports.append(report)
                break
    return tuple(reports)


def training_frame(
    instance: dg.DagsterInstance, home: Home, strategy: str, version: str
) -> pl.DataFrame | None:
    """The rows of one version of a training set; None when this home does not have it."""
    for artifact in _history(instance, home, strategy, "training_set"):
        if artifact.version == version:
            table: Table = artifact.table()
            return table.frame
    return None


def _history(instance: dg.DagsterInstance, home: Home, strategy: str, asset: str) -> Iterator[Artifact]:
    """Every object of an asset that the event log still names, newest first, each once."""
    records = instance.fetch_materializations(dg.AssetKey([strategy, asset]), limit=_HISTORY).records
    seen: set[str] = set()
    for record in records:
        if record.asset_materialization is None:
            continue
        artifact = artifact_of(record.asset_materialization, home.store)
        if artifact.sha256 not in seen:
            seen.add(artifact.sha256)
            yield artifact


def _champion(home: Home, strategy: str, *, has_candidate: bool) -> FoundBundle:
    from quant_assets.registry.champion import champion_files

    found = champion_files(home.mlflow_uri, strategy)
    if found is None:
        action = (
            f"ask for its candidate with --alias candidate or {strategy}@candidate, or promote it"
            if has_candidate
            else f"run quant-assets run --strategy {strategy} first"
        )
        raise _nothing(strategy, "no champion", action)
    pointer, archive, signature = found
    source = {
        "found in": "the model registry",
        "registry version": pointer.model_version,
        "mlflow run": pointer.mlflow_run_id,
        "promoted by": pointer.tags.get("quant.promoted_by", "-"),
    }
    return FoundBundle(f"{strategy}@champion", archive, signature, source, pointer)


def _nothing(strategy: str, found: str, action: str) -> EvidenceError:
    return EvidenceError(
        f"model of {strategy}", expected="a bundle that was materialised", found=found, action=action
    )


def _require_one_of(what: str, found: str, known: list[str] | tuple[str, ...], otherwise: str) -> None:
    if found in known:
        return
    near = closest(found, known)
    hint = f"{near} Otherwise " if near else ""
    raise ConfigurationError(
        f"{what} {found!r}",
        expected=f"one of {', '.join(known) or '(none is configured)'}",
        found=repr(found),
        action=f"{hint}{otherwise}",
    )
