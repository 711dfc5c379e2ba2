"""Every planted leak is caught, and named; clean pipelines raise no alarm."""

from dataclasses import replace
from datetime import date

import polars as pl
import pytest

from quant_assets.common.errors import ValidationError
from quant_assets.common.hashing import canonical_json
from quant_assets.common.settings import (
    EarlyStoppingConfig,
    Edge,
    LabelConfig,
    LightGBMConfig,
    ModelsConfig,
    StrategyConfig,
    SyntheticSource,
    UniverseConfig,
    ValidationConfig,
    WeightsConfig,
)
from quant_assets.lineage.configured import load_settings
from quant_assets.lineage.notebook import run
from quant_assets.lineage.pipeline import PRODUCT, settings_of
from quant_assets.studies.leakage.fitted import probe_of
from quant_assets.studies.leakage.leakage_report import STAGES, Evidence, LeakageReport, Pipeline, Stage
from quant_assets.studies.leakage.prover import prove_no_leak
from quant_assets_tests.studies.leakage import planted

STRATEGY = StrategyConfig(name="on_trial", universe="market")
ONE_LEARNER = STRATEGY.model_copy(update={"models": ModelsConfig(lightgbm=LightGBMConfig(), xgboost=None)})
# A smooth model in place of the trees: a hundred times faster, and no less sensitive.
QUICK = replace(PRODUCT, cross_predict=planted.ridge())


def market(transient_sd: float = 0.0) -> UniverseConfig:
    edge = Edge(transient_sd=transient_sd, half_life_sessions=5) if transient_sd else None
    source = SyntheticSource(kind="synthetic", seed=11, n_symbols=5, edge=edge)
    return UniverseConfig(name="market", source=source, start=date(2019, 1, 2), end=date(2023, 12, 29))


def adjusted_bars(universe: UniverseConfig) -> pl.DataFrame:
    """The adjusted panel of a universe, as the lineage makes it."""
    return run(STRATEGY.name, settings_of(universe, STRATEGY), "bars").table("bars").frame


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    return adjusted_bars(market())


def proven(
    bars: pl.DataFrame, pipeline: Pipeline = QUICK, strategy: StrategyConfig = STRATEGY
) -> LeakageReport:
    return prove_no_leak(market(), strategy, bars, pipeline=pipeline)


def findings(report: LeakageReport, stage: Stage) -> str:
    return " | ".join(e.finding for e in report.evidence if e.stage == stage and e.violations)


# ------------------------------------------------------------------------------------------------ clean pipelines


@pytest.mark.parametrize("transient_sd", [0.0, 0.03])
def test_the_products_own_pipeline_raises_no_alarm_on_noise_or_on_an_edge(transient_sd: float) -> None:
    universe = market(transient_sd)
    report = prove_no_leak(universe, STRATEGY, adjusted_bars(universe), pipeline=PRODUCT, n_shuffles=6)
    assert report.passed, report.summary
    assert {e.stage for e in report.evidence} == set(STAGES)


@pytest.mark.drill
def test_the_shipped_strategy_on_real_bars_raises_no_alarm() -> None:
    settings = load_settings()
    strategy = settings.strategies["us_tech_daily"]
    universe = settings.universe_of(strategy)
    report = prove_no_leak(universe, strategy, adjusted_bars(universe), pipeline=PRODUCT)
    assert report.passed, report.summary
    assert report.leaking_stages == report.unproven_stages == ()


def test_a_strategy_of_single_test_groups_and_one_learner_is_proven_too(bars: pl.DataFrame) -> None:
    strategy = STRATEGY.model_copy(
        update={
            "models": ModelsConfig(lightgbm=LightGBMConfig(), xgboost=None),
            "validation": ValidationConfig(n_groups=4, n_test_groups=1, embargo_sessions=0),
        }
    )
    report = prove_no_leak(market(), strategy, bars, pipeline=PRODUCT, n_shuffles=4)
    assert report.passed, report.summary


def test_a_label_that_ends_at_a_touch_raises_no_alarm(bars: pl.DataFrame) -> None:
    report = proven(bars, strategy=STRATEGY.model_copy(update={"label": LabelConfig(kind="triple_barrier")}))
    assert report.passed, report.summary


WEIGHED_AND_STOPPED = STRATEGY.model_copy(
    update={
        "models": ModelsConfig(
            lightgbm=LightGBMConfig(),
            xgboost=None,
            weights=WeightsConfig(uniqueness=True, time_decay=0.5),
            early_stopping=EarlyStoppingConfig(rounds=5),
        )
    }
)


def test_the_proof_is_about_the_strategys_own_way_of_fitting() -> None:
    own, tried = WEIGHED_AND_STOPPED.models, probe_of(WEIGHED_AND_STOPPED, 5_000).models
    assert tried.weights == own.weights
    assert tried.early_stopping is not None
    shared = STRATEGY.model_copy(update={"models": ModelsConfig(binning="shared")})
    assert probe_of(shared, 5_000).models.binning == "shared"
    assert probe_of(STRATEGY, 5_000).models.early_stopping is None


def test_weights_and_early_stopping_raise_no_alarm(bars: pl.DataFrame) -> None:
    report = prove_no_leak(market(), WEIGHED_AND_STOPPED, bars, pipeline=PRODUCT, n_shuffles=4)
    assert report.passed, report.summary


def test_the_same_bars_give_the_same_report_to_the_bit(bars: pl.DataFrame) -> None:
    assert canonical_json(proven(bars).to_json()) == canonical_json(proven(bars).to_json())


# --------------------------------------------------------------------------------------------------- planted leaks

