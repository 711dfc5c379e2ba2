"""The guard in front of promotion: why the checks of a candidate's lineage do not open the way.

A blocking check stops its own run only (dagster-io/dagster: a second run that selects only the downstream asset
materialises it over a failed check), hence this guard in the body, which asks every time.
"""

from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Any

import dagster as dg

from quant_assets.defs.storage import evidence_of, finished_steps, record_at
from quant_assets.lineage.graph import Key, Lineage
from quant_assets.lineage.scope import Guard, Scrutiny
from quant_assets.lineage.scrutiny import Evidence, Given, scrutinise


class GateClosed(dg.Failure):
    """Promotion was refused. Never retried: a verdict does not change by asking again."""

    def __init__(self, message: str, reasons: Sequence[str]) -> None:
        super().__init__(
            description=message,
            metadata={"reasons": dg.MetadataValue.md("\n".join(f"- {r}" for r in reasons))},
            allow_retries=False,
        )


def required_checks(lineage: Lineage, target: Key) -> list[dg.AssetCheckKey]:
    """Every check without which a target is not made: all that block, of everything it is made from, not its own.

    What was never fit to be trained on is not promoted either, whichever run looked away.
    """
    asked = lineage.blocking_checks(target)
    return [dg.AssetCheckKey(dg.AssetKey(list(key)), name) for key, name in asked if key != target]


def guard_of(
    instance: dg.DagsterInstance, lineage: Lineage, target: Key, given: Given, effects: Mapping[str, Any]
) -> Guard:
    """The guard of one target, over the event log of an instance: what it says, and what can be found out again."""

    def guard(already_closed: frozenset[str]) -> Scrutiny:
        said = {check: check_reasons(instance, [check]) for check in required_checks(lineage, target)}
        closed = {check for check, why in said.items() if why or check.name in already_closed}
        settled = {((c.asset_key.path[0], c.asset_key.path[1]), c.name) for c in closed}
        finished = cache(partial(finished_steps, instance))  # most of a lineage is of one run

        def read(key: Key, partition: str | None) -> Evidence | None:
            record = record_at(instance, dg.AssetKey(list(key)), partition)
            return evidence_of(record, effects["home"].store, finished) if record else None

        scrutiny = scrutinise(lineage, target, given, read, effects, settled)
        told = (reason for check, why in said.items() if check.name not in already_closed for reason in why)
        return Scrutiny((*told, *scrutiny.reasons), scrutiny.seconds)

    return guard


def check_reasons(instance: dg.DagsterInstance, checks: Sequence[dg.AssetCheckKey]) -> tuple[str, ...]:
    """Why these asset checks do not open the way; empty when each passed on its asset's latest version."""
    reasons = []
    for check in checks:
        name = f"{check.name} on {check.asset_key.to_user_string()}"
        event = instance.get_latest_materialization_event(check.asset_key)
        # The newest *execution*: one that was planned and never finished (a crash) hides older passes.
        record = instance.get_latest_asset_check_evaluation_record(check)
        if event is None:
            reasons.append(f"{name}: the asset was never materialised")
        elif record is None:
            reasons.append(f"{name}: the check never ran")
        elif record.status.value not in ("SUCCEEDED", "FAILED") or not record.evaluation:
            reasons.append(f"{name}: the check crashed or has not finished")
        else:
            target = record.evaluation.target_materialization_data
            if target is None or (target.run_id, target.timestamp) != (event.run_id, event.timestamp):
                reasons.append(f"{name}: evaluated an older materialization")
            elif not record.evaluation.passed:
                reasons.append(f"{name}: did not pass ({record.evaluation.description or 'no reason given'})")
    return tuple(reasons)
