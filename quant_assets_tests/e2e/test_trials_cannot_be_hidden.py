"""Every way to look at an outcome without being counted, or to forget that one did, tried on real runs."""

import shutil
from pathlib import Path

import polars as pl
import pytest

from quant_assets.common.errors import LedgerError
from quant_assets.common.home import Home
from quant_assets.common.store import Table
from quant_assets.gates.verdicts import GateReport
from quant_assets.ledgers.trial_records import Anchor
from quant_assets.ledgers.trials import TrialLedger
from quant_assets.lineage import Product, run
from quant_assets.lineage.configured import Settings
from quant_assets.registry.tracking import recorded_anchors
from quant_assets_tests.e2e.lineage import Lineage, failed_steps, materialised

pytestmark = pytest.mark.drill

NOISE, EDGE = "noise_market.forward_return", "edge_market.forward_return"


def n_trials(home: Home, book: str = NOISE) -> int:
    return TrialLedger(home.path).snapshot(book).n_trials


def changed(settings: Settings, name: str = "noise", **sections: object) -> Settings:
    """The settings with parts of one strategy changed, as an edit of its file changes them."""
    config = settings.strategies[name]
    for section, value in sections.items():
        part = getattr(config, section)
        whole = part.model_copy(update=value) if isinstance(value, dict) else value
        config = config.model_copy(update={section: whole})
    return settings.model_copy(update={"strategies": {**settings.strategies, name: config}})


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(str(tmp_path / "home"))


@pytest.fixture(scope="module")
def given(built: Lineage) -> dict[str, Table]:
    """What the noise strategy's paths are made from: every look at them costs a few milliseconds."""
    return {
        "cpcv_predictions": built.artifact("noise", "cpcv_predictions").table(),
        "bars": built.artifact("noise_market", "bars").table(),
    }


# -------------------------------------------------------------------------------------- looks that were not counted


def test_the_asset_that_first_shows_a_sharpe_ratio_counts_it_before_its_event(lineage: Lineage) -> None:
    """`cpcv_paths` alone showed each path's Sharpe ratio and counted nothing: the best of five seeds had N = 1."""
    lineage.change_strategy("noise", costs={"half_spread_bps": 2.0})
    result = lineage.materialise("noise", ["cpcv_paths"])
    assert materialised(result) == {"cpcv_paths"}
    assert n_trials(lineage.home) == 2
    event = lineage.event("noise", "cpcv_paths")
    assert event is not None
    anchor = Anchor.parse(str(event.metadata["trial_anchor"].value))
    assert (anchor.book, anchor.length) == (NOISE, 2)
    assert len(str(event.metadata["trials_counted_since"].value)) == len("2026-01-01")