LEAKS: dict[str, tuple[Stage, Pipeline, str]] = {
    "a leap set aside because it came back": (
        "bars", replace(QUICK, bars=planted.bars_without_what_came_back), "came after them"),
    "features that never saw a leap": (
        "features", replace(QUICK, features=planted.features_without_what_came_back), "what a leap turned out to be"),
    "a feature shifted by -1": (
        "features", replace(QUICK, features=planted.feature_of_tomorrow), "ret_1"),
    "tomorrow's candle": (
        "features", replace(QUICK, features=planted.candle_of_tomorrow), "ret_1"),
    "a feature standardised by all of history": (
        "features", replace(QUICK, features=planted.features_scaled_by_everything), "rsi_14"),
    "rows that survived what came later": (
        "features", replace(QUICK, features=planted.survivors_only), "nma_9"),
    "an adjusted price level": (
        "features", replace(QUICK, features=planted.price_level), "scale of prices"),
    "labels known before they ended": (
        "labels", replace(QUICK, labels=planted.labels_known_too_early), "already known"),
    "a target-encoded column": (
        "training_set", replace(QUICK, training_set=planted.target_encoded), "encoded"),
    "a training set that ignores known_at": (
        "training_set", replace(QUICK, training_set=planted.labels_of_any_time), "not known in time"),
    "a purge of zero in the outer splits": (
        "folds", replace(QUICK, splits=planted.unpurged), "label overlaps"),
    "a purge of zero in the stacker's splits": (
        "folds", replace(QUICK, inner_splits=planted.unpurged), "label overlaps"),
    "rows scored by whether they have an outcome": (
        "scored_rows", replace(QUICK, scored=planted.rows_with_an_outcome), "whether their name goes on"),
    "a forgotten embargo": (
        "folds", replace(QUICK, splits=planted.without_embargo), "embargo"),
    "a purge of zero inside the models' own splits": (
        "folds", replace(QUICK, cross_predict=planted.ridge(purged=False)), "purge and embargo"),
    "a scaler fitted on everything": (
        "models", replace(QUICK, cross_predict=planted.ridge(planted.scaled_by_everything)), "tests were altered"),
    "a scaler fitted on everything before trees": (
        "models", replace(QUICK, cross_predict=planted.trees_on_inputs_scaled_by_everything), "tests were altered"),
    "a target encoding inside the models": (
        "models", replace(QUICK, cross_predict=planted.encoding_inside_the_models), "tests were altered"),
    "a fill before its decision": (
        "decisions", replace(QUICK, decisions=planted.filled_before_decided), "turnover"),
    "impact charged on adjusted prices": (
        "decisions", replace(QUICK, decisions=planted.impact_of_adjusted_prices), "the scale of prices"),
    "positions sized with the whole track": (
        "decisions", replace(QUICK, decisions=planted.positions_scaled_by_everything), "turnover"),
}  # fmt: skip


@pytest.mark.parametrize("leak", LEAKS)
def test_a_planted_leak_is_caught_and_its_stage_named_alone(leak: str, bars: pl.DataFrame) -> None:
    stage, pipeline, clue = LEAKS[leak]
    report = prove_no_leak(market(), ONE_LEARNER, bars, pipeline=pipeline, n_shuffles=6)
    assert not report.passed
    assert report.leaking_stages == (stage,), report.summary
    assert clue in findings(report, stage)
    assert stage in report.summary


def test_bars_stamped_before_their_close_are_caught_as_bars(bars: pl.DataFrame) -> None:
    early = bars.with_columns(pl.col("known_at") - pl.duration(minutes=1))
    assert proven(early).leaking_stages == ("bars",)


def test_two_leaks_are_both_named_in_the_order_of_the_lineage(bars: pl.DataFrame) -> None:
    both = replace(QUICK, features=planted.feature_of_tomorrow, splits=planted.unpurged)
    assert proven(bars, both).leaking_stages == ("features", "folds")


def test_shuffled_labels_that_can_still_be_predicted_betray_a_target_encoding(bars: pl.DataFrame) -> None:
    report = proven(bars, replace(QUICK, training_set=planted.target_encoded))
    shuffled = next(e for e in report.evidence if e.experiment == "labels shuffled")
    assert (shuffled.stage, shuffled.violations) == ("training_set", 2)
    assert "is not centred on 0" in shuffled.finding
    inside = proven(bars, replace(QUICK, cross_predict=planted.encoding_inside_the_models))
    assert {e.stage for e in inside.evidence if e.experiment == "labels shuffled"} == {"models"}


# ------------------------------------------------------------------------------------------- no evidence, no proof


def test_a_model_that_nothing_moves_is_unproven_and_does_not_pass(bars: pl.DataFrame) -> None:
    report = proven(bars, replace(QUICK, cross_predict=planted.nothing_learned))
    assert not report.passed
    assert report.leaking_stages == ()
    assert report.unproven_stages == ("folds", "models")
    assert "unproven" in report.summary


def test_a_report_without_a_stage_does_not_pass() -> None:
    shown = tuple(Evidence(stage, "x", 1, 0, 1, "fine") for stage in STAGES[1:])
    report = LeakageReport("s", "u", 1, shown)
    assert not report.passed
    assert report.unproven_stages == ("bars",)
    assert LeakageReport("s", "u", 1, (Evidence("bars", "x", 1, 0, None, "fine"), *shown)).passed


def test_one_shuffle_is_refused(bars: pl.DataFrame) -> None:
    with pytest.raises(ValidationError, match="at least 2 shuffles"):
        prove_no_leak(market(), STRATEGY, bars, pipeline=QUICK, n_shuffles=1)
