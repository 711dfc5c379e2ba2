"""Whether a strategy is settled: everything is as its last run left it, so a run would only do the same again.

Asked before a run is started, with the very questions that its steps would ask: the fingerprint, who signed, whether
the object is whole. A source is read again; what a stage did to the outside world is looked for there. A decision in
favour is never taken as settled: promotion is asked each time. A refusal is, while a verdict closes its gate or the
proof of no leakage fails, and the ledger holds the refusal of just this evidence: only other evidence could open it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from quant_assets.common.errors import QuantAssetsError
from quant_assets.common.hashing import json_digest
from quant_assets.common.home import Home
from quant_assets.common.store import identity_of
from quant_assets.gates.admission import closed_reasons
from quant_assets.gates.desk_gates import desk_names
from quant_assets.gates.gate import gate_names
from quant_assets.gates.verdicts import GateReport
from quant_assets.ledgers.promotions import LedgerEntry, PromotionLedger
from quant_assets.lineage.artifact import Artifact, Partitions, part_name
from quant_assets.lineage.graph import Key, Lineage, Node, computed, fingerprint_of
from quant_assets.lineage.scrutiny import Evidence, Read, disbelief, inputs_of, told_of, trusted_in
from quant_assets.lineage.stages.registry_stages import leaks

Effects = Callable[[Node, str | None], Mapping[str, Any]]


@dataclass(frozen=True)
class CheckState:
    """What the newest execution of a check says.

    Attributes
    ----------
    judged : bool
        Whether it came to an end, on the newest version of its asset.
    passed : bool
    why : str
        Why it does not open the way; empty when it does.
    """

    judged: bool
    passed: bool
    why: str


@dataclass(frozen=True)
class Settled:
    """What was found before a run.

    Attributes
    ----------
    moved : str
        The first thing that a run has to do; empty when there is nothing before the decision.
    n_assets : int
        Versions (of partitions too) that are as they were left.
    refusal : LedgerEntry or None
        The refusal that stands, if nothing moved.
    """

    moved: str
    n_assets: int = 0
    refusal: LedgerEntry | None = None

    @property
    def since(self) -> str:
        """When the refusal that stands was given, and where it is written; empty without one."""
        if self.refusal is None:
            return ""
        return f"since {self.refusal.at[:16].replace('T', ' ')} UTC, ledger entry {self.refusal.index}"

    @property
    def upstream(self) -> bool:
        """Whether everything before the decision is as it was left."""
        return not self.moved


def settled(
    lineage: Lineage,
    strategy: str,
    home: Home,
    read: Read,
    effects_of: Effects,
    check_state: Callable[[Key, str], CheckState],
) -> Settled:
    """Ask every asset before the decision of a strategy, in order, until one is not as it was left.

    Parameters
    ----------
    read : callable
        Gives the newest version of an asset (partition), or None.
    effects_of : callable
        What a stage is told, for a node and a partition.
    check_state : callable
        What the newest execution of a check says.
    """
    decision = lineage.decision(strategy)
    trusted = trusted_in(home)
    artifacts: dict[Key, Artifact | Partitions] = {}
    n_assets = 0
    for node in lineage.of(strategy):
        if node.stage.guarded:
            continue
        given = {key: artifacts[key] for key in node.parents}
        parts: dict[str | None, Artifact] = {}
        for partition in node.partitions or (None,):
            name = part_name("/".join(node.key), partition)
            evidence = read(node.key, partition)
            if evidence is None:
                return Settled(f"{name} was never made")
            doubt = disbelief(evidence, name, node, inputs_of(given), trusted)
            doubt = doubt or _other(lineage, node, given, evidence, effects_of(node, partition), partition)
            if doubt:
                return Settled(f"{name}: {doubt}")
            parts[partition] = evidence.artifact
        artifacts[node.key] = (
            Partitions({str(p): made for p, made in parts.items()}) if node.partitions else parts[None]
        )
        n_assets += len(parts)
        for specs in node.specs.values():
            for spec in specs:
                state = check_state(node.key, spec.name)
                if not state.judged or (
                    spec.blocking and not state.passed and node.key not in decision.parents
                ):
                    return Settled(state.why)
    try:
        refusal = _refusal(lineage, strategy, home, artifacts)
    except (
        QuantAssetsError
    ) as error:  # the ledger or a report cannot be read: the run says so, in its own place
        return Settled(told_of(error))
    return Settled("", n_assets, refusal)


def _other(
    lineage: Lineage,
    node: Node,
    given: Mapping[Key, Artifact | Partitions],
    evidence: Evidence,
    effects: Mapping[str, Any],
    partition: str | None,
) -> str | None:
    """Why the version of before would not be taken by a step; None when it would."""
    try:
        if fingerprint_of(node, lineage, given, effects, partition) != evidence.fingerprint:
            return "something that shapes it has changed"
        if not effects["home"].store.intact(evidence.artifact.sha256):
            return "its object is lost or damaged"
        if node.stage.still is not None:
            told = {**effects, "made": evidence.artifact}
            return node.stage.still(**node.arguments(node.stage.still, given, told, lineage)) or None
        if node.stage.always:
            version = identity_of(computed(lineage, node, given, effects).value)
            return None if version == evidence.artifact.version else "the outside world has changed"
    except Exception as error:  # noqa: BLE001 (whatever a stage or a source raises: its step will say it)
        return told_of(error)
    return None


def _refusal(
    lineage: Lineage, strategy: str, home: Home, artifacts: Mapping[Key, Artifact | Partitions]
) -> LedgerEntry | None:
    """The refusal of exactly this evidence, if it is the last word and a verdict stands behind it."""
    made = {key[1]: artifact for key, artifact in artifacts.items() if key[0] == strategy}
    subject = made["ensemble"].version
    reports = [_report(made[name]) for name in lineage.reports(lineage.scope(strategy))]
    verdicts = [verdict for report in reports for verdict in report.verdicts]
    decided = [e for e in PromotionLedger(home.promotion_ledger).entries(strategy) if e.action != "shown"]
    if not decided or decided[-1].action != "refused" or decided[-1].subject != subject:
        return None
    required = (*gate_names(), *desk_names(lineage.scope(strategy).plan.further_gates))
    proof = made["leakage_report"]
    leaking = leaks(proof) if isinstance(proof, Artifact) else ()
    if not closed_reasons(subject, verdicts, required) and not set(leaking) & set(decided[-1].reasons):
        return None
    evidence: dict[str, str] = {report.kind: json_digest(report.to_json()) for report in reports}
    evidence["bundle"] = _bytes_of(made["bundle"])
    return decided[-1] if evidence.items() <= decided[-1].evidence.items() else None


def _report(made: Artifact | Partitions) -> GateReport:
    return GateReport.from_json(made.json() if isinstance(made, Artifact) else None)


def _bytes_of(made: Artifact | Partitions) -> str:
    return made.sha256 if isinstance(made, Artifact) else ""
