"""The sensor `new_bars`: reads each universe's source when it has changed, and asks for the years that differ."""

import json
from collections.abc import Sequence
from typing import Any

import dagster as dg

from quant_assets.common.errors import QuantAssetsError
from quant_assets.common.hashing import combined_fingerprint
from quant_assets.common.settings import UniverseConfig
from quant_assets.defs.storage import DATA_VERSION_TAG
from quant_assets.defs.vintages import event_of, record_at
from quant_assets.lineage.settings import Settings
from quant_assets.market.revisions import KnownYear, content_versions, decide, source_state

TRIGGER = "new_bars"
FAILED = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


def raw_bars_job(universe: str) -> str:
    """Name of the job that materialises one year of a universe."""
    return f"{universe}_raw_bars"


def build(
    settings: Settings,
    jobs: Sequence[Any],
    default_status: dg.DefaultSensorStatus,
    interval_seconds: int,
) -> dg.SensorDefinition:
    """The sensor over the ``<universe>_raw_bars`` jobs."""
    names = sorted({config.universe for config in settings.strategies.values()})

    @dg.sensor(
        name="new_bars",
        minimum_interval_seconds=interval_seconds,
        default_status=default_status,
        jobs=list(jobs),
        description="Asks for the years whose bars the source gives differently now, and for no other.",
    )
    def new_bars(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        # {universe: {"state": identity of the source, "versions": {year: version}}}: what was read, so that an
        # unchanged file is not read again, also after a restart. What to do is decided anew from the event log.
        memory: dict[str, dict[str, dict[str, str] | str]] = (
            json.loads(context.cursor) if context.cursor else {}
        )
        remembered = {name: memory[name] for name in names if name in memory}
        requests: list[dg.RunRequest] = []
        notes = []
        for name in names:
            universe = settings.universes[name]
            try:
                versions = _versions(universe, remembered, raw_code_version(context, name))
            except (QuantAssetsError, OSError) as error:
                # Shown in the tick; what was known of this and other universes stays, and the next tick tries again.
                notes.append(f"{name}: the source cannot be read: {error}")
                context.log.warning(notes[-1])
                continue
            known = _known_years(context.instance, universe)
            failed = _failed_runs(context.instance, name)
            wanted, note = decide(name, versions, known, failed)
            notes.append(note)
            requests += [
                dg.RunRequest(
                    run_key=request.run_key,
                    job_name=raw_bars_job(name),
                    partition_key=request.year,
                    tags={
                        "quant/trigger": TRIGGER,
                        "quant/universe": name,
                        "quant/reason": request.reason,
                        "quant/content": request.version,
                    },
                )
                for request in wanted
            ]
        cursor = json.dumps(remembered, sort_keys=True)
        if not requests:
            return dg.SensorResult(skip_reason="; ".join(notes), cursor=cursor)
        return dg.SensorResult(run_requests=requests, cursor=cursor)

    return new_bars


def raw_code_version(context: dg.SensorEvaluationContext, universe: str) -> str:
    """Code version of a universe's raw bars: other code may read the same file differently."""
    if context.repository_def is None:
        return ""
    return context.repository_def.asset_graph.get(dg.AssetKey([universe, "raw_bars"])).code_version or ""


def _versions(
    universe: UniverseConfig, remembered: dict[str, dict[str, dict[str, str] | str]], code: str
) -> dict[str, str]:
    """Content version of each year, from memory when the source is as it was; updates the memory."""
    state = combined_fingerprint([source_state(universe), code])
    entry = remembered.get(universe.name, {})
    versions = entry.get("versions")
    if entry.get("state") == state and isinstance(versions, dict):
        return versions
    read = content_versions(universe)
    remembered[universe.name] = {"state": state, "versions": read}
    return read


def _known_years(instance: dg.DagsterInstance, universe: UniverseConfig) -> dict[str, KnownYear]:
    """The newest vintage of each year that was ever materialised."""
    known = {}
    for year in universe.years:
        record = record_at(instance, dg.AssetKey([universe.name, "raw_bars"]), year)
        if record is not None:
            version = (event_of(record).tags or {}).get(DATA_VERSION_TAG, "")
            known[year] = KnownYear(version, record.run_id)
    return known


def _failed_runs(instance: dg.DagsterInstance, universe: str) -> dict[tuple[str, str], int]:
    """How many runs that this sensor asked for have failed, by year and content."""
    tags = {"quant/trigger": TRIGGER, "quant/universe": universe}
    counts: dict[tuple[str, str], int] = {}
    for record in instance.get_run_records(dg.RunsFilter(tags=tags, statuses=FAILED), limit=100):
        found = record.dagster_run.tags
        key = (found.get("dagster/partition", ""), found.get("quant/content", ""))
        counts[key] = counts.get(key, 0) + 1
    return counts
