"""Checks: those of a node as asset checks, and running them as a gate of CI.

Dagster's own commands exit 0 over a failed non-blocking check.
"""

from collections.abc import Iterator, Sequence

import dagster as dg
from dagster._core.execution.context.system import StepExecutionContext
from dagster_shared.record import copy

from quant_assets.common.errors import closest
from quant_assets.defs.assets import asset_key, check_spec, judged
from quant_assets.defs.running import QUIET, judged_in
from quant_assets.defs.storage import latest_event
from quant_assets.lineage.causes import check_outcomes
from quant_assets.lineage.declaring import Check, CheckOutcome, CheckRun, CheckSpec
from quant_assets.lineage.graph import Lineage, Node


def checks_of(node: Node, lineage: Lineage) -> list[dg.AssetChecksDefinition]:
    """The checks of a node, each group that is judged together in one step; of partitions, with their asset."""
    if node.partitions:
        return []
    return [_check(node, check, specs, lineage) for check, specs in node.specs.items() if specs]


def _check(
    node: Node, check: Check, specs: Sequence[CheckSpec], lineage: Lineage
) -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(
        name=f"{'__'.join(node.key)}__{check.name}",
        specs=[check_spec(node, spec) for spec in specs],
        can_subset=len(specs) > 1,  # the UI executes each by itself
        required_resource_keys={"home"},
        op_tags={"dagster/priority": str(int(node.key in lineage.behind_verdicts))},
    )
    def judge(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        result_type = _Told if _decided_below(context, node, lineage) else dg.AssetCheckResult
        names = {chosen.name for chosen in context.selected_asset_check_keys}
        for told in judged(context.instance, context.resources.home.place, lineage, node, check, names):
            yield result_type(**told)

    return judge


class _Told(dg.AssetCheckResult):
    """A result that does not end its run by itself, because all that waits for it in this run asks for it."""

    def to_asset_check_evaluation(self, step_context: StepExecutionContext) -> dg.AssetCheckEvaluation:
        """As Dagster's own, which then is no reason to fail the step. The check stays one that blocks."""
        return copy(super().to_asset_check_evaluation(step_context), blocking=False)


def _decided_below(context: dg.AssetCheckExecutionContext, node: Node, lineage: Lineage) -> bool:
    """Whether of all assets only the decision waits for these gates in this run.

    It refuses in its body, with every reason: one run, one failure, on the asset that decides. Anything else that a
    run makes of a report is stopped by Dagster before it starts.
    """
    layer = context.job_def.asset_layer
    waiting = layer.asset_graph.get(asset_key(node.key)).child_keys & layer.selected_asset_keys
    decisions = {asset_key(n.key) for n in lineage.nodes.values() if n.stage.decides}
    return node.stage.gates is not None and bool(waiting) and waiting <= decisions


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
        known = lineage.settings.strategies
        said = {s: f"no such strategy. {closest(s, known)}".strip() for s in unknown}
        return CheckRun(tuple(CheckOutcome(s, "-", "no verdict", "ERROR", why) for s, why in said.items()))
    job = dg.define_asset_job("gates", selection=dg.AssetSelection.checks(*selected))
    with_job = dg.Definitions.merge(definitions, dg.Definitions(jobs=[job]))
    result = with_job.resolve_job_def("gates").execute_in_process(
        instance=instance, run_config=QUIET, raise_on_error=False
    )
    pairs = [((k.asset_key.path[0], k.asset_key.path[1]), k.name) for k in selected]
    made = {key for key, _ in pairs if latest_event(instance, asset_key(key), None)}
    return CheckRun(check_outcomes(lineage, pairs, judged_in(result), made))
