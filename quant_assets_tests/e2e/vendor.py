"""A vendor's file that gets rewritten, and a daemon that ticks sensors and executes what they ask for."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import dagster as dg
import polars as pl
import yaml
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest

from quant_assets.defs.running import QUIET
from quant_assets.market.sources.sources import read_bars
from quant_assets_tests.e2e.lineage import Lineage, edit, lineage_in, small_proof

UNIVERSE = "edge_market"


def sell_by_file(folder: Path) -> None:
    """Make the edge market of a built lineage the same bars from a Parquet file, and its only strategy ``edge``."""
    with lineage_in(folder) as lineage:
        bars = read_bars(lineage.settings.universes[UNIVERSE]).bars
    bars.write_parquet(folder / "vendor.parquet")
    (folder / "configs" / "strategies" / "noise.yaml").unlink()
    file = folder / "configs" / "universes" / f"{UNIVERSE}.yaml"
    source = {"kind": "parquet", "path": str(folder / "vendor.parquet")}
    edit(file, {**yaml.safe_load(file.read_text()), "source": source})


@contextmanager
def vendor_in(folder: Path, file: Path | None = None) -> Iterator["Vendor"]:
    """Open a lineage whose market comes from a file, ``vendor.parquet`` beside it unless given."""
    with lineage_in(folder) as lineage:
        yield Vendor(lineage, file or folder / "vendor.parquet")


@dataclass
class Vendor:
    """The lineage and the file that it is made from."""

    lineage: Lineage
    file: Path

    def rewrite(self, symbol: str, session: date, *columns: str, factor: float) -> None:
        """Multiply values of one bar in the file."""
        bars = pl.read_parquet(self.file)
        here = (pl.col("symbol") == symbol) & (pl.col("session") == session)
        assert bars.filter(here).height == 1
        changed = bars.with_columns(
            pl.when(here).then(pl.col(column) * factor).otherwise(pl.col(column)).alias(column)
            for column in columns
        )
        changed.write_parquet(self.file)


@dataclass
class Daemon:
    """Ticks sensors as the daemon does: same run key never twice, ``stale_assets_only`` resolved at the tick."""

    lineage: Lineage
    cursors: dict[str, str | None] = field(default_factory=dict)
    skipped: str = ""

    def tick(self, name: str) -> list[dg.DagsterRun]:
        """Evaluate a sensor once and execute what it asks for."""
        definitions, instance = self.lineage.definitions, self.lineage.instance
        sensor = definitions.resolve_sensor_def(name)
        context = dg.build_sensor_context(
            instance=instance,
            cursor=self.cursors.get(name),
            definitions=definitions,
            resources={"home": self.lineage.home},
        )
        answer = sensor.evaluate_tick(context)
        self.cursors[name] = answer.cursor
        self.skipped = answer.skip_message or ""
        runs = []
        for request in answer.run_requests or []:
            tags = {**request.tags, "dagster/run_key": str(request.run_key), "dagster/sensor_name": name}
            key = {k: tags[k] for k in ("dagster/run_key", "dagster/sensor_name")}
            selection = list(request.asset_selection) if request.asset_selection is not None else None
            if request.stale_assets_only:
                now_stale = stale(self.lineage)
                selection = [k for k in selection or [] if k.to_user_string() in now_stale]
                if not selection:
                    continue
            if instance.get_run_records(dg.RunsFilter(tags=key), limit=1):
                continue
            job = definitions.resolve_job_def(request.job_name or request.tags["quant/strategy"])
            with small_proof():
                result = job.execute_in_process(
                    instance=instance,
                    partition_key=request.partition_key,
                    asset_selection=selection,
                    tags=tags,
                    run_config=QUIET,
                    raise_on_error=False,
                )
            runs.append(result.dagster_run)
        return runs

    def settle(self, name: str, limit: int = 12) -> list[dg.DagsterRun]:
        """Tick a sensor until it asks for nothing more."""
        runs: list[dg.DagsterRun] = []
        for _ in range(limit):
            new = self.tick(name)
            if not new:
                return runs
            runs += new
        raise AssertionError(f"{name} still asks for runs after {limit} ticks")


def stale(lineage: Lineage) -> set[str]:
    """Unpartitioned assets that the UI shows as stale or missing."""
    graph = lineage.definitions.resolve_asset_graph()
    resolver = CachingStaleStatusResolver(lineage.instance, graph, LoadingContextForTest(lineage.instance))
    keys = graph.get_all_asset_keys()
    return {k.to_user_string() for k in keys if resolver.get_status(k).value in ("STALE", "MISSING")}


def made(lineage: Lineage, run: dg.DagsterRun) -> set[str]:
    """What a run materialised, by the event log: names of assets, with the year of a partition."""
    events = lineage.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    names = set()
    for entry in events:
        event = entry.dagster_event
        assert event is not None
        assert event.asset_key is not None
        names.add(event.asset_key.to_user_string() + (f"[{event.partition}]" if event.partition else ""))
    return names
