"""Running asset checks as a gate of CI: Dagster's own commands exit 0 over a failed non-blocking check."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import dagster as dg

from quant_assets.defs.automation import strategy_keys
from quant_assets.defs.running import QUIET
from quant_assets.lineage.settings import Settings

Outcome = Literal["passed", "failed", "no verdict"]


@dataclass(frozen=True)
class CheckOutcome:
    """One check's outcome. ``no verdict``: it crashed, or what it judges was never materialised."""

    asset: str
    check: str
    outcome: Outcome
    severity: str
    description: str


@dataclass(frozen=True)
class CheckRun:
    """All outcomes of one call, and the exit code that CI acts on."""

    results: tuple[CheckOutcome, ...]

    @property
    def exit_code(self) -> int:
        """0 all passed (a failed WARN check is no failure), 1 any ERROR, 2 nothing selected or no verdict."""
        if not self.results or any(r.outcome == "no verdict" for r in self.results):
            return 2
        return int(any(r.outcome == "failed" and r.severity == "ERROR" for r in self.results))

    @property
    def summary(self) -> str:
        """One line for people."""
        counts = {o: sum(r.outcome == o for r in self.results) for o in ("passed", "failed", "no verdict")}
        return ", ".join(f"{n} {o}" for o, n in counts.items()) + f"; exit code {self.exit_code}"

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"exit_code": self.exit_code, "results": [asdict(r) for r in self.results]}


def run_checks(
    definitions: dg.Definitions, settings: Settings, strategies: Sequence[str], instance: dg.DagsterInstance
) -> CheckRun:
    """Evaluate every check of the given strategies (all when none is given) on what is materialised."""
    unknown = [s for s in strategies if s not in settings.strategies]
    keys = {
        key
        for s in strategies or settings.strategies
        if s not in unknown
        for key in strategy_keys(settings, s)
    }
    graph = definitions.resolve_asset_graph()
    selected = sorted(k for k in graph.asset_check_keys if k.asset_key in keys)
    if unknown or not selected:
        return CheckRun(
            tuple(CheckOutcome(s, "-", "no verdict", "ERROR", "no such strategy") for s in unknown)
        )
    job = dg.define_asset_job("gates", selection=dg.AssetSelection.checks(*selected))
    with_job = dg.Definitions.merge(definitions, dg.Definitions(jobs=[job]))
    result = with_job.resolve_job_def("gates").execute_in_process(
        instance=instance, run_config=QUIET, raise_on_error=False
    )
    found = {e.asset_check_key: e for e in result.get_asset_check_evaluations()}
    outcomes = []
    for key in selected:
        evaluation = found.get(key)
        if evaluation is None:
            outcome: Outcome = "no verdict"
            severity, description = "ERROR", "the check crashed, or its asset was never materialised"
        else:
            outcome = "passed" if evaluation.passed else "failed"
            severity, description = evaluation.severity.value, evaluation.description or ""
        outcomes.append(
            CheckOutcome(key.asset_key.to_user_string(), key.name, outcome, severity, description)
        )
    return CheckRun(tuple(outcomes))
