"""Tuning: exact repetition, crashes at every point, and every trial in the ledger."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quant_assets.common.errors import ModelError, StoreError
from quant_assets.common.provenance import Closure, closure_of
from quant_assets.common.settings import XGBoostConfig
from quant_assets.gates.evidence import enter_trial
from quant_assets.ledgers.trials import TrialLedger
from quant_assets.models import tuning as searching
from quant_assets.models.tuning_study import apply_tuning, opened_study, shown, storage_url
from quant_assets.studies import strategy_tuning
from quant_assets.studies.strategy_tuning import history_plot, importance_of, study_name_of, trials_table
from quant_assets.trading.paths import path_returns
from quant_assets_tests.models.tuning_cases import LOOK, MODELS, market, rows_of, strategy_of, tuned
from quant_assets_tests.postgres_server import address, own_database, server

CASES = "quant_assets_tests.models.tuning_cases"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A search that nobody interrupted, and its home. Read-only by agreement."""
    home = tmp_path_factory.mktemp("whole")
    return home, tuned(home)


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    home = tmp_path_factory.mktemp("pruned")
    return home, tuned(home, pruning="median")


def killed(home: Path, point: str, *arguments: str) -> None:
    """Run the search in a process of its own until it kills itself."""
    command = [sys.executable, "-m", CASES, str(home), point, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == -signal.SIGKILL, f"{point}: {done.stdout}{done.stderr}"


# ------------------------------------------------------------------------------------------ repetition


def test_the_same_search_gives_the_same_bytes_for_one_worker_and_for_two(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    again = tuned(tmp_path, n_jobs=2)
    assert json.dumps(again) == json.dumps(whole[1])
    assert rows_of(tmp_path) == rows_of(whole[0])


def test_another_seed_draws_other_parameters(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quant_assets_tests.models import tuning_cases

    other = strategy_of(n_trials=2).model_copy(update={"seed": 12})
    monkeypatch.setattr(tuning_cases, "strategy_of", lambda **_: other)
    first, second = tuned(tmp_path)["trials"]
    assert first["params"] == whole[1]["trials"][0]["params"]  # as configured
    assert second["params"] != whole[1]["trials"][1]["params"]


def test_the_first_trial_is_the_configuration_as_it_stands(whole: tuple[Path, dict[str, Any]]) -> None:
    assert whole[1]["trials"][0]["params"] == {
        "lightgbm.learning_rate": 0.05,
        "lightgbm.min_data_in_leaf": 20,
        "lightgbm.n_estimators": 6,
        "lightgbm.num_leaves": 5,
    }


def test_a_longer_search_goes_on_from_a_shorter_one_and_never_forgets(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    tuned(tmp_path, n_trials=2)
    assert len(rows_of(tmp_path)) == 2
    assert tuned(tmp_path) == whole[1]
    assert tuned(tmp_path, n_trials=2)["trials"] == whole[1]["trials"][:2]
    assert rows_of(tmp_path) == rows_of(whole[0])


def test_the_best_trial_is_the_one_of_the_highest_value(whole: tuple[Path, dict[str, Any]]) -> None:
    result = whole[1]
    values = [trial["value"] for trial in result["trials"]]
    assert result["best"]["trial"] == int(np.argmax(values))
    assert result["best"]["value"] == max(values)
    by_name = result["trials"][result["best"]["trial"]]["params"]
    assert result["best"]["params"] == {
        "lightgbm": {k.removeprefix("lightgbm."): v for k, v in by_name.items()}
    }


# ---------------------------------------------------------------------------------------- every trial counts


def test_every_trial_is_a_row_of_the_ledger_with_its_value_as_sharpe_ratio(
    whole: tuple[Path, dict[str, Any]],
) -> None:
    home, result = whole
    assert rows_of(home) == {t["fingerprint"]: pytest.approx(t["value"], abs=1e-12) for t in result["trials"]}


def test_a_trial_is_what_trading_the_refitted_ensemble_out_of_fold_would_have_given(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """An independent way: cross-prediction over as many groups, one tested at a time, is a purged k-fold."""
    from quant_assets.common.settings import ValidationConfig
    from quant_assets.common.store import Table
    from quant_assets.models.cross_prediction import cross_predict
    from quant_assets_tests.models.training_frames import FEATURES

    training_set, bars = market()
    strategy, best = strategy_of(), whole[1]["best"]
    scores = cross_predict(
        training_set.frame,
        FEATURES,
        apply_tuning(MODELS, best["params"]),
        ValidationConfig(n_groups=3, n_test_groups=1, embargo_sessions=2),
        seed=11,
        n_jobs=1,
    )
    paths = path_returns(scores, bars, strategy.portfolio, strategy.costs)
    net = paths["net_return"].to_numpy()
    assert best["value"] == pytest.approx(net.mean() / net.std(ddof=1), rel=1e-9)
    fingerprint = whole[1]["trials"][best["trial"]]["fingerprint"]
    counted = {t.fingerprint: t.returns_sha256 for t in TrialLedger(whole[0]).trials(LOOK.book)}
    assert enter_trial(tmp_path, LOOK, Table(paths), bars).returns_sha256 == counted[fingerprint]


def test_a_pruned_trial_is_counted_with_the_returns_that_were_seen_and_cash_after_them(
    pruned: tuple[Path, dict[str, Any]],
) -> None:
    home, result = pruned
    cut = [t for t in result["trials"] if t["state"] == "pruned"]
    assert cut
    assert all(t["value"] is None and len(t["fold_values"]) < 3 for t in cut)
    assert set(rows_of(home)) == {t["fingerprint"] for t in result["trials"]}
    ledger = TrialLedger(home)
    matrix = ledger.returns_matrix(LOOK.book)
    columns = [t.fingerprint for t in ledger.trials(LOOK.book)]
    assert len(matrix) == ledger.trials(LOOK.book)[0].n_obs  # nobody's sessions are lost
    for trial in cut:
        returns = matrix[:, columns.index(trial["fingerprint"])]
        third = len(returns) // 3
        seen = third * len(trial["fold_values"])
        assert np.count_nonzero(returns[: seen - 5]) > seen // 2
        assert not returns[seen + 5 :].any()
        assert rows_of(home)[trial["fingerprint"]] != 0.0


def test_a_trial_that_fails_after_a_fold_is_counted_and_one_that_shows_nothing_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = searching.split_scores, 0

    def fails(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls in (5, 6):  # the second fold of trial 1, the first of trial 2
            raise ModelError("leaf", expected="rows", found="none", action="grow")
        return original(*args, **options)

    monkeypatch.setattr(searching, "split_scores", fails)
    trials = tuned(tmp_path, n_trials=4)["trials"]
    assert [t["state"] for t in trials] == ["complete", "failed", "failed", "complete"]
    assert [len(t["fold_values"]) for t in trials] == [3, 1, 0, 3]
    assert "leaf" in trials[1]["reason"]
    assert trials[2]["fingerprint"] is None
    assert set(rows_of(tmp_path)) == {t["fingerprint"] for t in trials} - {None}
    assert len(rows_of(tmp_path)) == 3


def test_a_setting_that_can_fit_nothing_stops_the_search_and_is_tried_again_once_corrected(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: Any, **options: Any) -> Any:
        raise ModelError("device", expected="CUDA", found="none", action="use the CPU")

    with monkeypatch.context() as patch:
        patch.setattr(searching, "split_scores", fails)
        with pytest.raises(ModelError, match="CUDA"):
            tuned(tmp_path)
    assert rows_of(tmp_path) == {}
    assert tuned(tmp_path) == whole[1]


# -------------------------------------------------------------------------------------------------- crashes


@pytest.mark.drill
def test_killed_at_one_point_after_another_it_ends_as_if_it_had_run_through(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    counted = []
    for point in ("during a fold", "between ledger and storage", "between outcome and end"):
        killed(tmp_path, point)
        counted.append(len(rows_of(tmp_path)))
    # The row of the trial whose end the storage never learnt stays one row.
    assert counted == [1, 3, 3]
    assert tuned(tmp_path) == whole[1]
    assert rows_of(tmp_path) == rows_of(whole[0])


def test_killed_between_two_draws_a_pruned_search_ends_the_same_too(
    pruned: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    killed(tmp_path, "during a draw", "", "median")
    assert tuned(tmp_path, pruning="median") == pruned[1]
    assert rows_of(tmp_path) == rows_of(pruned[0])


def test_a_trial_that_goes_on_is_pruned_by_what_was_known_at_each_fold_and_not_by_later_reports() -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.MedianPruner(n_startup_trials=1))
    first = study.ask()
    for step, value in enumerate((0.0, 1.0)):
        first.report(value, step)
    study.tell(first, 1.0)
    interrupted = study.ask()
    for step in (0, 1):
        interrupted.report(0.5, step)
    # Killed after its second fold: at the first it was above the median of 0, at the second below that of 1.
    again = optuna.trial.Trial(study, interrupted._trial_id)
    assert searching._goes_on(study, again, [0.5])
    assert not searching._goes_on(study, again, [0.5, 0.5])


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[str]:
    found = server(tmp_path)
    with own_database(found) as database:
        yield address(found, database)


def test_studies_in_postgres_survive_a_kill_and_give_the_same_result(
    whole: tuple[Path, dict[str, Any]], postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANT_ASSETS_TUNING_STORAGE", postgres)
    killed(tmp_path, "between ledger and storage")
    assert tuned(tmp_path) == whole[1]
    assert rows_of(tmp_path) == rows_of(whole[0])
    assert not (tmp_path / "tuning").exists()
    # A second home reads the same study; its own ledger lacks every row, so each is evaluated and counted again.
    assert tuned(tmp_path / "second") == whole[1]
    assert rows_of(tmp_path / "second") == rows_of(whole[0])
    with (
        opened_study(storage_url(tmp_path, "tuned"), whole[1]["study"], None),  # type: ignore[arg-type]
        pytest.raises(StoreError, match="no other process"),
    ):
        tuned(tmp_path)


def test_two_processes_never_work_on_one_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quant_assets.models.tuning_study.LOCK_SECONDS", 0.1)
    with (
        opened_study(storage_url(tmp_path, "tuned"), "anything", None),  # type: ignore[arg-type]
        pytest.raises(StoreError, match="no other process"),
    ):
        tuned(tmp_path)


def test_a_trial_that_somebody_else_ended_is_not_taken_for_one_of_ours(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    url = storage_url(tmp_path, "tuned")
    with opened_study(url, whole[1]["study"], None) as study:  # type: ignore[arg-type]
        study.tell(study.ask(), 9.9)
    with pytest.raises(StoreError, match="somebody else has written"):
        tuned(tmp_path)


def test_the_study_is_named_by_data_configuration_and_code() -> None:
    strategy = strategy_of()
    name = study_name_of(strategy, LOOK, "t", "b")
    assert study_name_of(strategy_of(n_trials=9), LOOK, "t", "b") == name
    others = {
        study_name_of(strategy, LOOK, "u", "b"),
        study_name_of(strategy, LOOK, "t", "c"),
        study_name_of(strategy_of(folds=4), LOOK, "t", "b"),
        study_name_of(strategy, replace(LOOK, book="other.forward_return"), "t", "b"),
        study_name_of(strategy, replace(LOOK, idea="j" * 64), "t", "b"),
        *(
            study_name_of(strategy.model_copy(update=change), LOOK, "t", "b")
            for change in (
                {"seed": 8},
                {"models": MODELS.model_copy(update={"xgboost": XGBoostConfig()})},
                {"costs": strategy.costs.model_copy(update={"commission_bps": 9.0})},
            )
        ),
    }
    assert name not in others
    assert len(others) == 8


@pytest.mark.parametrize("function", strategy_tuning.TRIAL_CODE)
def test_other_code_that_fits_or_trades_a_trial_is_another_study(
    function: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(asked: Callable[..., Any]) -> Closure:
        found = closure_of(asked)
        return replace(found, digest="0" * 40) if asked is function else found

    before = study_name_of(strategy_of(), LOOK, "t", "b")
    monkeypatch.setattr(strategy_tuning, "closure_of", changed)
    assert study_name_of(strategy_of(), LOOK, "t", "b") != before


def test_the_code_of_a_study_is_what_shapes_a_trial_and_neither_gates_nor_pictures() -> None:
    modules, libraries = set[str](), set[str]()
    for function in strategy_tuning.TRIAL_CODE:
        closure = closure_of(function)
        modules |= {name.removeprefix("quant_assets.") for name in closure.modules}
        libraries |= {name.partition("==")[0] for name in closure.libraries}
    assert modules >= {
        "models.cross_prediction", "models.fitting", "models.lightgbm_learner", "models.stacking",
        "models.tuning_study", "models.xgboost_learner", "splits.cpcv", "statistics.sharpe", "trading.account",
        "trading.portfolio",
    }  # fmt: skip
    assert libraries >= {"optuna", "lightgbm", "xgboost", "numpy", "polars"}
    assert not {name.partition(".")[0] for name in modules} & {"gates", "ledgers", "market"}
    assert "matplotlib" not in libraries


# -------------------------------------------------------------------------------- storage and its addresses


def test_an_unreachable_server_is_one_clear_error_without_the_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANT_ASSETS_TUNING_STORAGE", "postgresql://me:secret@127.0.0.1:1/db")
    with pytest.raises(StoreError, match="a database that answers") as error:
        tuned(tmp_path)
    assert "secret" not in str(error.value)
    assert "secret" not in shown(storage_url(tmp_path, "tuned"))


# ------------------------------------------------------------------------------------- tuned models, report


def test_the_report_is_made_from_the_result_alone_and_twice_the_same(
    whole: tuple[Path, dict[str, Any]], pruned: tuple[Path, dict[str, Any]]
) -> None:
    table = trials_table(whole[1], 252.0)
    assert table["sharpe_annual"].to_list() == [t["value"] * 252**0.5 for t in whole[1]["trials"]]
    assert importance_of(whole[1]).height == 0  # six trials tell nothing apart
    assert history_plot(pruned[1], 252.0) == history_plot(pruned[1], 252.0)
