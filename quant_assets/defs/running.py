"""Running strategies in this process, as ``quant-assets run`` does, and showing them, as ``quant-assets ui``."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from quant_assets.common.configuration import config_dir
from quant_assets.common.errors import clearest
from quant_assets.common.files import Location, located
from quant_assets.common.home import Home
from quant_assets.common.same_origin import SameOrigin
from quant_assets.defs.assets import asset_key
from quant_assets.defs.storage import artifact_of, latest_event
from quant_assets.gates.verdicts import GateReport, Verdict
from quant_assets.lineage.graph import Lineage

# Dagster's own console lines would drown the progress lines; everything is in the run's event log.
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}

# Errors that mean "refused by a gate" and not "something broke".
REFUSALS = frozenset({"DagsterAssetCheckFailedError", "GateClosed"})


@dataclass(frozen=True)
class StrategyOutcome:
    """What running one strategy ended with.

    Attributes
    ----------
    decision : {"promoted", "refused", "error"}
    verdicts : tuple of Verdict
        Every verdict about the candidate, in the order of the gates.
    reasons : tuple of str
        Why it was refused, or what broke.
    """

    strategy: str
    decision: str
    verdicts: tuple[Verdict, ...]
    reasons: tuple[str, ...]
    tear_sheet: "Location | None"


def dagster_home(home: Path | None = None) -> Path:
    """The Dagster instance folder below the platform's home, with its ``dagster.yaml`` in place."""
    folder = Home(str(home) if home else "").local_folder("dagster", "Dagster's instance")
    target = folder / "dagster.yaml"
    if not target.exists():
        shipped = config_dir().resolve().parent / "infra" / "dagster" / "sqlite.yaml"
        if shipped.exists():
            shutil.copyfile(shipped, target)
        else:
            target.write_text("telemetry: {enabled: false}\n", encoding="utf-8")
    return folder


def open_instance(home: Path | None = None) -> dg.DagsterInstance:
    """The Dagster instance of the platform's home: the one that ``make dev`` shows."""
    return dg.DagsterInstance.from_config(str(dagster_home(home)))


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


def _run_years(
    definitions: dg.Definitions, universe: str, years: Sequence[str], instance: dg.DagsterInstance
) -> list[str]:
    job = definitions.resolve_job_def(raw_years_job(universe))
    for year in years:
        result = job.execute_in_process(
            instance=instance, partition_key=year, run_config=QUIET, raise_on_error=False
        )
        if not result.success:
            refused, broken = failures(result)
            return refused + broken
    return []


def _run_strategy(
    definitions: dg.Definitions, lineage: Lineage, strategy: str, instance: dg.DagsterInstance, home: Home
) -> StrategyOutcome:
    job = definitions.resolve_job_def(strategy)
    result = job.execute_in_process(instance=instance, run_config=QUIET, raise_on_error=False)
    refused, broken = failures(result)
    if refused and not broken:
        # The blocking checks kept the decision from running. Asked on its own it refuses in its body, and
        # writes the refusal with every reason into the ledger and the registry.
        result = job.execute_in_process(
            instance=instance,
            run_config=QUIET,
            raise_on_error=False,
            asset_selection=[asset_key(lineage.decision(strategy).key)],
        )
        _, broken = failures(result)
    verdicts = strategy_verdicts(instance, home, lineage, strategy)
    decision = "error" if broken else "promoted" if result.success else "refused"
    reasons = tuple(broken) or tuple(
        f"{v.gate}: {v.reason}. {v.remedy}" for v in verdicts if v.status not in ("pass", "not_applicable")
    )
    sheet = latest_event(instance, dg.AssetKey([strategy, "tear_sheet"]), None)
    file = located(str(sheet.metadata["file"].value)) if sheet and "file" in sheet.metadata else None
    return StrategyOutcome(strategy, decision, verdicts, reasons, file)


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
    """Serve the UI with its daemon until interrupted, as ``dagster dev`` does, behind `SameOrigin`.

    Both share one code server. Returns the exit code: 0, or that of a daemon that stopped by itself.
    """
    import uvicorn
    import yaml
    from dagster._cli.proxy_server_manager import ProxyServerManager
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import ModuleTarget, WorkspaceFileTarget
    from dagster_webserver.app import create_app_from_workspace_process_context

    os.environ["DAGSTER_HOME"] = str(dagster_home())
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
            app = SameOrigin(create_app_from_workspace_process_context(context, "", 2000), hosts)
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
