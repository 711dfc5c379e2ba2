"""A draft is seen, counted like every look, and never promoted, whichever way it is handed on."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from quant_assets.common.errors import ConfigurationError, EvidenceError, GateClosedError
from quant_assets.common.home import Home
from quant_assets.common.settings import (
    LightGBMConfig,
    ModelsConfig,
    StrategyConfig,
    SyntheticSource,
    UniverseConfig,
    ValidationConfig,
    XGBoostConfig,
)
from quant_assets.common.store import Table
from quant_assets.gates.panel_identity import panel_digest
from quant_assets.ledgers.trials import TrialLedger, trial_of
from quant_assets.lineage import drafting
from quant_assets.lineage.artifact import Held
from quant_assets.lineage.drafting import Draft, changed, draft, parsed_changes
from quant_assets.lineage.notebook import Run, run
from quant_assets.lineage.pipeline import settings_of

UNIVERSE = UniverseConfig(
    name="little",
    source=SyntheticSource(kind="synthetic", seed=4, n_symbols=5),
    start=date(2020, 1, 2),
    end=date(2022, 6, 30),
)
STRATEGY = StrategyConfig(
    name="first_look",
    universe="little",
    models=ModelsConfig(
        lightgbm=LightGBMConfig(n_estimators=5, min_data_in_leaf=20),
        xgboost=XGBoostConfig(n_estimators=5, min_child_weight=20),
    ),
    validation=ValidationConfig(n_groups=4, n_test_groups=2, embargo_sessions=5),
)
SETTINGS = settings_of(UNIVERSE, STRATEGY)
BOOK = "little.forward_return"


def tried(home: Home, changes: Mapping[str, Any] | None = None) -> Draft:
    return draft("first_look", changed(SETTINGS, "first_look", changes or {}), home=home, n_jobs=1)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(str(tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="module")
def first(home: Home) -> Draft:
    return tried(home)


@pytest.fixture(scope="module")
def again(first: Draft, home: Home) -> Draft:
    return tried(home)


@pytest.fixture(scope="module")
def cheaper(again: Draft, home: Home) -> Draft:
    return tried(home, {"costs.commission_bps": 0.1, "models.stacker.ridge_alpha": 50.0})


@pytest.fixture(scope="module")
def whole(cheaper: Draft, home: Home) -> Run:
    """The full run of the same configuration, after the drafts."""
    return run("first_look", SETTINGS, "validation_report", home=home, n_jobs=1)


def test_a_look_is_a_trial_of_kind_draft_with_the_returns_that_were_seen(first, home):
    ledger = TrialLedger(home.path)
    (trial,) = [t for t in ledger.trials(BOOK) if t.fingerprint == first.trial.fingerprint]
    assert (trial.kind, trial.strategy) == ("draft", "first_look")
    seen = first.paths.frame.filter(first.paths.frame["path"] == first.median.path).sort("session")
    assert ledger.stream(trial)[0].tolist() == seen["net_return"].to_list()
    assert first.fitted == 6 * 2


def test_the_same_draft_again_is_the_same_trial_and_fits_nothing(first, again):
    assert again.trial == first.trial
    assert (again.n_trials, again.fitted, again.found) == (1, 0, 12)
    assert again.predictions.frame.equals(first.predictions.frame)


def test_other_costs_and_another_stacker_fit_nothing_and_are_another_trial(first, cheaper):
    assert (cheaper.fitted, cheaper.found) == (0, 12)
    assert cheaper.n_trials == 2
    assert cheaper.predictions.frame.equals(first.predictions.frame)
    assert cheaper.median.sharpe_annual > first.median.sharpe_annual


def test_a_full_run_is_deflated_by_the_drafts_before_it(cheaper, whole):
    trials = whole.artifact("trial_ledger").json()
    assert len(trials["sharpes"]) == 3
    assert {cheaper.trial.sharpe_per_period} < set(trials["sharpes"])
    report = whole.artifact("validation_report").json()
    assert report["details"]["trials"]["n_trials"] == 3


def test_a_full_run_of_the_same_configuration_makes_predictions_of_its_own(first, whole):
    own = whole.table("cpcv_predictions")
    assert own.metadata["recipe"] != first.predictions.metadata["recipe"]
    assert not own.frame.equals(first.predictions.frame)


def test_a_drafts_predictions_given_to_a_full_run_are_refused_as_evidence(first, whole, tmp_path):
    given = {name: whole.artifact(name) for name in ("bars", "ensemble")}
    with pytest.raises(EvidenceError, match=r"which the candidate was made from; found recipe draft:"):
        run(
            "first_look", SETTINGS, "validation_report", home=Home(str(tmp_path)),
            given={**given, "cpcv_predictions": first.predictions},
        )  # fmt: skip


def test_a_draft_that_names_the_candidates_recipe_is_another_idea_and_promotes_nothing(first, whole, home):
    recipe = whole.artifact("ensemble").json()["recipe"]
    forged = Table(first.predictions.frame, {"recipe": recipe})
    given = {name: whole.artifact(name) for name in ("bars", "ensemble")}
    before = {trial.fingerprint for trial in TrialLedger(home.path).trials(BOOK)}
    made = run(
        "first_look", SETTINGS, "validation_report", home=home, given={**given, "cpcv_predictions": forged}
    )
    assert made.artifact("trial_ledger").json()["chain_length"] == len(before) + 1
    with pytest.raises(GateClosedError, match="a run of the orchestrator"):
        run("first_look", SETTINGS, "promotion", home=home, given={**given, "cpcv_predictions": forged})


def test_a_report_on_a_draft_is_about_no_model(first, whole):
    assert first.report.subject.startswith("draft:")
    assert first.report.subject != whole.artifact("ensemble").version


def test_a_trial_that_is_no_draft_is_written_as_it_always_was(first):
    plain = trial_of("book", "f" * 64, [0.1, 0.2], ["2024-01-02", "2024-01-03"], run_id="r", recorded_at="t")
    full = replace(plain, idea="i")
    assert "kind" not in full.record
    assert set(replace(full, kind="draft").record) == {*full.record, "kind"}
    assert full.identity != replace(full, kind="draft").identity


def test_kind_is_part_of_what_the_chain_holds_a_trial_to(first, home):
    path = Path(str(home.path)) / "trials" / BOOK / f"{first.trial.fingerprint}.json"
    kept = path.read_bytes()
    record = json.loads(kept)
    assert record["kind"] == "draft"
    path.chmod(0o600)
    path.write_text(json.dumps({name: value for name, value in record.items() if name != "kind"}))
    try:
        with pytest.raises(Exception, match="link 1"):
            TrialLedger(home.path).records(BOOK)
    finally:
        path.write_bytes(kept)
    assert TrialLedger(home.path).records(BOOK)


def test_members_are_part_of_the_history_that_a_draft_is_counted_on(first, home, monkeypatch):
    """Else another membership on grown bars would pass for the same history, and replace the track of before."""
    made = run("first_look", SETTINGS, drafting.NEEDED, home=home, n_jobs=1)
    bars = made.table("bars").frame
    members = bars.select("symbol", "session").filter(pl.col("symbol") != pl.col("symbol").max())
    told = {**made.artifacts, ("little", "member_rows"): Held("little/member_rows", Table(members))}
    monkeypatch.setattr(drafting, "run", lambda *_, **__: replace(made, artifacts=told))
    trial = tried(home, {"costs.commission_bps": 0.7}).trial
    until = date.fromisoformat(trial.panel_until)
    assert first.trial.panel_sha256 == panel_digest(bars, until)
    assert trial.panel_sha256 == panel_digest(bars, until, members)


# ------------------------------------------------------------------------------------------------------ changes


def test_changes_are_read_as_a_strategys_file_would_say_them():
    said = parsed_changes(
        ["models.lightgbm.num_leaves=31", "models.xgboost=null", "costs.commission_bps = 2.5"]
    )
    assert said == {"models.lightgbm.num_leaves": 31, "models.xgboost": None, "costs.commission_bps": 2.5}
    plan = changed(SETTINGS, "first_look", said).strategies["first_look"]
    assert plan.models.lightgbm.num_leaves == 31
    assert plan.models.learners == ("lightgbm",)
    assert plan.costs.commission_bps == 2.5
    assert SETTINGS.strategies["first_look"].models.learners == ("lightgbm", "xgboost")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models.lightgbm.leaves": 3}, r"key 'models.lightgbm.leaves'.*did you mean 'num_leaves'\?"),
        (
            {"models.lightgbm.num_leaves": 1},
            r"key 'models.lightgbm.num_leaves': expected .*greater than or equal to 2",
        ),
        ({"costs": 3}, "strategy first_look with costs, key 'costs'"),
        ({"description.of": "x"}, "key 'description': expected .*a valid string"),
        ({"name": "another"}, "expected its own name"),
        ({"universe": "nowhere"}, "one of little"),
        (
            {"costs.commission_bps": 0},
            r"key 'costs.commission_bps': expected what the minima .*>= 0.1; found 0",
        ),
        ({"validation.embargo_sessions": 4}, r"key 'validation.embargo_sessions': .*>= 5; found 4"),
        ({"gates.sharpe_min": 0.1}, "at least as strict as the 1.2"),
        ({"portfolio.scheme": "no_such_desk.sizing:mine"}, "expected the module no_such_desk.sizing"),
        ({"portfolio.scheme": "sector_neutral"}, "expected sectors: in the universe's file"),
    ],
)
def test_a_change_that_cannot_be_is_refused_by_name(change, message):
    with pytest.raises(ConfigurationError, match=message):
        changed(SETTINGS, "first_look", change)


@pytest.mark.parametrize("text", ["num_leaves", "=3", "a=[1"])
def test_a_text_that_is_no_change_is_refused(text):
    with pytest.raises(ConfigurationError, match="expected name=value"):
        parsed_changes([text])


def test_an_unknown_strategy_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(ConfigurationError, match="one of first_look"):
        draft("second_look", SETTINGS, home=Home(str(tmp_path)))
