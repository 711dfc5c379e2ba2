"""Running strategies in this process, as ``quant-assets run`` does, and showing them, as ``quant-assets ui``."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, LaunchRunContext, WorkerStatus
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES
from dagster._core.utils import make_new_run_id
from dagster._utils.concurrency import ConcurrencyKeyInfo

from quant_assets.common.errors import clearest
from quant_assets.common.files import located
from quant_assets.common.home import Home
from quant_assets.common.logging import get_logger
from quant_assets.common.processes import all_gone, every, held_by, this_host, waited_for
from quant_assets.common.same_origin import SameOrigin
from quant_assets.common.served_pages import ServedPages
from quant_assets.defs.assets import asset_key
from quant_assets.defs.storage import artifact_of, latest_event
from quant_assets.gates.verdicts import GateReport, StrategyOutcome, Verdict, refusals
from quant_assets.lineage.causes import Judged, closed_upstream, set_aside, waits
from quant_assets.lineage.graph import Lineage

# Dagster's own console lines would drown the progress lines; everything is in the run's event log.
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}

# Errors that mean "refused by a gate" and not "something broke".
REFUSALS = frozenset({"DagsterAssetCheckFailedError", "GateClosed"})
# On every run that a process of the platform started: only its own host can say whether a process lives.
HOST_TAG = "quant/host"
LOOK_SECONDS = 2.0

_log = get_logger("quant_assets.progress")


def open_instance(home: Path | None = None) -> dg.DagsterInstance:
    """The Dagster instance of the platform's home: the one that ``make dev`` shows. Dead runs are ended first."""
    instance = dg.DagsterInstance.from_config(str(Home(str(home or "")).dagster_folder()))
    end_dead_runs(instance)
    return instance


