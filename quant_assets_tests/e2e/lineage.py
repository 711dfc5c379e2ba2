"""A small lineage for tests: real Dagster instances and runs over two seeded markets, with and without an edge."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest.mock import patch

import dagster as dg
import yaml
from typer.testing import CliRunner

from quant_assets.common.home import Home
from quant_assets.definitions import build_definitions
from quant_assets.defs.running import QUIET, open_instance, run_strategies
from quant_assets.defs.storage import Home as HomeResource
from quant_assets.defs.storage import artifact_of
from quant_assets.gates.gate import gates_of
from quant_assets.gates.limits import GatesConfig
from quant_assets.gates.verdicts import StrategyOutcome
from quant_assets.ledgers.promotions import LedgerEntry, PromotionLedger
from quant_assets.lineage.artifact import Artifact
from quant_assets.lineage.configured import Settings, load_settings
from quant_assets.lineage.graph import Lineage as Graph
from quant_assets.studies.leakage import fitted, prover

SHIPPED = Path(__file__).resolve().parents[2] / "configs"

UNIVERSE = {"calendar": "XNYS", "start": "2017-01-03", "end": "2022-06-30"}
SOURCE = {"kind": "synthetic", "seed": 5, "n_symbols": 12}
# A strong edge on a short record: the shipped limits, a tenth of the shipped work.
EDGE = {"transient_sd": 0.04, "half_life_sessions": 5}  # as that of the shipped market, see its file
STRATEGY = {
    "validation": {"n_groups": 4, "n_test_groups": 2},
    # Half a minute each time, and nothing depends on them: `test_reports` makes them once.
    "reports": {"importance": False, "inference_benchmark": False},
    "models": {
        "lightgbm": {"n_estimators": 15, "learning_rate": 0.2, "min_data_in_leaf": 50},
        "xgboost": {"n_estimators": 15, "learning_rate": 0.2, "max_depth": 3, "min_child_weight": 50},
        "stacker": {"inner_folds": 2},
    },
}


@contextmanager
def small_proof() -> Iterator[None]:
    """The proof of no leakage on a quarter of rows and shuffles: it is half of a run, and has tests of its own."""
    few = partial(prover.prove_no_leak, n_shuffles=3)
    with patch.object(fitted, "ROWS", fitted.ROWS // 4), patch.object(prover, "prove_no_leak", few):
        yield


def write_configuration(folder: Path) -> Path:
    """A configuration of two strategies, ``edge`` and ``noise``, under the shipped gates."""
    for kind in ("universes", "strategies"):
        (folder / kind).mkdir(parents=True)
    for name in ("gates.yaml", "monitoring.yaml"):
        shutil.copy(SHIPPED / name, folder / name)
    for name, source in (("edge", {**SOURCE, "edge": EDGE}), ("noise", SOURCE)):
        edit(folder / "universes" / f"{name}_market.yaml", {**UNIVERSE, "source": source})
        edit(folder / "strategies" / f"{name}.yaml", {**STRATEGY, "universe": f"{name}_market"})
    return folder


def edit(file: Path, content: dict[str, object]) -> None:
    """Write a YAML file."""
    file.write_text(yaml.safe_dump(content), encoding="utf-8")


@dataclass
class Lineage:
    """A configuration, a home and a Dagster instance, and the definitions of the moment."""

    folder: Path
    instance: dg.DagsterInstance
    settings: Settings
    definitions: dg.Definitions
    home: Home

    @property
    def graph(self) -> Graph:
        """The lineage that the configuration describes."""
        return Graph(self.settings)

    @property
    def configs(self) -> Path:
        return self.folder / "configs"

    def reload(self) -> None:
        """Read the configuration again, as the code location does when it is reloaded."""
        self.settings = load_settings(self.configs, self.folder / "adopted")
        self.definitions = build_definitions(self.settings, HomeResource(root=self.home.root))

    def loosen(self) -> None:
        """Put limits that let anything through in the place of the shipped ones, past every bound of the file.

        What somebody can do who decides what the code location loads. `reload` puts the file's back.
        """
        verdicts = [gate.limit for kind in GatesConfig.kinds for gate in gates_of(kind)]
        loose = {
            limit.key: limit.default - 10 if limit.comparison == ">=" else 10 * (limit.default + 10)
            for limit in verdicts
        }
        gates = self.settings.gates.model_copy(update=loose)
        self.settings = self.settings.model_copy(update={"gates": gates})
        self.definitions = build_definitions(self.settings, HomeResource(root=self.home.root))

    def change_strategy(self, name: str, **changes: object) -> None:
        """Change one strategy's file, and reload."""
        file = self.configs / "strategies" / f"{name}.yaml"
        edit(file, {**yaml.safe_load(file.read_text()), **changes})
        self.reload()

    def run(self, *strategies: str) -> list[StrategyOutcome]:
        """As ``quant-assets run`` does."""
        with small_proof():
            return run_strategies(
                self.definitions, self.graph, strategies, self.instance, self.home, lambda _: None
            )

    def materialise(
        self, strategy: str, assets: Sequence[str], *, checks: bool = True
    ) -> dg.ExecuteInProcessResult:
        """One run of some of a strategy's assets, with or without their checks."""
        selection = dg.AssetSelection.assets(*[dg.AssetKey([strategy, name]) for name in assets])
        job = dg.define_asset_job("chosen", selection if checks else selection.without_checks())
        definitions = dg.Definitions.merge(self.definitions, dg.Definitions(jobs=[job]))
        with small_proof():
            return definitions.resolve_job_def("chosen").execute_in_process(
                instance=self.instance, run_config=QUIET, raise_on_error=False
            )

    def event(self, *path: str, partition: str | None = None) -> dg.AssetMaterialization | None:
        """The newest materialization of an asset."""
        from quant_assets.defs.storage import latest_event

        return latest_event(self.instance, dg.AssetKey(list(path)), partition)

    def version(self, *path: str, partition: str | None = None) -> str:
        """Digest of the content of an asset's newest materialization."""
        event = self.event(*path, partition=partition)
        assert event is not None
        return artifact_of(event, self.home.store).version

    def artifact(self, *path: str) -> Artifact:
        """The newest version of an asset."""
        event = self.event(*path)
        assert event is not None
        return artifact_of(event, self.home.store)

    def command(self, *arguments: str) -> tuple[int, str]:
        """Exit code and output of ``quant-assets``, on one line, with this home and this configuration."""
        from quant_assets.cli.main import app

        chosen = self.folder / "chosen"  # the home's own `configs` would be read as a second folder
        self.configs.rename(chosen)
        try:
            environment = {"QUANT_ASSETS_HOME": self.home.root, "QUANT_ASSETS_CONFIGS": str(chosen)}
            result = CliRunner().invoke(app, list(arguments), env=environment)
        finally:
            chosen.rename(self.configs)
        return result.exit_code, " ".join(f"{result.output} {result.exception or ''}".split())

    def decisions(self, strategy: str) -> tuple[LedgerEntry, ...]:
        """What the promotion ledger says of a strategy, looks at its holdout left out."""
        entries = PromotionLedger(self.home.promotion_ledger).entries(strategy)
        return tuple(entry for entry in entries if entry.action != "shown")

    def champion(self, strategy: str) -> str | None:
        """Subject of the version that the champion alias points to."""
        from quant_assets.registry.champion import current_champion

        pointer = current_champion(self.home.mlflow_uri, strategy)
        return pointer.subject if pointer else None


@contextmanager
def lineage_in(folder: Path) -> Iterator[Lineage]:
    """Open the lineage whose configuration and home are in ``folder``."""
    if not (folder / "configs").exists():
        write_configuration(folder / "configs")
    settings = load_settings(folder / "configs", folder / "adopted")
    definitions = build_definitions(settings, HomeResource(root=str(folder)))
    with open_instance(folder) as instance:
        yield Lineage(folder, instance, settings, definitions, Home(str(folder)))


def failed_steps(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    """Failed steps of a run with the innermost message of each."""
    failed = {}
    for event in result.all_events:
        if event.is_step_failure and event.step_failure_data.error is not None:
            error = event.step_failure_data.error
            failed[event.step_key] = f"{error.message} {error.cause.message if error.cause else ''}"
    return failed


def materialised(result: dg.ExecuteInProcessResult) -> set[str]:
    """Last parts of the keys that a run materialised."""
    return {
        event.asset_key.path[-1] for event in result.get_asset_materialization_events() if event.asset_key
    }