def test_a_look_whose_event_is_never_written_is_counted_all_the_same(
    lineage: Lineage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The figures are made after the count: a crash, or a kill, between the two hides nothing."""
    from quant_assets.gates import evidence

    def crash(*_: object) -> object:
        raise MemoryError

    monkeypatch.setattr(evidence, "statistics_table", crash)
    lineage.change_strategy("noise", costs={"half_spread_bps": 2.5})
    before = lineage.event("noise", "cpcv_paths")
    assert not lineage.materialise("noise", ["cpcv_paths"]).success
    assert lineage.event("noise", "cpcv_paths") == before
    assert n_trials(lineage.home) == 2


def test_an_asset_that_is_reused_is_counted_once(lineage: Lineage) -> None:
    for _ in range(2):
        assert lineage.materialise("noise", ["cpcv_paths", "trial_ledger"]).success
    assert n_trials(lineage.home) == 1


def test_the_best_of_five_seeds_is_judged_as_the_best_of_five(built: Lineage, home: Home) -> None:
    rows = built.artifact("noise", "training_set").table()
    bars = built.artifact("noise_market", "bars").table()
    for seed in range(5):  # as a notebook does it: paths alone, never the ledger
        run("noise", changed(built.settings, seed=seed), "cpcv_paths", home=home,
            given={"training_set": rows, "bars": bars}, n_jobs=1)  # fmt: skip
    best = run("noise", changed(built.settings, seed=3), "trial_ledger", home=home,
               given={"training_set": rows, "bars": bars}, n_jobs=1)  # fmt: skip
    assert len(best.artifact("trial_ledger").json()["sharpes"]) == 5


def test_a_hundred_edits_of_one_number_are_a_hundred_trials(
    built: Lineage, home: Home, given: dict[str, Table]
) -> None:
    for edit in range(100):
        costs = {"half_spread_bps": 1.0 + edit / 100}
        run("noise", changed(built.settings, costs=costs), "cpcv_paths", home=home, given=given)
    assert n_trials(home) == 100


def test_a_number_without_effect_is_a_trial_too(built: Lineage, home: Home, given: dict[str, Table]) -> None:
    for capital in (1e6, 1e6 + 1e-9):
        run(
            "noise", changed(built.settings, costs={"capital": capital}), "cpcv_paths", home=home, given=given
        )
    assert n_trials(home) == 2


def test_a_copied_strategy_goes_on_where_the_first_one_stopped(
    built: Lineage, home: Home, given: dict[str, Table]
) -> None:
    """A new name restarted at 0."""
    for edit in range(3):
        run("noise", changed(built.settings, costs={"half_spread_bps": 1.0 + edit}), "cpcv_paths", home=home,
            given=given)  # fmt: skip
    copy = built.settings.strategies["noise"].model_copy(update={"name": "fresh_idea", "description": "new!"})
    strategies = {**built.settings.strategies, "fresh_idea": copy}
    settings = built.settings.model_copy(update={"strategies": strategies})
    made = run("fresh_idea", settings, "trial_ledger", home=home, given=given)
    assert len(made.artifact("trial_ledger").json()["sharpes"]) == 3  # the copy itself is the same idea
    other = changed(settings, "fresh_idea", costs={"half_spread_bps": 9.0})
    assert len(run("fresh_idea", other, "trial_ledger", home=home, given=given)
               .artifact("trial_ledger").json()["sharpes"]) == 4  # fmt: skip


@pytest.mark.parametrize(
    ("section", "value"), [("label", {"horizon_sessions": 6}), ("label", {"kind": "direction"})]
)
def test_another_label_of_the_same_family_is_no_new_book(
    built: Lineage, section: str, value: dict[str, object]
) -> None:
    config = changed(built.settings, **{section: value}).strategies["noise"]
    settings = changed(built.settings, **{section: value})
    assert type(built.graph)(settings).scope("noise").book == NOISE
    assert config.label != built.settings.strategies["noise"].label


@pytest.mark.parametrize(
    "edit", [{"start": "2017-02-01"}, {"end": "2022-05-31"}, {"symbols": ["SYN000", "SYN001"]}]
)
def test_other_dates_or_symbols_are_another_trial_in_the_same_book(
    built: Lineage, edit: dict[str, object]
) -> None:
    key = ("noise", "cpcv_paths")
    before = built.graph.idea([key], {})
    market = built.settings.universes["noise_market"]
    other = type(market).model_validate({**market.model_dump(), **edit})
    settings = built.settings.model_copy(
        update={"universes": {**built.settings.universes, "noise_market": other}}
    )
    graph = type(built.graph)(settings)
    assert graph.idea([key], {}) != before
    assert graph.scope("noise").book == NOISE


def test_predictions_that_were_handed_over_count_by_their_content(
    built: Lineage, home: Home, given: dict[str, Table]
) -> None:
    """The attack: the same configuration, other scores each time."""
    frame = given["cpcv_predictions"].frame
    paths = [name for name in frame.columns if name.startswith("path_")]
    for seed in range(3):
        shuffled = frame.with_columns(pl.col(paths).shuffle(seed=seed))
        scores = Table(shuffled, given["cpcv_predictions"].metadata)
        run("noise", built.settings, "cpcv_paths", home=home, given={**given, "cpcv_predictions": scores})
    assert n_trials(home) == 3


def test_a_function_in_the_place_of_a_stage_counts_by_what_it_makes(
    built: Lineage, home: Home, given: dict[str, Table]
) -> None:
    def flattering(factor: float):  # type: ignore[no-untyped-def]
        def cpcv_paths(cpcv_predictions, bars, *, portfolio, costs):  # type: ignore[no-untyped-def]
            from quant_assets.trading.paths import path_returns

            table = cpcv_predictions.table()
            frame = path_returns(table.frame, bars.table().frame, portfolio, costs)
            return Product(Table(frame.with_columns(pl.col("net_return") * factor), dict(table.metadata)))

        return cpcv_paths

    for factor in (1.0, 1.1, 1.2):
        run("noise", built.settings, "cpcv_paths", home=home, given=given,
            instead={"cpcv_paths": flattering(factor)})  # fmt: skip
    assert n_trials(home) == 3


def test_what_is_proven_or_calibrated_is_nobodys_trial(
    built: Lineage, monkeypatch: pytest.MonkeyPatch, home: Home, given: dict[str, Table]
) -> None:
    from quant_assets.lineage.pipeline import PRODUCT

    monkeypatch.setenv("QUANT_ASSETS_HOME", home.root)
    config = built.settings.strategies["noise"]
    assert PRODUCT.decisions(given["cpcv_predictions"].frame, given["bars"].frame, config).height > 0
    assert not (Path(home.root) / "trials").exists()


# ------------------------------------------------------------------------------------------- ledgers that were lost


def wipe(lineage: Lineage, *folders: str) -> None:
    for folder in folders or ("trials",):
        shutil.rmtree(Path(str(lineage.home.path)) / folder)


def refusal(lineage: Lineage, strategy: str = "edge") -> str:
    result = lineage.materialise(strategy, ["promotion"])
    assert not result.success
    (message,) = failed_steps(result).values()
    return message


def test_a_wiped_ledger_closes_every_gate_of_its_universe_until_a_person_acknowledges_it(
    lineage: Lineage,
) -> None:
    """`rm -r trials/`, materialise again: N went from 4 to 1 without a word."""
    assert lineage.materialise("edge", ["promotion"]).success  # open before
    wipe(lineage)
    for asset in ("trial_ledger", "validation_report", "tear_sheet"):
        result = lineage.materialise("edge", [asset])
        assert not result.success, asset
        assert "quant-assets trials acknowledge --universe edge_market" in " ".join(
            failed_steps(result).values()
        )
    said = refusal(lineage)
    assert "expected 1 linked trials" in said
    entry = lineage.decisions("edge")[-1]
    assert entry.action == "refused"
    assert "trials" not in entry.basis  # what is left of a lost ledger is no anchor

    show = ("trials", "show", "--universe", "edge_market")

    def acknowledge(universe: str, reason: str = "disk lost, no backup") -> int:
        told = ("--universe", universe, "--by", "A. Person", "--reason", reason)
        return lineage.command("trials", "acknowledge", *told)[0]

    assert lineage.command(*show)[0] == 1
    assert acknowledge("edge_market", "oops") != 0
    assert acknowledge("edge_market") == 0
    status, said = lineage.command(*show)  # the other market lost its trials too: were they of the same bars?
    assert status != 0
    assert "quant-assets trials acknowledge --universe noise_market" in said
    assert acknowledge("noise_market") == 0
    assert lineage.command(*show)[0] == 0
    assert acknowledge("edge_market") != 0  # nothing is lost any more

    assert lineage.materialise("edge", ["trial_ledger", "validation_report"]).success
    event = lineage.event("edge", "trial_ledger")
    assert event is not None
    assert event.metadata["n_trials"].value == 2  # the lost one, and the same look counted anew
    report = GateReport.from_json(lineage.artifact("edge", "validation_report").json())
    assert report.details["trials"]["lost_trials"] == 1
    assert n_trials(lineage.home, NOISE) == 1  # nobody else's universe


@pytest.mark.parametrize(
    "folders", [("trials",), ("trials", "anchors")], ids=["the ledger", "the ledger and its anchors"]
)
def test_a_ledger_begun_anew_is_noticed_by_whoever_remembers(
    lineage: Lineage, folders: tuple[str, ...], tmp_path: Path
) -> None:
    """Another chain of the same length: of a run in another home, put in the place of this one's."""
    other = Home(str(tmp_path / "other"))
    rows = lineage.artifact("edge", "training_set").table()
    bars = lineage.artifact("edge_market", "bars").table()
    run("edge", changed(lineage.settings, "edge", seed=99), "cpcv_paths", home=other,
        given={"training_set": rows, "bars": bars}, n_jobs=1)  # fmt: skip
    wipe(lineage, *folders)
    for folder in ("trials", "objects"):
        shutil.copytree(
            Path(str(other.path)) / folder, Path(str(lineage.home.path)) / folder, dirs_exist_ok=True
        )
    assert "trial ledger of edge_market" in refusal(lineage)
    assert not lineage.materialise("edge", ["trial_ledger"]).success


def test_the_end_of_the_ledger_that_was_cut_off_is_noticed(lineage: Lineage) -> None:
    lineage.change_strategy("edge", costs={"half_spread_bps": 2.0})
    assert lineage.materialise("edge", ["cpcv_paths"]).success
    folder = Path(str(lineage.home.path)) / "trials" / EDGE
    newest = max(folder.glob("chain/*.json"))
    trial = TrialLedger(lineage.home.path)
    (gone,) = {t.fingerprint for t in trial.trials(EDGE) if t.fingerprint in newest.read_text()}
    newest.unlink()
    (folder / f"{gone}.json").unlink()
    lineage.change_strategy("edge", costs={})
    assert lineage.materialise("edge", ["cpcv_paths"]).success is False
    assert "expected 2 linked trials" in refusal(lineage)


def test_events_mlflow_and_promotions_each_carry_the_anchor(built: Lineage) -> None:
    held = TrialLedger(built.home.path).snapshot(EDGE).anchor
    for asset in ("cpcv_paths", "trial_ledger"):
        event = built.event("edge", asset)
        assert event is not None
        assert Anchor.parse(str(event.metadata["trial_anchor"].value)) == held
    assert recorded_anchors(built.home.mlflow_uri, EDGE) == (held,)
    (entry,) = built.decisions("edge")
    assert Anchor.parse(entry.basis["trials"]) == held


def test_a_look_in_a_notebook_is_refused_where_the_ledger_is_lost(
    built: Lineage, home: Home, given: dict[str, Table]
) -> None:
    run("noise", built.settings, "cpcv_paths", home=home, given=given)
    shutil.rmtree(Path(home.root) / "trials")
    with pytest.raises(LedgerError, match="trials acknowledge"):
        run("noise", built.settings, "cpcv_paths", home=home, given=given)


def test_every_report_says_since_when_trials_are_counted(built: Lineage) -> None:
    since = TrialLedger(built.home.path).since(EDGE)[:10]
    assert f"counted since {since}" in built.artifact("edge", "tear_sheet").text()
    for asset in ("cpcv_paths", "trial_ledger", "validation_report"):
        event = built.event("edge", asset)
        assert event is not None
        assert event.metadata["trials_counted_since"].value == since
