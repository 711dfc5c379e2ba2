"""Whose word a version is: steps sign what they make, and promotion believes nothing that it can find out for itself.

Who made it: every asset between the source and the decision stands on a statement that a step of a run signed, about
exactly the versions that it was made from. Whether it follows: what is cheap and pure is made again. What the checks
say: their predicates are asked again on what is stored, whatever the event log holds as their result.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from quant_assets.artifacts.attestation import Material, Materialisation, attest, attested
from quant_assets.artifacts.bundle.signing import TrustedKeys, signing_key, trusted_keys
from quant_assets.artifacts.signed_fits import KeptFits
from quant_assets.common.errors import ArtifactError, ConfigurationError, QuantAssetsError
from quant_assets.common.hashing import bytes_digest
from quant_assets.common.home import Home
from quant_assets.common.logging import get_logger, resources_measured
from quant_assets.common.store import Encoded, Value, decode, encode, identity_of
from quant_assets.gates.verdicts import GateReport
from quant_assets.lineage.artifact import Artifact, Partitions, part_name
from quant_assets.lineage.graph import Key, Lineage, Node, computed, described
from quant_assets.lineage.scope import Scrutiny

# What computing an asset took, among its facts: about one execution, and in no version.
RESOURCES_PREFIX = "resources/"

_log, _progress = get_logger(__name__), get_logger("quant_assets.progress")


@dataclass(frozen=True)
class Evidence:
    """What the event log says about the newest version of an asset (partition), and whose word that is.

    Attributes
    ----------
    code_version, fingerprint, run_id : str
        As on the event.
    by_a_step : bool
        Whether a step that succeeded wrote it, of a run that the instance knows.
    envelope : object
        Its attestation, not verified; None or empty where there is none.
    """

    artifact: Artifact
    code_version: str
    fingerprint: str
    run_id: str
    by_a_step: bool
    envelope: Any


Given = Mapping[Key, Artifact | Partitions]
Read = Callable[[Key, str | None], Evidence | None]


def inputs_of(given: Given) -> dict[str, Material]:
    """What a step was given, as an attestation names it."""
    found = {}
    for key, made in given.items():
        parts = made.parts.items() if isinstance(made, Partitions) else [(None, made)]
        for partition, artifact in parts:
            found[part_name("/".join(key), partition)] = Material(artifact.version, artifact.sha256)
    return found


def attestation(made: Materialisation, home: Home) -> dict[str, Any]:
    """The signed statement of a step; empty, and said aloud, where there is no key to sign with."""
    try:
        return attest(made, signing_key(home.local))
    except ConfigurationError as error:
        _log.warning("not signed, so it is never promoted", asset_key=made.asset, reason=str(error))
        return {}


def trusted_in(home: Home) -> TrustedKeys:
    """The keys that are trusted; none, and said aloud, where none is named."""
    try:
        return trusted_keys(home.local)
    except ConfigurationError as error:
        _log.warning("nothing that was signed is believed", reason=str(error))
        return TrustedKeys()


def disbelief(
    evidence: Evidence, name: str, node: Node, inputs: Mapping[str, Material], trusted: TrustedKeys
) -> str | None:
    """Why the newest version of an asset (partition) is not believed; None when it is.

    Parameters
    ----------
    name : str
        Of the asset, with its partition.
    inputs : mapping of str to Material
        The newest version of everything that it reads, all of which it must have been made from.
    """
    if not evidence.by_a_step:
        return "reported by no step of a run that this instance knows"
    try:
        said = attested(name, evidence.envelope, trusted)
    except ArtifactError as error:
        return error.found
    artifact = evidence.artifact
    event = Materialisation(
        asset=name,
        version=artifact.version,
        sha256=artifact.sha256,
        media_type=artifact.media_type,
        code_version=evidence.code_version,
        fingerprint=evidence.fingerprint,
        inputs=said.inputs,
        run_id=evidence.run_id,
    )
    if said != event:
        return "the attestation of another version, asset or run"
    if said.inputs != inputs:
        return "made from other versions than the newest of what it reads"
    code, _, configuration = said.code_version.partition(".")
    if code != node.code_version.partition(".")[0]:
        return "made by other code than that in force"
    if configuration != node.code_version.partition(".")[2]:
        return "made under another configuration than that in force"
    return None


@dataclass(frozen=True)
class Step:
    """What a step did.

    Attributes
    ----------
    made : Materialisation
        What it signs for.
    value, encoded : Value and Encoded, or None
        None when the version of before was taken as it is.
    facts : mapping
        What people should see of it.
    reused : bool
        Whether it is the version of before.
    """

    made: Materialisation
    value: Value | None
    encoded: Encoded | None
    facts: Mapping[str, Any]
    reused: bool


def made_or_reused(
    lineage: Lineage,
    node: Node,
    given: Given,
    effects: Mapping[str, Any],
    name: str,
    fingerprint: str,
    previous: Evidence | None,
) -> Step:
    """Compute an asset (partition), or take its newest version when that is believed and nothing has changed.

    What is not believed is not reused: signed again it would be.

    Parameters
    ----------
    previous : Evidence or None
        The newest version, if it was made with this very fingerprint.
    """
    started = time.perf_counter()
    home: Home = effects["home"]
    made = partial(
        Materialisation,
        asset=name,
        code_version=node.code_version,
        fingerprint=fingerprint,
        inputs=inputs_of(given),
        run_id=effects["run"].run_id,
    )
    if previous is not None and not node.stage.always:
        kept = previous.artifact
        doubt = disbelief(previous, name, node, inputs_of(given), trusted_in(home))
        if doubt is None and home.store.intact(kept.sha256):
            _progress.info("asset", status="reused", seconds=time.perf_counter() - started)
            again = made(version=kept.version, sha256=kept.sha256, media_type=kept.media_type)
            return Step(again, None, None, {}, True)
        _progress.warning("computing again", reason=doubt or "damaged object", object=kept.sha256)
    with resources_measured() as used:
        fits = KeptFits(home, "step", effects["run"].run_id)
        product = computed(lineage, node, given, {**effects, "fits": fits})
        facts = described(lineage, node, product, given, effects)
    encoded = encode(product.value)
    reused = previous is not None and previous.artifact.version == encoded.version
    status, seconds = "reused" if reused else "computed", time.perf_counter() - started
    _progress.info("asset", status=status, seconds=seconds, bytes=len(encoded.data))
    facts |= {f"{RESOURCES_PREFIX}{name}": value for name, value in used.to_json().items()}
    sha256 = bytes_digest(encoded.data)  # it is stored before the event that points to it
    new = made(version=encoded.version, sha256=sha256, media_type=encoded.media_type)
    return Step(new, product.value, encoded, facts, reused)


def scrutinise(
    lineage: Lineage,
    target: Key,
    given: Given,
    read: Read,
    effects: Mapping[str, Any],
    settled: Collection[tuple[Key, str]],
) -> Scrutiny:
    """Everything that can be found out about what a target is made from, and what finding out took.

    Parameters
    ----------
    given : mapping of (str, str) to Artifact or Partitions
        What the target's step received.
    read : callable
        Gives the newest version of an asset (partition), or None.
    effects : mapping
        What stages and checks are told: ``home`` and whatever else.
    settled : collection of ((str, str), str)
        Checks that are not asked again, because they did not pass in the first place.
    """
    seconds: dict[str, float] = {}
    behind = [node for node in lineage.ancestors(target) if node.key != target]
    found: dict[Key, dict[str | None, Evidence]] = {node.key: {} for node in behind}
    with _timed(seconds, "events"):
        for node in behind:
            for partition in node.partitions or (None,):
                evidence = read(node.key, partition)
                if evidence is None:
                    name = part_name("/".join(node.key), partition)
                    return Scrutiny((f"evidence: {name} was never materialised",), seconds)
                found[node.key][partition] = evidence
    artifacts = {key: _whole(parts) for key, parts in found.items()}
    home: Home = effects["home"]
    reasons: list[str] = []
    for what, answers in (
        ("attestations", _unattested(lineage.nodes[target], behind, given, found, artifacts, home)),
        ("derivations", _other_again(lineage, behind, artifacts, effects)),
        ("checks", _failing_again(lineage, behind, artifacts, effects, settled)),
    ):
        with _timed(seconds, what):
            reasons += answers
    _log.info("evidence found out again", asset_key="/".join(target), reasons=len(reasons), **seconds)
    return Scrutiny(tuple(reasons), seconds)


@contextmanager
def _timed(seconds: dict[str, float], what: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[what] = round(time.perf_counter() - started, 3)


def _whole(parts: Mapping[str | None, Evidence]) -> Artifact | Partitions:
    if None in parts:
        return parts[None].artifact
    return Partitions({str(partition): evidence.artifact for partition, evidence in parts.items()})


def _unattested(
    target: Node,
    behind: Sequence[Node],
    given: Given,
    found: Mapping[Key, Mapping[str | None, Evidence]],
    artifacts: Mapping[Key, Artifact | Partitions],
    home: Home,
) -> Iterator[str]:
    """Which of the ancestors are not believed, each reason once."""
    trusted = trusted_in(home)
    doubts: dict[str, list[str]] = {}
    for node in behind:
        inputs = inputs_of({key: artifacts[key] for key in node.parents})
        for partition, evidence in found[node.key].items():
            name = part_name("/".join(node.key), partition)
            doubt = disbelief(evidence, name, node, inputs, trusted)
            if doubt is not None:
                doubts.setdefault(doubt, []).append(name)
    newest = inputs_of({key: artifacts[key] for key in target.parents})
    received = inputs_of(given)
    moved = [name for name, material in newest.items() if received.get(name) != material]
    if moved:
        doubts["not the version that the decision was given"] = moved
    for doubt, names in doubts.items():
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        yield f"evidence: {doubt} ({', '.join(names[:5])}{more}): materialise again what is named"


def _other_again(
    lineage: Lineage,
    behind: Sequence[Node],
    artifacts: Mapping[Key, Artifact | Partitions],
    effects: Mapping[str, Any],
) -> Iterator[str]:
    """Which of the ancestors are not what their stages make of what they were made from."""
    for node in behind:
        name, stored = "/".join(node.key), artifacts[node.key]
        if not node.stage.rederived or isinstance(stored, Partitions):
            continue
        try:
            value = computed(lineage, node, artifacts, effects, shown=False).value
            kept = decode(stored.raw(), stored.media_type)
            if (version := identity_of(value)) == stored.version == identity_of(kept):
                continue
            told = _verdicts(kept)
        # Whatever a forged input breaks in a stage, or a plug-in of its own: the refusal must reach the ledger.
        except Exception as error:  # noqa: BLE001
            yield f"{name}: cannot be made again: {told_of(error)}"
            continue
        changed = [
            f"{gate} is {status}" for gate, status in _verdicts(value).items() if told.get(gate) != status
        ]
        found = ", ".join(changed) if told and changed else version[:12]
        yield f"{name}: made again from what is stored it is another ({found})"


def told_of(error: Exception) -> str:
    """An error in one line: the platform's own as it is, any other with its kind."""
    return str(error) if isinstance(error, QuantAssetsError) else f"{type(error).__name__}: {error}"


def _verdicts(report: Any) -> dict[str, str]:
    """Status by gate of a stored report; empty for anything else."""
    if not isinstance(report, dict) or "verdicts" not in report:
        return {}
    return {verdict.gate: verdict.status for verdict in GateReport.from_json(report).verdicts}


def _failing_again(
    lineage: Lineage,
    behind: Sequence[Node],
    artifacts: Mapping[Key, Artifact | Partitions],
    effects: Mapping[str, Any],
    settled: Collection[tuple[Key, str]],
) -> Iterator[str]:
    """Which blocking checks, recorded as passed, do not pass when they are asked again."""
    for node in behind:
        for check, specs in node.specs.items():
            asked = [s.name for s in specs if s.blocking and (node.key, s.name) not in settled]
            if not asked:
                continue
            on = "/".join(node.key)
            try:
                results = check.judge(node.arguments(check.function, artifacts, effects, lineage))
            except Exception as error:  # noqa: BLE001
                yield f"{check.name} on {on}: cannot be asked again: {told_of(error)}"
                continue
            passed = {result.name: result for result in results}
            for name in asked:
                result = passed.get(name)
                if result is None or not result.passed:
                    yield f"{name} on {on}: asked again, {result.description if result else 'no result'}"
