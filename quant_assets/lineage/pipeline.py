"""Parts of the lineage as functions of frames, for the studies: what is calibrated and proven is what assets run.

Each function gives a stage its inputs, lets the lineage make the next asset, and hands out what is in it. None of
them computes anything of its own.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import polars as pl

from quant_assets.common.home import Home
from quant_assets.common.settings import (
    CostConfig,
    ModelsConfig,
    StrategyConfig,
    SyntheticSource,
    UniverseConfig,
    ValidationConfig,
)
from quant_assets.common.source_settings import LAST_SESSION
from quant_assets.common.store import Table, Value
from quant_assets.datasets.training_set import MIN_SESSIONS
from quant_assets.features.pack import KEYS, join_packs, selected_packs
from quant_assets.gates.limits import DriftConfig, GatesConfig
from quant_assets.gates.verdicts import GateReport
from quant_assets.lineage.artifact import Artifact, asset_name
from quant_assets.lineage.configured import MonitoringConfig, Settings
from quant_assets.lineage.notebook import Run, run
from quant_assets.lineage.scope import research_of
from quant_assets.models.cross_prediction import outer_splitter
from quant_assets.models.fitting import inner_splitter
from quant_assets.splits.purging import Split
from quant_assets.studies.leakage.leakage_report import Pipeline

NO_COSTS = CostConfig(commission_bps=0, half_spread_bps=0, impact_coefficient=0, borrow_fee_bps=0)
JUDGED = "validation_report"
SOME_DAY = date(2000, 1, 3)


def settings_of(
    universe: UniverseConfig, strategy: StrategyConfig, limits: GatesConfig | None = None
) -> Settings:
    """A configuration of one universe and one strategy on it, whatever universe the strategy names."""
    on_it = strategy.model_copy(update={"universe": universe.name})
    return Settings(
        universes={universe.name: universe},
        strategies={strategy.name: on_it},
        gates=limits or GatesConfig(),
        drift=DriftConfig(),
        monitoring=MonitoringConfig(),
    )


# ---------------------------------------------------------------------------------------- verdicts about a market


def judge_market(
    universe: UniverseConfig, strategy: StrategyConfig, limits: GatesConfig, *, n_jobs: int | None = 1
) -> GateReport:
    """Take a strategy from its universe to its verdicts, as its first and only trial.

    Parameters
    ----------
    universe : UniverseConfig
    strategy : StrategyConfig
        Its ``universe`` is not looked up: ``universe`` is what is judged.
    limits : GatesConfig
        The shared limits; the strategy's stricter ones are put in their place.
    n_jobs : int or None, default 1
        Splits fitted at the same time; None for all cores. The verdicts do not depend on it.
    """
    return _report(_judged(universe, strategy, limits, {}, n_jobs))


def judge_with_and_without_costs(
    universe: UniverseConfig, strategy: StrategyConfig, limits: GatesConfig
) -> tuple[GateReport, GateReport]:
    """Verdicts about the same predictions at the strategy's costs and at none, each as the first and only trial."""
    net = _judged(universe, strategy, limits, {}, 1)
    made: Mapping[str, Artifact] = {
        name: net.artifact(name) for name in ("bars", "cpcv_predictions", "ensemble")
    }
    free = strategy.model_copy(update={"costs": NO_COSTS})
    return _report(net), _report(_judged(universe, free, limits, made, 1))


def _judged(
    universe: UniverseConfig,
    strategy: StrategyConfig,
    limits: GatesConfig,
    given: Mapping[str, Artifact],
    n_jobs: int | None,
) -> Run:
    # A ledger of its own: what is calibrated is nobody's trial, and no caller states a number of trials.
    with tempfile.TemporaryDirectory(prefix="calibration-") as folder:
        return run(
            strategy.name,
            settings_of(universe, strategy, limits),
            JUDGED,
            home=Home(folder),
            given=given,
            n_jobs=n_jobs,
        )


def _report(judged: Run) -> GateReport:
    return GateReport.from_json(judged.artifact(JUDGED).json())


# ---------------------------------------------------------------------------------------- stages on trial


def bars_of(raw: pl.DataFrame, universe: UniverseConfig, strategy: StrategyConfig) -> pl.DataFrame:
    """The adjusted panel of raw bars: actions derived, suspicious bars set aside, adjusted, each with its times."""
    panel = "listed_bars" if universe.listed else "reconciled_bars" if universe.alternatives else "raw_bars"
    return _made(strategy, ["bars"], {panel: Table(raw)}, universe).table("bars").frame


def features_of(bars: pl.DataFrame, strategy: StrategyConfig) -> pl.DataFrame:
    """The strategy's feature packs over a panel, side by side."""
    names = [asset_name(pack) for pack in strategy.feature_packs]
    made = _made(strategy, names, {"bars": Table(bars)})
    return join_packs(
        {pack: made.table(name).frame for pack, name in zip(strategy.feature_packs, names, strict=True)}
    )


