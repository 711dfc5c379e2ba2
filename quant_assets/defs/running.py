"""Running strategies in this process, as ``quant-assets run`` does, and showing them, as ``quant-assets ui``."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, LaunchRunContext, WorkerStatus
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    REPOSITORY_LABEL_TAG,
)
from dagster._core.utils import make_new_run_id
from dagster._utils.concurrency import ConcurrencyKeyInfo

from quant_assets.common.errors import clearest
from quant_assets.common.files import Location, located
from quant_assets.common.home import Home
from quant_assets.common.logging import get_logger
from quant_assets.common.processes import all_gone, end_asked, every, held_by, this_host, waited_for
from quant_assets.common.same_origin import SameOrigin
from quant_assets.common.served_pages import ServedPages
from quant_assets.common.settings import UniverseConfig
from quant_assets.defs.assets import asset_key
from quant_assets.defs.storage import EventHistory, EventLog, check_state, latest_event
from quant_assets.gates.verdicts import StrategyOutcome, Verdict, refusals
from quant_assets.lineage.causes import Judged, closed_upstream, set_aside, waits
from quant_assets.lineage.found import strategy_verdicts
from quant_assets.lineage.graph import Key, Lineage, Node, names_of
from quant_assets.lineage.scope import RunFacts, effects_of
from quant_assets.lineage.settled import CheckState, Settled, settled

# Dagster's own console lines would drown the progress lines; everything is in the run's event log.
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}

# Errors that mean "refused by a gate" and not "something broke".
REFUSALS = frozenset({"DagsterAssetCheckFailedError", "GateClosed"})
# On every run that a process of the platform started: only its own host can say whether a process lives.
HOST_TAG = "quant/host"
PROCESS_TAG, THIS_PROCESS = "quant/process", make_new_run_id()  # numbers of processes are given away again
# On a run that failed: "refused" where nothing but gates was closed, "blocked" where the data did it, or "broken".
OUTCOME_TAG = "quant/outcome"
# The code location as the UI knows it: a run that names it is one of the jobs that are shown.
SHOWN_AS = "__repository__@quant_assets"
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


def failures(events: Iterable[dg.DagsterEvent]) -> tuple[list[str], list[str]]:
    """Failed steps of a run: those that refused, and those that broke."""
    refused, broken = list[str](), list[str]()
    for event in events:
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
    """Name of the job that materialises the years of a universe."""
    return f"{universe}_raw_bars"


def executed(
    definitions: dg.Definitions,
    job: str,
    instance: dg.DagsterInstance,
    years: Sequence[str] = (),
    **chosen: Any,
) -> dg.ExecuteInProcessResult:
    """A run in this process, named as this host's and as one of the jobs that the UI shows.

    Parameters
    ----------
    years : sequence of str
        Partitions, next to each other, that one run makes.

    Raises
    ------
    KeyboardInterrupt
        When somebody asked for an end meanwhile. The run is then marked as cancelled.
    """
    import sqlalchemy.orm  # noqa: F401 (whole before threads ask: MLflow imports it in a step, beside `_tell_waits`)

    run_id, told = make_new_run_id(), set[str]()
    tags = {HOST_TAG: this_host(), PROCESS_TAG: THIS_PROCESS, REPOSITORY_LABEL_TAG: SHOWN_AS}
    if years:
        tags |= {ASSET_PARTITION_RANGE_START_TAG: years[0], ASSET_PARTITION_RANGE_END_TAG: years[-1]}
    with every(LOOK_SECONDS, lambda: _tell_waits(instance, run_id, told)):
        result = definitions.resolve_job_def(job).execute_in_process(
            instance=instance, run_id=run_id, tags=tags, run_config=QUIET, raise_on_error=False, **chosen
        )
    if not result.success and end_asked():
        cancel_own_runs(instance)
        raise KeyboardInterrupt
    tag_outcome(instance, run_id, result.all_events)
    return result


def tag_outcome(instance: dg.DagsterInstance, run_id: str, events: Iterable[dg.DagsterEvent]) -> str:
    """Say on a run that failed whether a gate was closed or something broke; empty for one that did not fail."""
    refused, broken = failures(events)
    outcome = "broken" if broken else "refused" if refused else ""
    if outcome:
        instance.add_run_tags(run_id, {OUTCOME_TAG: outcome})
    return outcome


def cancel_own_runs(instance: dg.DagsterInstance) -> None:
    """Mark the runs of this process as cancelled, and free the pool slots that they hold."""
    known = dg.DagsterRunStatus
    # An interrupt is a failure to Dagster, and what it met before the start stays there.
    ended = [*IN_PROGRESS_RUN_STATUSES, known.FAILURE, known.NOT_STARTED]
    for run in instance.get_runs(dg.RunsFilter(tags={PROCESS_TAG: THIS_PROCESS}, statuses=ended)):
        if OUTCOME_TAG not in run.tags:
            instance.report_run_canceled(run, "Somebody asked for an end. The next run goes on from here.")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


def run_strategies(
    definitions: dg.Definitions | Callable[[], dg.Definitions],
    lineage: Lineage,
    strategies: Sequence[str],
    instance: dg.DagsterInstance,
    home: Home,
    heading: Callable[[str], None],
) -> list[StrategyOutcome]:
    """Materialise the lineage of each strategy and end with its decision.

    What is settled is not run: see `quant_assets.lineage.settled`.

    Parameters
    ----------
    definitions : Definitions, or callable
        Called when something has to be run.
    heading : callable
        Told of each part as it starts.
    """
    made = cache(definitions if callable(definitions) else lambda: definitions)
    names = {s: names_of(node.key for node in lineage.of(s)) for s in strategies}
    _log.info("plan", names=sorted({name for line in names.values() for name in line}))
    ready: set[str] = set()
    outcomes = []
    for strategy in strategies:
        universe = lineage.scope(strategy).bars
        heading(f"{strategy} on {universe.name}")
        before = settled_before(lineage, strategy, instance, home)
        if before.refusal is not None:
            seen, sheet, aside = _seen(lineage, strategy, instance, home)
            said = StrategyOutcome(strategy, "refused", seen, refusals(seen), sheet, aside, before.since)
            outcomes.append(said)
        elif before.moved and universe.name not in ready and (lost := _run_years(made(), universe, instance)):
            outcomes.append(StrategyOutcome(strategy, "error", (), lost, None))
        else:
            ready |= {universe.name} if before.moved else set()
            outcomes.append(_run_strategy(made(), lineage, strategy, instance, home, before))
        _log.info("ended", names=names[strategy])
    return outcomes


def _run_years(
    definitions: dg.Definitions, universe: UniverseConfig, instance: dg.DagsterInstance
) -> tuple[str, ...]:
    """All years of a universe in one run: what went wrong, empty when nothing did."""
    started = time.perf_counter()
    result = executed(definitions, raw_years_job(universe.name), instance, universe.years)
    if not result.success:
        refused, broken = failures(result.all_events)
        return (*refused, *broken)
    events = [event.materialization for event in result.get_asset_materialization_events()]
    status = "reused" if all(event.metadata["reused"].value for event in events) else "computed"
    name = f"{universe.name}/raw_bars, {len(events)} years"
    _log.info("asset", asset_key=name, status=status, seconds=time.perf_counter() - started)
    return ()


def settled_before(lineage: Lineage, strategy: str, instance: dg.DagsterInstance, home: Home) -> Settled:
    """What of a strategy is as its last run left it."""

    def told(node: Node, partition: str | None) -> dict[str, Any]:
        history = EventHistory(instance, home.store, asset_key(node.key), partition, node.partitions or ())
        options = node.stage.options() if node.stage.options else None
        return effects_of(home, RunFacts("before a run"), history, partition, options)

    def state(key: Key, check: str) -> CheckState:
        return check_state(instance, dg.AssetCheckKey(asset_key(key), check))

    found = settled(lineage, strategy, home, EventLog(instance, home).evidence(), told, state)
    _log.info("settled", strategy=strategy, assets=found.n_assets, moved=found.moved)
    return found


def _seen(
    lineage: Lineage, strategy: str, instance: dg.DagsterInstance, home: Home
) -> "tuple[tuple[Verdict, ...], Location | None, tuple[str, ...]]":
    """Verdicts, tear sheet and what was set aside, of the newest versions."""
    event = latest_event(instance, dg.AssetKey([lineage.scope(strategy).bars.name, "quarantined_bars"]), None)
    aside = set_aside(event.metadata if event else {})
    sheet = latest_event(instance, dg.AssetKey([strategy, "tear_sheet"]), None)
    file = located(str(sheet.metadata["file"].value)) if sheet and "file" in sheet.metadata else None
    return strategy_verdicts(EventLog(instance, home), lineage, strategy), file, aside


def _run_strategy(
    definitions: dg.Definitions,
    lineage: Lineage,
    strategy: str,
    instance: dg.DagsterInstance,
    home: Home,
    before: Settled,
) -> StrategyOutcome:
    decision, reads = asset_key(lineage.decision(strategy).key), lineage.decision(strategy).parents
    # With nothing before it to be made, the decision is asked for alone, and what follows it.
    after = [asset_key(n.key) for n in lineage.of(strategy) if n.stage.guarded] if before.upstream else None
    result = executed(definitions, strategy, instance, asset_selection=after)
    refused, broken = failures(result.all_events)
    closed = closed_upstream(lineage, strategy, judged_in(result))
    made = {tuple(e.asset_key.path) for e in result.get_asset_materialization_events() if e.asset_key}
    asked = {event.step_key for event in result.all_events if event.is_step_start}
    if before.moved and closed and waits(lineage, strategy, made):
        instance.add_run_tags(result.run_id, {OUTCOME_TAG: "blocked"})
        aside = _seen(lineage, strategy, instance, home)[2]
        return StrategyOutcome(strategy, "blocked", (), (*closed, *broken), None, aside)
    unasked = refused if not broken and "__".join(decision.path) not in asked else []
    if unasked and all(latest_event(instance, asset_key(key), None) for key in reads):
        # What is closed kept the decision from running: asked on its own it refuses in its body, into the ledger.
        unasked = []
        result = executed(definitions, strategy, instance, asset_selection=[decision])
        _, broken = failures(result.all_events)
    verdicts, sheet, aside = _seen(lineage, strategy, instance, home)
    ending = "error" if broken else "promoted" if result.success else "refused"
    reasons = (*closed, *broken) if broken else (*closed, *unasked, *refusals(verdicts))
    return StrategyOutcome(strategy, ending, verdicts, reasons, sheet, aside)


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
