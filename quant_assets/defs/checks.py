"""Checks: those of a node as asset checks, and running them as a gate of CI.

Dagster's own commands exit 0 over a failed non-blocking check.
"""

from collections.abc import Iterator, Sequence

import dagster as dg

from quant_assets.defs.assets import asset_key, to_metadata
from quant_assets.defs.running import QUIET, judged_in
from quant_assets.defs.storage import EventHistory, Home, latest_event, newest
from quant_assets.lineage.causes import check_outcomes
from quant_assets.lineage.declaring import Check, CheckOutcome, CheckRun, CheckSpec
from quant_assets.lineage.graph import Lineage, Node


def checks_of(node: Node, lineage: Lineage) -> list[dg.AssetChecksDefinition]:
    """The checks of a node, each group that is judged together in one step."""
    return [_check(node, check, specs, lineage) for check, specs in node.specs.items() if specs]


def _check(
    node: Node, check: Check, specs: Sequence[CheckSpec], lineage: Lineage
) -> dg.AssetChecksDefinition:
    key = asset_key(node.key)
    reads = lineage.inputs_of(check.function, node.scope, check.name, node.key)
    partitions = {k: lineage.nodes[k].partitions for given in reads.values() for k in given.keys}

    @dg.multi_asset_check(
        name=f"{'__'.join(node.key)}__{check.name}",
        specs=[
            dg.AssetCheckSpec(s.name, asset=key, description=s.description, blocking=s.blocking)
            for s in specs
        ],
        required_resource_keys={"home"},
        op_tags={"dagster/priority": str(int(node.key in lineage.behind_verdicts))},
    )
    def judge(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        # What is judged is read from the event log and not loaded by argument: the newest version, whatever the run.
        home: Home = context.resources.home
        store = home.place.store
        artifacts = newest(context.instance, store, partitions)
        history = EventHistory(context.instance, store, key, None, node.partitions or ())
        effects = {"home": home.place, "history": history}
        for result in check.judge(node.arguments(check.function, artifacts, effects, lineage)):
            yield dg.AssetCheckResult(
                asset_key=key,
                check_name=result.name,
                passed=result.passed,
                severity=dg.AssetCheckSeverity[result.severity],
                description=result.description,
                metadata=to_metadata(result.facts),
            )

    return judge


def _due(node: Node, instance: dg.DagsterInstance) -> bool:
    """Whether a node can be there: what follows a decision is not, until that was made in its favour."""
    waits = node.stage.guarded and not node.stage.decides
    return not waits or any(latest_event(instance, asset_key(key), None) for key in node.parents)


def run_checks(
    definitions: dg.Definitions, lineage: Lineage, strategies: Sequence[str], instance: dg.DagsterInstance
) -> CheckRun:
    """Evaluate every check of the given strategies (all when none is given) on what is materialised."""
    unknown = [s for s in strategies if s not in lineage.settings.strategies]
    chosen = [s for s in strategies or lineage.settings.strategies if s not in unknown]
    keys = {asset_key(n.key) for s in chosen for n in lineage.of(s) if not n.partitions and _due(n, instance)}
    selected = sorted(k for k in definitions.resolve_asset_graph().asset_check_keys if k.asset_key in keys)
    if unknown or not selected:
        return CheckRun(
            tuple(CheckOutcome(s, "-", "no verdict", "ERROR", "no such strategy") for s in unknown)
        )
    job = dg.define_asset_job("gates", selection=dg.AssetSelection.checks(*selected))
    with_job = dg.Definitions.merge(definitions, dg.Definitions(jobs=[job]))
    result = with_job.resolve_job_def("gates").execute_in_process(
        instance=instance, run_config=QUIET, raise_on_error=False
    )
    pairs = [((k.asset_key.path[0], k.asset_key.path[1]), k.name) for k in selected]
    made = {key for key, _ in pairs if latest_event(instance, asset_key(key), None)}
    return CheckRun(check_outcomes(lineage, pairs, judged_in(result), made))