def is_dead(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether every process that worked on a run is gone. False where nobody here can know: another host's run."""
    working = {dg.DagsterEventType.RUN_START, dg.DagsterEventType.STEP_START}
    logs = instance.all_logs(run.run_id, of_type=working) if run.tags.get(HOST_TAG) == this_host() else ()
    events = [(log.dagster_event, log.timestamp) for log in logs]
    return all_gone({event.pid: moment for event, moment in events if event and event.pid})


def end_dead_runs(instance: dg.DagsterInstance) -> None:
    """Mark runs whose processes were killed as failed, free the pool slots that they hold, and say so."""
    pools = _pools(instance)
    holders = {slot.run_id for pool in pools for slot in pool.claimed_slots}
    runs = {run.run_id: run for run in instance.get_runs(dg.RunsFilter(statuses=IN_PROGRESS_RUN_STATUSES))}
    runs |= {run_id: run for run_id in holders - set(runs) if (run := instance.get_run_by_id(run_id))}
    for run in runs.values():
        if is_dead(instance, run):
            if not run.is_finished:
                instance.report_run_failed(run, "Its processes were killed.")
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
            freed = ", ".join(held_by(pools, run.run_id)) or "nothing held"
            _log.warning("a killed run was ended", run=run.job_name, freed=freed)


def _pools(instance: dg.DagsterInstance) -> list[ConcurrencyKeyInfo]:
    store = instance.event_log_storage
    return list(store.get_concurrency_infos(sorted(store.get_concurrency_keys())).values())


def _tell_waits(instance: dg.DagsterInstance, run_id: str, told: set[str]) -> None:
    """Say for what a run waits where a pool has no slot for it; a holder that was killed meanwhile is ended."""
    waiting = set(waited_for(_pools(instance), run_id))
    if waiting:
        end_dead_runs(instance)
    for claim in sorted(waiting - told):
        _log.warning("waits", until=f"{claim} is free")
    told |= waiting


class WatchedRunLauncher(DefaultRunLauncher):
    """Dagster's launcher for one machine, which can say that a run's processes are gone."""

    supports_check_run_worker_health = True

    def launch_run(self, context: LaunchRunContext) -> None:
        """As Dagster's own; the run says which host it is on."""
        self._instance.add_run_tags(context.dagster_run.run_id, {HOST_TAG: this_host()})
        super().launch_run(context)

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """What the daemon asks every few seconds."""
        gone = is_dead(self._instance, run)
        return CheckRunHealthResult(WorkerStatus.FAILED if gone else WorkerStatus.RUNNING)


def failures(result: dg.ExecuteInProcessResult) -> tuple[list[str], list[str]]:
    """Failed steps of a run: those that refused, and those that broke."""
    refused, broken = list[str](), list[str]()
    for event in result.all_events:
        if not event.is_step_failure:
            continue
        error, messages, names = event.step_failure_data.error, list[str](), set[str | None]()
        while error:
            messages, names = [*messages, error.message], {*names, error.cls_name}
            error = error.cause
        (refused if names & REFUSALS else broken).append(f"{event.step_key}: {clearest(messages)}")
    return refused, broken


def judged_in(result: dg.ExecuteInProcessResult) -> list[Judged]:
    """Every check that ran in a run."""
    return [Judged.of(e.asset_key.path, e) for e in result.get_asset_check_evaluations()]


def raw_years_job(universe: str) -> str:
    """Name of the job that materialises one year of a universe."""
    return f"{universe}_raw_bars"


def run_strategies(
    definitions: dg.Definitions,
    lineage: Lineage,
    strategies: Sequence[str],
    instance: dg.DagsterInstance,
    home: Home,
    heading: Callable[[str], None],
) -> list[StrategyOutcome]:
    """Materialise the lineage of each strategy and end with its decision.

    Parameters
    ----------
    heading : callable
        Told of each part as it starts.
    """
    ready: set[str] = set()
    outcomes = []
    for strategy in strategies:
        universe = lineage.scope(strategy).bars
        heading(f"{strategy} on {universe.name}")
        if universe.name not in ready:
            broken = _run_years(definitions, universe.name, universe.years, instance)
            if broken:
                outcomes.append(StrategyOutcome(strategy, "error", (), tuple(broken), None))
                continue
            ready.add(universe.name)
        outcomes.append(_run_strategy(definitions, lineage, strategy, instance, home))
    return outcomes


def executed(
    definitions: dg.Definitions, job: str, instance: dg.DagsterInstance, **chosen: Any
) -> dg.ExecuteInProcessResult:
    """A run in this process, named as this host's."""
    import sqlalchemy.orm  # noqa: F401 (whole before threads ask: MLflow imports it in a step, beside `_tell_waits`)

    run_id, told = make_new_run_id(), set[str]()
    tags = {HOST_TAG: this_host()}
    with every(LOOK_SECONDS, lambda: _tell_waits(instance, run_id, told)):
        return definitions.resolve_job_def(job).execute_in_process(
            instance=instance, run_id=run_id, tags=tags, run_config=QUIET, raise_on_error=False, **chosen
        )


def _run_years(
    definitions: dg.Definitions, universe: str, years: Sequence[str], instance: dg.DagsterInstance
) -> list[str]:
    for year in years:
        result = executed(definitions, raw_years_job(universe), instance, partition_key=year)
        if not result.success:
            refused, broken = failures(result)
            return refused + broken
    return []


def _run_strategy(
    definitions: dg.Definitions, lineage: Lineage, strategy: str, instance: dg.DagsterInstance, home: Home
) -> StrategyOutcome:
    result = executed(definitions, strategy, instance)
    refused, broken = failures(result)
    event = latest_event(instance, dg.AssetKey([lineage.scope(strategy).bars.name, "quarantined_bars"]), None)
    aside = set_aside(event.metadata if event else {})
    closed = closed_upstream(lineage, strategy, judged_in(result))
    made = {tuple(e.asset_key.path) for e in result.get_asset_materialization_events() if e.asset_key}
    if closed and waits(lineage, strategy, made):
        return StrategyOutcome(strategy, "blocked", (), (*closed, *broken), None, aside)
    if refused and not broken:
        # The blocking checks kept the decision from running. Asked on its own it refuses in its body, and
        # writes the refusal with every reason into the ledger and the registry.
        result = executed(
            definitions, strategy, instance, asset_selection=[asset_key(lineage.decision(strategy).key)]
        )
        _, broken = failures(result)
    verdicts = strategy_verdicts(instance, home, lineage, strategy)
    ending = "error" if broken else "promoted" if result.success else "refused"
    reasons = (*closed, *broken) if broken else (*closed, *refusals(verdicts))
    sheet = latest_event(instance, dg.AssetKey([strategy, "tear_sheet"]), None)
    file = located(str(sheet.metadata["file"].value)) if sheet and "file" in sheet.metadata else None
    return StrategyOutcome(strategy, ending, verdicts, reasons, file, aside)


def strategy_verdicts(
    instance: dg.DagsterInstance, home: Home, lineage: Lineage, strategy: str
) -> tuple[Verdict, ...]:
    """Every verdict in the newest reports of a strategy."""
    verdicts: list[Verdict] = []
    for report in lineage.reports(lineage.scope(strategy)):
        event = latest_event(instance, dg.AssetKey([strategy, report]), None)
        if event is not None:
            verdicts += GateReport.from_json(artifact_of(event, home.store).json()).verdicts
    return tuple(verdicts)


def serve_ui(host: str, port: int, hosts: Iterable[str]) -> int:
    """Serve the UI with its daemon until interrupted, as ``dagster dev`` does, behind `SameOrigin`, and pages.

    Both share one code server. Returns the exit code: 0, or that of a daemon that stopped by itself.
    """
    import uvicorn
    import yaml
    from dagster._cli.proxy_server_manager import ProxyServerManager
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import ModuleTarget, WorkspaceFileTarget
    from dagster_webserver.app import create_app_from_workspace_process_context

    from quant_assets.reports.desk_page import SCRIPTS

    os.environ["DAGSTER_HOME"] = str(Home().dagster_folder())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # its default would leave the daemon behind
    code = ModuleTarget("quant_assets.definitions", None, str(Path.cwd()), "quant_assets")
    with (
        open_instance() as instance,
        ProxyServerManager(instance, code, "warning") as servers,
        tempfile.TemporaryDirectory() as folder,
    ):
        workspace = Path(folder) / "workspace.yaml"
        workspace.write_text(yaml.safe_dump({"load_from": servers.get_code_server_specs()}))
        command = [sys.executable, "-m", "dagster._daemon", "run", "--workspace", str(workspace)]
        with (
            subprocess.Popen(command) as daemon,  # noqa: S603 (this interpreter, this module)
            WorkspaceProcessContext(instance, WorkspaceFileTarget([str(workspace)])) as context,
        ):
            ui = create_app_from_workspace_process_context(context, "", 2000)
            app = SameOrigin(ServedPages(ui, Home().path / "reports", SCRIPTS), hosts)
            server = uvicorn.Server(uvicorn.Config(app, host, port, log_level="warning"))
            threading.Thread(
                target=lambda: setattr(server, "should_exit", daemon.wait() >= 0), daemon=True
            ).start()
            try:
                server.run()
            finally:
                stopped = daemon.poll()
                daemon.terminate()
    return stopped or 0
