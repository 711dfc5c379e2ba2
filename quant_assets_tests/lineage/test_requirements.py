"""How much history a strategy needs: the sum by hand, and the same number as the stages that refuse."""

from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from quant_assets.cli.main import app
from quant_assets.common.errors import ConfigurationError, DatasetError, DriftError, ValidationError
from quant_assets.common.home import Home
from quant_assets.common.settings import StrategyConfig, UniverseConfig
from quant_assets.datasets.training_set import feature_names_of
from quant_assets.lineage import Settings, load_settings, run
from quant_assets.lineage.requirements import holdings_in_sight, require_history, required_history, too_short
from quant_assets.market.calendar import sessions
from quant_assets.models.cross_prediction import outer_splitter, walk_forward_splitter
from quant_assets.models.fitting import inner_splitter

SHIPPED = load_settings(Path(__file__).resolve().parents[2] / "configs", Path("none"))


def settings_of(
    n: int, *, names: int = 4, calendar: str = "XNYS", window: int = 63, **strategy: object
) -> Settings:
    """The shipped limits, and one strategy on a seeded market of n sessions."""
    days = sessions(calendar, date(2010, 1, 4), date(2022, 1, 1))
    source = {"kind": "synthetic", "seed": 3, "n_symbols": names}
    small = UniverseConfig.model_validate(
        {"name": "small", "calendar": calendar, "source": source, "start": days[0], "end": days[n - 1]}
    )
    tiny = StrategyConfig.model_validate({"name": "tiny", "universe": "small", **strategy})
    drift = SHIPPED.drift.model_copy(update={"window_sessions": window})
    return SHIPPED.model_copy(
        update={"universes": {"small": small}, "strategies": {"tiny": tiny}, "drift": drift}
    )


def needed(settings: Settings) -> int:
    return required_history(settings.strategies["tiny"], settings).sessions


def test_the_sum_for_the_shipped_settings_by_hand() -> None:
    # technical_v1 warms up for 410 bars; five windows of 63 are 315; a label of 5 is known 6 sessions later.
    found = required_history(SHIPPED.strategies["us_tech_daily"], SHIPPED)
    assert [number for _, number in found.parts] == [410, 315, 6, 63]
    assert (found.sessions, found.names) == (794, 2)
    assert (found.sessions_to_promote, found.names_to_promote) == (410 + 504 + 6 + 63, 4)


@pytest.mark.parametrize(
    ("strategy", "window", "wanted"),
    [
        ({"holdout_sessions": 100}, 63, 410 + 315 + 6 + 100),
        (
            {"label": {"horizon_sessions": 20}, "validation": {"embargo_sessions": 20}},
            63,
            410 + 315 + 21 + 63,
        ),
        ({"feature_packs": ["stationary_v1"]}, 63, 84 + 315 + 6 + 63),
        # Three sixths of 126 sessions are 63, of which 62 are compared: 60 are the fewest.
        ({}, 21, 410 + 126 + 6 + 63),
    ],
)
def test_each_setting_moves_its_own_part(strategy: dict[str, object], window: int, wanted: int) -> None:
    settings = settings_of(900, window=window, **strategy)
    pack = required_history(settings.strategies["tiny"], settings).parts[0][1]
    assert needed(settings) == wanted - (84 - pack if "feature_packs" in strategy else 0)


def test_one_session_less_has_one_training_session_less_than_the_drift_baseline_needs(tmp_path: Path) -> None:
    n = needed(settings_of(900))
    enough = settings_of(n)
    made = run("tiny", enough, ["training_set", "drift_baseline"], home=Home(str(tmp_path)))
    assert made.table("training_set").frame["session"].n_unique() == 315
    with pytest.raises(DriftError, match="found 314 sessions"):
        run("tiny", settings_of(n - 1), "drift_baseline", home=Home(str(tmp_path)))


def test_the_splits_are_those_of_the_real_rows(tmp_path: Path) -> None:
    strategy = {
        "feature_packs": ["stationary_v1"],
        "label": {"horizon_sessions": 40},
        "validation": {"n_groups": 6, "n_test_groups": 2, "embargo_sessions": 40},
    }
    n = needed(settings_of(1500, window=21, **strategy))

    def trains(n_sessions: int) -> bool:
        settings = settings_of(n_sessions, window=21, **strategy)
        table = run("tiny", settings, "training_set", home=Home(str(tmp_path))).table("training_set")
        assert feature_names_of(table)
        tiny = settings.strategies["tiny"]
        t0, t1 = table.frame["t0"].to_numpy(), table.frame["t1"].to_numpy()
        walk = walk_forward_splitter(len(np.unique(t0)), 40)
        try:
            for train, _ in (*outer_splitter(tiny.validation).split(t0, t1), *walk.split(t0, t1)):
                inner = inner_splitter(tiny.models.stacker.inner_folds, 40).split(t0[train], t1[train])
                assert all(len(rows) for rows, _ in inner)
        except ValidationError:  # no row is left to train on
            return False
        return True

    assert trains(n)
    assert not trains(n - 1)


def test_it_is_told_before_anything_runs_with_what_each_session_is_for() -> None:
    settings = settings_of(793)
    tiny = settings.strategies["tiny"]
    with pytest.raises(
        ConfigurationError, match=r"1 sessions are missing: there are 793, needed are 794 \(410 warm-up"
    ):
        require_history(tiny, settings, *holdings_in_sight(settings.universes["small"]))
    require_history(tiny, settings, 794, 4)
    with pytest.raises(ConfigurationError, match="there are 1 names, needed are 2"):
        require_history(tiny, settings, 794, 1)
    require_history(tiny, settings, 794, None)


def test_few_names_and_a_short_record_are_told_as_what_cannot_be_promoted() -> None:
    told = too_short(settings_of(794, names=3))
    assert len(told) == 2
    assert "needs 983" in told[0]
    assert "3 names, and a model is promoted from 4 on" in told[1]
    assert too_short(settings_of(983)) == []
    assert too_short(settings_of(700))[0].startswith(
        "tiny: no run can end in a decision: 94 sessions are missing"
    )


def test_a_training_window_that_is_refused_today_is_refused_before(tmp_path: Path) -> None:
    settings = settings_of(182)
    with pytest.raises(DatasetError, match="at least 183 sessions"):
        run("tiny", settings, "training_set", home=Home(str(tmp_path)))
    assert needed(settings) > 183


def test_a_year_of_a_hundred_names_is_refused_by_the_command_with_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = sessions("XNYS", date(2021, 1, 1), date(2021, 12, 31))
    rng = np.random.default_rng(1)
    names = pl.DataFrame({"symbol": [f"N{n:03}" for n in range(100)]})
    close = pl.Series(np.exp(rng.normal(0, 0.02, 100 * len(days))) * 50)
    frame = names.join(days.to_frame("session"), how="cross").with_columns(close=close)
    frame = frame.with_columns(open="close", volume=pl.lit(1e6))
    frame.with_columns(high=pl.col("close") * 1.01, low=pl.col("close") * 0.99).write_parquet(
        tmp_path / "year.parquet"
    )
    monkeypatch.setenv("QUANT_ASSETS_HOME", str(tmp_path / "home"))
    said = CliRunner().invoke(app, ["run", "--universe-file", str(tmp_path / "year.parquet")])
    assert "100 names, 252 sessions" in said.stdout
    assert isinstance(said.exception, ConfigurationError)
    assert "542 sessions are missing: there are 252, needed are 794" in str(said.exception)
    assert not (tmp_path / "home" / "dagster").exists()
