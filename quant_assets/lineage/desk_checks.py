"""A desk's own checks of the assets of its strategy: each is asked in a process of its own and can only close."""

from collections.abc import Mapping
from typing import Any

from quant_assets.common.errors import ConfigurationError, closest
from quant_assets.common.settings import FurtherCheck
from quant_assets.common.store import Table, decode
from quant_assets.gates.apart import asked_apart
from quant_assets.gates.desk_gates import desk_name, desk_names, desk_verdict
from quant_assets.lineage.artifact import Artifact
from quant_assets.lineage.declaring import Check, CheckResult, Stage, single, verdict_result
from quant_assets.lineage.scope import Scope

# The asset on which a desk's own gates are checks too.
DESK_REPORT = "validation_report"


def desk_checks(scope: Scope, asset: str) -> tuple[Check, ...]:
    """Those that a scope's strategy adds to one of its assets."""
    if scope.strategy is None:
        return ()
    return tuple(_check(further) for further in scope.strategy.further_checks if further.asset == asset)


def require_assets(scope: Scope, stages: Mapping[str, Stage]) -> None:
    """Refuse a check of what is no asset of the strategy, or is made in parts.

    Raises
    ------
    ConfigurationError
        With the closest name.
    """
    if scope.strategy is None:
        return
    known = [
        name
        for stage in stages.values()
        if stage.owner == "strategy"
        and stage.wanted(scope)
        and stage.partitions is None
        and not stage.guarded
        for name in (stage.members(scope) if stage.members else (stage.name,))
    ]
    gates = desk_names(scope.strategy.further_gates)
    for further in scope.strategy.further_checks:
        if further.asset == DESK_REPORT and desk_name(further) in gates:
            raise ConfigurationError(
                f"strategy {scope.key}, further_checks: {further.use}",
                expected=f"a name that no further gate has: both are checks of {DESK_REPORT}",
                found=desk_name(further),
                action="rename one of the two functions",
            )
        if further.asset not in known:
            raise ConfigurationError(
                f"strategy {scope.key}, further_checks: asset {further.asset!r}",
                expected=f"an asset of the strategy: {', '.join(known)}",
                found="none of that name",
                action=closest(further.asset, known) or "choose one of them",
            )


def _check(further: FurtherCheck) -> Check:
    name = desk_name(further)

    def said(asset: Artifact) -> CheckResult:
        return _asked(further, asset)

    description = f"the desk's own check {further.use}"
    return Check(name, single(name, description, blocking=further.blocking), said)


def _asked(further: FurtherCheck, asset: Artifact) -> CheckResult:
    value = decode(asset.raw(), asset.media_type)
    shown: dict[str, Any] = {"frame": value.frame} if isinstance(value, Table) else {"value": value}
    if isinstance(value, bytes):
        found: Any = f"{further.asset} is {asset.media_type}, which is neither a table nor plain data"
    else:
        found = asked_apart(further, "a check", **shown)
    result = verdict_result(desk_name(further), desk_verdict(further, asset.version, found))
    severity = "ERROR" if further.blocking else "WARN"
    return CheckResult(result.name, result.passed, result.description, severity, result.facts)  # type: ignore[arg-type]