def labels_of(bars: pl.DataFrame, universe: UniverseConfig, strategy: StrategyConfig) -> pl.DataFrame:
    """Forward returns with the times at which they start, end and are known."""
    return _made(strategy, ["labels"], {"bars": Table(bars)}, universe).table("labels").frame


def training_set_of(
    features: pl.DataFrame, labels: pl.DataFrame, strategy: StrategyConfig, known_by: datetime
) -> Table:
    """Complete feature rows with labels that were known by then."""
    # Of the bars the stage reads only when the session before the holdout closes: any panel that says so will do.
    n_sessions = strategy.holdout_sessions + MIN_SESSIONS
    days = [SOME_DAY + timedelta(days=n) for n in range(n_sessions)]
    bars = pl.DataFrame({"session": days}).with_columns(known_at=pl.lit(known_by))
    given: dict[str, Value] = {"bars": Table(bars), "labels": Table(labels), **_by_pack(features, strategy)}
    return _made(strategy, ["training_set"], given).table("training_set")


def _by_pack(features: pl.DataFrame, strategy: StrategyConfig) -> dict[str, Table]:
    """The tables of each pack again; a column beyond those of the packs is a planted one, and goes with the last."""
    chosen = zip(strategy.feature_packs, selected_packs(strategy.feature_packs), strict=True)
    packs = {named: list(pack.names) for named, pack in chosen}
    known = {column for names in packs.values() for column in names}
    packs[strategy.feature_packs[-1]] += [c for c in features.columns if c not in known and c not in KEYS]
    return {
        asset_name(pack): Table(
            features.select(*KEYS, *names), {"pack": pack, "pack_fingerprint": "on trial"}
        )
        for pack, names in packs.items()
    }


def scored_of(
    features: pl.DataFrame, bars: pl.DataFrame, training_set: Table, strategy: StrategyConfig
) -> pl.DataFrame:
    """Every row of the training window that could be decided on."""
    given: dict[str, Value] = {
        "bars": Table(bars),
        "training_set": training_set,
        **_by_pack(features, strategy),
    }
    return _made(strategy, ["scored_rows"], given).table("scored_rows").frame


def cross_predictions(
    frame: pl.DataFrame,
    feature_names: Sequence[str],
    models: ModelsConfig,
    validation: ValidationConfig,
    *,
    seed: int,
) -> pl.DataFrame:
    """Out-of-sample scores of every row on every path."""
    strategy = StrategyConfig(
        name="probe", universe=_ANY.name, models=models, validation=validation, seed=seed
    )
    given = {
        "training_set": Table(frame, {"features": json.dumps(list(feature_names))}),
        "scored_rows": Table(frame.select("symbol", "session", "t0", *feature_names)),
    }
    return _made(strategy, ["cpcv_predictions"], given).table("cpcv_predictions").frame


def traded(predictions: pl.DataFrame, bars: pl.DataFrame, strategy: StrategyConfig) -> pl.DataFrame:
    """Positions taken from scores, filled, paid for and held: the returns and turnover of each path."""
    given = {"cpcv_predictions": Table(predictions, {"recipe": "on trial"}), "bars": Table(bars)}
    with tempfile.TemporaryDirectory(prefix="on-trial-") as folder:  # it shows paths, and is nobody's trial
        return _made(strategy, ["cpcv_paths"], given, home=Home(folder)).table("cpcv_paths").frame


def outer_splits(t0: Any, t1: Any, strategy: StrategyConfig) -> Iterator[Split]:
    """The splits in which candidates are judged."""
    return outer_splitter(strategy.validation).split(t0, t1)


def inner_splits(t0: Any, t1: Any, strategy: StrategyConfig) -> Iterator[Split]:
    """The splits in which the stacker's out-of-fold predictions are made."""
    folds = inner_splitter(strategy.models.stacker.inner_folds, strategy.validation.embargo_sessions)
    return folds.split(t0, t1)


PRODUCT = Pipeline(
    bars=bars_of,
    features=features_of,
    labels=labels_of,
    training_set=training_set_of,
    scored=scored_of,
    splits=outer_splits,
    inner_splits=inner_splits,
    cross_predict=cross_predictions,
    decisions=traded,
)

# Stages that read no more of a universe than its name.
_ANY = UniverseConfig(
    name="panel",
    source=SyntheticSource(kind="synthetic", seed=0, n_symbols=2),
    start=SOME_DAY,
    end=LAST_SESSION,
)


def _made(
    strategy: StrategyConfig,
    upto: Sequence[str],
    given: Mapping[str, Value],
    universe: UniverseConfig | None = None,
    home: Home | None = None,
) -> Run:
    untuned = research_of(strategy).model_copy(update={"tuning": None})
    return run(untuned.name, settings_of(universe or _ANY, untuned), upto, given=given, home=home or _NOWHERE)


# No other of the stages above writes anything.
_NOWHERE = Home("memory://nowhere")
